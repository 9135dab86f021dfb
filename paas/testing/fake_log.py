"""A replicated log of one replica without disk: the real machine, real encoding, a given latency.

Commands that are proposed in the same `commit_s` are committed together, as a group sync does.

`view()` is the log as one node of several has it.  A node that is cut off is told nothing and can
propose nothing; when it is back it is told that its state was replaced, as a replica that was left
far behind.  (What it reads is the state as it is: how an old state reads is for the simulator.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock, Entropy
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Applied, Machine, Section, StateReplaced

Subscriber = Callable[[int, Sequence[Any]], None]


class FakeLog:
    """Like `paas.raft.log.ReplicatedLog`.  `refuse`, when set, is what every proposal meets."""

    def __init__(
        self,
        sections: Sequence[Section],
        clock: Clock,
        entropy: Entropy,
        *,
        commit_s: float = 0.0,
    ) -> None:
        self.machine = Machine(sections)
        self.entries: list[bytes] = []
        self.commits = 0
        self.refuse: PlatformError | None = None
        self._clock = clock
        self._entropy = entropy
        self._commit_s = commit_s
        self._subscribers: list[Subscriber] = []
        self._batch: trio.Event | None = None

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        with trio.move_on_after(timeout_s):
            await self._sync()
            if self.refuse is not None:
                raise self.refuse
            applied = self._apply(command)
            if applied.error is not None:
                raise applied.error
            return applied.result
        raise PlatformError("unknown-outcome", "the log did not answer in time")

    async def _sync(self) -> None:
        """Wait for the sync under way, then lead or join the next one."""
        if self._batch is None:
            self._batch = batch = trio.Event()
            try:
                await trio.sleep(self._commit_s)
            finally:
                self._batch = None
                self.commits += 1
                batch.set()
        else:
            await self._batch.wait()

    def _apply(self, command: msgspec.Struct) -> Applied:
        index = len(self.entries) + 1
        stamp = Stamp(
            time_ms=self._clock.now_ms(),
            seed=self._entropy.bytes(SEED_BYTES),
            proposer="test",
            sequence=index,
        )
        data = encode(command, stamp)
        self.entries.append(data)
        applied = self.machine.apply(index, data)
        if applied.events:
            for subscriber in tuple(self._subscribers):
                subscriber(index, applied.events)
        return applied

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def applied(self) -> int:
        return len(self.entries)

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        await trio.lowlevel.checkpoint()

    def view(self) -> LogView:
        """The log as one node has it."""
        return LogView(self)


class LogView:
    """See the module's text."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._subscribers: list[Subscriber] = []
        self.connected = True
        log.subscribe(self._tell)

    def _tell(self, index: int, events: Sequence[Any]) -> None:
        if self.connected:
            for subscriber in tuple(self._subscribers):
                subscriber(index, events)

    def cut_off(self) -> None:
        self.connected = False

    def come_back(self) -> None:
        """The node has the state of the others again, and learnt of it as a whole."""
        self.connected = True
        index = self._log.applied()
        self._tell(index, [StateReplaced(index=index)])

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        if not self.connected:
            await trio.sleep(min(timeout_s, 0.05))
            raise PlatformError("unavailable", "there is no majority")
        return await self._log.propose(command, timeout_s=timeout_s)

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def applied(self) -> int:
        return self._log.applied()

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        await trio.lowlevel.checkpoint()
        if not self.connected:
            raise PlatformError("unavailable", "there is no majority")
