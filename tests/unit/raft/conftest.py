"""Several replicated logs on one network in memory, each on its simulated disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio

from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
from paas.raft.settings import RaftSettings
from paas.raft.transport import MemoryNetwork
from paas.real.clock import SystemClock
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Words

SEEDS = itertools.count(10_000)


class Logs:
    """Boot, kill and look for them by name."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.network = MemoryNetwork()
        self.disks: dict[str, SimDisk] = {}
        self.words: dict[str, Words] = {}
        self.logs: dict[str, ReplicatedLog] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._nursery = nursery

    def __getitem__(self, name: str) -> ReplicatedLog:
        return self.logs[name]

    async def boot(self, name: str, **more: Any) -> ReplicatedLog:
        disk = self.disks.setdefault(name, SimDisk())
        self.words[name] = Words()
        log = self.logs[name] = ReplicatedLog.open(
            files=disk,
            entropy=SimEntropy(next(SEEDS)),
            machine=Machine([self.words[name]]),
            node=name,
            transport=self.network.transport(name),
            **{
                "clock": SystemClock(),
                "settings": RaftSettings(sync_in_thread=False),
                **more,
            },
        )
        self._scopes[name] = await self._nursery.start(self._run, log)
        return log

    async def _run(
        self, log: ReplicatedLog, *, task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(log.run)
                task_status.started(scope)

    async def kill(self, name: str) -> None:
        """The machine loses power."""
        self._scopes[name].cancel()
        await self.until(lambda: not self.logs[name].status()["running"])
        del self.logs[name]
        self.disks[name].power_cut(lambda below: 0)

    async def three(self) -> str:
        """Voters a, b, c; who leads."""
        for name in "abc":
            await self.boot(name, voters=["a", "b", "c"])
        return await self.leader()

    async def leader(self) -> str:
        """The one leader, when it has committed something in its term."""

        def leaders() -> list[str]:
            found = [n for n, log in self.logs.items() if log.leadership is not None]
            return found if all(log.status()["leader"] for log in self.logs.values()) else []

        await self.until(lambda: len(leaders()) == 1)
        name = leaders()[0]
        await self.logs[name].confirm()
        return name

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(60):
            while not condition():  # noqa: ASYNC110 -- what is waited for has no event
                await trio.sleep(0.01)

    async def equal(self, words: list[str]) -> None:
        await self.until(lambda: all(self.words[name].words == words for name in self.logs))


@pytest.fixture
def logs(nursery: trio.Nursery) -> Logs:
    return Logs(nursery)
