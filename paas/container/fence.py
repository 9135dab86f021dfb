"""The lease of this node: whether components may run here now, and until when.

    extend(T) ─> lease until T ─── T has passed ──> ended: everything is killed, nothing is started
        ^            │ extend(later)                  │ extend(later): first all is dead, then
        └────────────┴────────────────────────────────┘ the new lease counts
    extend(None) ─> no lease is needed: a cluster of one node

Two enforce it, neither trusting the other: a process of its own (`real.kernel_fence`), which needs
nobody, and the engine's timer, which needs no other process.  Here is decided when a lease has
ended, what may be started, and in which order a new one is put in force:

- what was not killed when a lease ended cannot be met by the next lease: all of it dies first;
- a lease is acknowledged only when a fence guards it;
- a lease that cannot be read, is of another boot, or is gone while leases are in force, has ended.

A start asks twice: when it begins, and after the container's first process is in its control groups
but before it is told to go.  So whatever runs was in its groups at a moment when the lease held,
and whoever looks into the groups after the deadline finds it.

Times are CLOCK_BOOTTIME in seconds.  Source: docs/internals/cluster.md, "Leases".
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from paas.base.errors import PlatformError, invalid
from paas.bundle.files import reporting_full_disk
from paas.container import limits


class Place(Protocol):
    """Where the lease is written for the fence to see, and the fence itself."""

    def load(self) -> float:
        """The deadline that was in force before: inf for none needed, -inf for ended."""
        ...

    def fenced(self) -> bool:
        """The fence has begun to kill since the last `grant`."""
        ...

    async def guard(self) -> None:
        """Return when a fence watches the lease in force."""
        ...

    async def grant(self, deadline_s: float) -> None:
        """Put a lease in force; returns when a fence watches it."""
        ...

    async def drop(self) -> None:
        """Take everything away: no lease is needed."""
        ...


class Fence:
    """The lease of one node.  Calls of `extend` must not overlap."""

    def __init__(
        self, place: Place, stop: Callable[[], Awaitable[None]], now_s: Callable[[], float]
    ) -> None:
        """`stop` kills whatever runs on the node and returns when nothing does."""
        self._place = place
        self._stop = stop
        self._now_s = now_s
        self._deadline_s = math.inf
        self._clearing = False

    def load(self) -> None:
        """Read what was in force when the controller ended."""
        self._deadline_s = self._place.load()

    async def open(self) -> None:
        """Have a lease that holds guarded again, and remove what is left of one not needed."""
        if self._deadline_s == math.inf:
            await self._place.drop()
        elif not self.ended:
            await self._place.guard()

    @property
    def ended(self) -> bool:
        """Components may not run now."""
        return self._now_s() >= self._deadline_s or self._place.fenced()

    @property
    def killing(self) -> bool:
        """What ends now, ends because the node lost its right to run it."""
        return self.ended or self._clearing

    @property
    def left_s(self) -> float:
        """Until the lease ends; inf when it never does."""
        return max(0.0, self._deadline_s - self._now_s())

    def require(self) -> None:
        """Raise `not-available` unless something may be started."""
        if self.ended:
            raise PlatformError(
                "not-available",
                "the node's lease has ended",
                hint="the node must reach the majority of the cluster: paas nodes",
            )
        if self._clearing:
            raise PlatformError("not-available", "the node is being cleared")

    async def extend(self, deadline_s: float | None) -> None:
        """A lease until `deadline_s`, or none needed.  What is said last counts.

        Raises `invalid`, and `not-available` when the deadline has passed already.
        """
        if deadline_s is None:
            await self._end_first()
            await self._place.drop()
            self._deadline_s = math.inf
            return
        now_s = self._now_s()
        if not deadline_s <= now_s + limits.LEASE_S_MAX:
            raise invalid(
                "deadline_s", f"seconds of CLOCK_BOOTTIME, at most {limits.LEASE_S_MAX:.0f} ahead"
            )
        await self._end_first()
        if self._now_s() >= deadline_s:
            raise PlatformError("not-available", "the lease has ended before it began")
        with reporting_full_disk():
            await self._place.grant(deadline_s)
        self._deadline_s = deadline_s
        if self._place.fenced():
            # The fence began to kill in the very moment of the extension.
            await self._end_first()
            await self._place.grant(deadline_s)

    async def clear(self) -> None:
        """Kill whatever runs; returns when nothing does.  The lease stays as it is."""
        self._clearing = True
        try:
            await self._stop()
        finally:
            self._clearing = False

    async def enforce(self) -> None:
        """Kill whatever runs, if the lease has ended."""
        await self._end_first()

    async def _end_first(self) -> None:
        if self.ended:
            await self._stop()
