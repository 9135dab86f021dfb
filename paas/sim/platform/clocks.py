"""The clocks of a simulated node: each runs a little wrong, and the wall clock may be set.

The monotonic clock (as CLOCK_BOOTTIME, it begins anew with the machine) has a rate of its own;
leases depend on rates only.  Every reading is a hair later than the one before: code that waits for
a deadline in a loop would never end on a clock that stands still.
"""

from __future__ import annotations

from paas.sim.platform.world import World

HAIR_S = 1e-7
EPOCH_MS = 1_700_000_000_000


class NodeClock:
    """`base.ports.Clock` of one node; true time is the world's."""

    def __init__(self, world: World, *, rate: float, origin_s: float) -> None:
        self._world = world
        self.rate = rate
        self.wall_offset_ms = 0
        self._origin_s = origin_s
        self._last_s = 0.0

    def now_ms(self) -> int:
        return EPOCH_MS + self.wall_offset_ms + int(self._world.now_s * 1_000)

    def monotonic_s(self) -> float:
        local = self._origin_s + self._world.now_s * self.rate
        last = self._last_s + HAIR_S
        self._last_s = local = local if local > last else last
        return local

    def true_s(self, local_s: float) -> float:
        """When, in true time, this clock will show that."""
        return (local_s - self._origin_s) / self.rate
