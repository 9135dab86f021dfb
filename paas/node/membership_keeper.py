"""Carries out the changes of members, one after the other, where this hub leads (io).

What to change is decided in membership.py, anew each time from what is there; so whatever comes in
between (another leader, a change that failed or whose outcome is not known) is only another start.
A cluster of one node has nothing to look at until a second one is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import trio

from paas.base.errors import PlatformError
from paas.node import limits
from paas.node.membership import (
    Change,
    Configuration,
    Follower,
    Transfer,
    next_change,
    refusal_to_remove,
)
from paas.node.messages import NodeChanged
from paas.node.state import NodeRegister
from paas.raft.machine import StateReplaced

_NODES = (NodeChanged, StateReplaced)


class Log(Protocol):
    """The replicated log, as `paas.raft.log.ReplicatedLog`."""

    @property
    def leadership(self) -> object | None: ...

    @property
    def configuration(self) -> Configuration: ...

    def followers(self) -> Mapping[str, Follower]: ...

    def status(self) -> dict[str, Any]:
        """Of this only `last_index`."""
        ...

    async def change_configuration(
        self, voters: Iterable[str], observers: Iterable[str]
    ) -> object: ...

    async def transfer_leadership(self, to: str | None = None) -> str: ...

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]: ...


class MembershipKeeper:
    """See the module's text."""

    def __init__(
        self,
        *,
        node: str,
        log: Log,
        register: NodeRegister,
        on_change: Callable[[str], None],
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        """`on_change` is told what was changed and why."""
        self._node = node
        self._log = log
        self._register = register
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._changed = trio.Event()
        self._trouble = ""
        self.change = ""
        """What is being changed, or why it could not be; empty: nothing is."""

    def refusal(self, name: str) -> str:
        """Why the log could not do without this node; empty if it can."""
        return refusal_to_remove(self._log.configuration, self._register.nodes(), name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        unsubscribe = self._log.subscribe(self._on_events)
        try:
            task_status.started()
            while True:
                changed = self._changed
                if not await self._step():
                    with trio.move_on_after(self._pause_s()):
                        await changed.wait()
        finally:
            unsubscribe()

    def _on_events(self, _index: int, events: Sequence[Any]) -> None:
        for event in events:
            if isinstance(event, _NODES):
                self._changed.set()
                self._changed = trio.Event()
                return

    def _pause_s(self) -> float:
        configuration = self._log.configuration
        members = (*configuration.voters, *configuration.observers)
        alone = self._register.alone(self._node) and members == (self._node,)
        return math.inf if alone else limits.MEMBERSHIP_CHECK_S

    def _next(self) -> Change | Transfer | None:
        if self._log.leadership is None:
            return None
        own = self._register.get(self._node)
        if own is not None and own.present and not own.leased and not self._alone():
            return None  # others are to vote only when what runs here ends with a lease
        return next_change(
            self._log.configuration,
            self._register.nodes(),
            self._log.followers(),
            leader=self._node,
            last_index=self._log.status()["last_index"],
            wanted_max=self._register.voters_wanted,
            removed=self._register.removed_names,
        )

    def _alone(self) -> bool:
        return self._register.alone(self._node)

    def _count(self) -> int:
        configuration = self._log.configuration
        return len({*configuration.voters, *configuration.observers})

    async def _step(self) -> bool:
        """Make one change, if there is one to make; was one made?"""
        change = self._next()
        if change is None:
            self.change = self._trouble = ""
            return False
        self.change = change.reason
        try:
            if isinstance(change, Transfer):
                await self._log.transfer_leadership(change.to)
            else:
                if len({*change.voters, *change.observers}) < self._count():
                    await trio.sleep(limits.FAREWELL_S)
                await self._log.change_configuration(change.voters, change.observers)
        except PlatformError as exc:
            self.change = f"{change.reason}; not done: {exc.code}"
            if self._trouble != self.change:
                self._on_trouble("cluster.members_not_changed", exc)
            self._trouble = self.change
            return False
        self._on_change(change.reason)
        return True
