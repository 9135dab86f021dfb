"""Faults of disks, and orders of operators that turn a cluster's life upside down.

Disks: full for a while, slow, torn at a power cut in the middle of an operation, a process that
ends there.  Orders: cordon, drain, uncordon, remove a node, join a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from paas.base.errors import PlatformError
from paas.controller.messages import DRAIN_NODE, DrainNode
from paas.node import messages
from paas.node.state import AddNode
from paas.sim.platform.clients import Operator
from paas.sim.platform.cluster import Cluster
from paas.sim.platform.machine import Crash, Machine
from paas.wire.registry import Method, P, R

ROOM = 1 << 40


class DiskFaults:
    """Classes of faults of disks."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._chance = cluster.world.random

    def classes(self) -> dict[str, Callable[[], bool]]:
        return {
            "disk-full": self._full,
            "disk-slow": self._slow,
            "disk-torn-at-power-cut": lambda: self._arm(power=True),
            "crash-in-disk-operation": lambda: self._arm(power=False),
            "disk-sync-fails": self._sync_fails,
            "compaction": self._compaction,
        }

    def end(self) -> None:
        for machine in self._cluster.machines.values():
            machine.disk.capacity_bytes = ROOM
            machine.disk_s = 0.0

    def _machine(self) -> Machine | None:
        """One whose hub lives."""
        hubs = self._cluster.hubs()
        return self._chance.choice(hubs).machine if hubs else None

    def _full(self) -> bool:
        machine = self._machine()
        if machine is None:
            return False
        disk = machine.disk
        disk.capacity_bytes = ROOM
        used = ROOM - disk.free_bytes()
        disk.capacity_bytes = used + self._chance.choice((0, 1_000, 3 << 20))

        def room() -> None:
            disk.capacity_bytes = ROOM

        self._world.after(1.0 + self._chance.expovariate(1 / 8), room)
        return True

    def _slow(self) -> bool:
        machine = self._machine()
        if machine is None:
            return False
        machine.disk_s = self._chance.choice((0.005, 0.05, 0.3))

        def fast() -> None:
            machine.disk_s = 0.0

        self._world.after(2.0 + self._chance.expovariate(1 / 15), fast)
        return True

    def _arm(self, *, power: bool) -> bool:
        """At one of the next operations of the disk the process, or its machine, ends."""
        machine = self._machine()
        if machine is None or machine.disk.on_operation is not None:
            return False
        left = self._chance.randrange(12)

        def operation(_what: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash(power=power)

        machine.disk.on_operation = operation
        return True

    def _sync_fails(self) -> bool:
        machine = self._machine()
        if machine is None:
            return False
        machine.disk.fail_next_sync = self._chance.randrange
        return True

    def _compaction(self) -> bool:
        hubs = [hub for hub in self._cluster.hubs() if self._chance.random() < 0.5]
        for hub in hubs:
            hub.replicated._replica.request_snapshot()
        return bool(hubs)


class Orders:
    """An operator who changes the cluster itself, until `stopped`."""

    NAMES = ("node-cordon", "node-drain", "node-uncordon", "node-remove", "node-join")

    def __init__(
        self, cluster: Cluster, *, every_s: float, on_new: Callable[[Machine], None]
    ) -> None:
        self.stopped = False
        self._cluster = cluster
        self._world = cluster.world
        self._chance = cluster.world.random
        self._every_s = every_s
        self._on_new = on_new
        self._operator = Operator(cluster)
        self._joined = 0
        self._one = trio.Lock()
        self._out: dict[str, None] = {}
        """Nodes that are cordoned, as far as is known."""

    async def run(self) -> None:
        while True:
            await trio.sleep(self._chance.expovariate(1 / self._every_s))
            if self.stopped:
                return
            await self._order()

    async def _order(self) -> None:
        name, order = self._choose()
        try:
            async with self._one:
                await order()
        except PlatformError as exc:
            self._world.count(f"order-{exc.code}")
        else:
            self._world.count(name)
            self._world.record(f"order {name}")

    def _choose(self) -> tuple[str, Callable[[], Awaitable[None]]]:
        chance = self._chance.random()
        living = len(self._nodes())
        if self._out and chance < 0.5:
            return "node-uncordon", self._uncordon
        if chance < 0.6:
            return "node-cordon", self._cordon
        if chance < 0.75:
            return "node-drain", self._drain
        if living > 3 and chance < 0.9:
            return "node-remove", self._remove
        if self._joined < 2 and living < 6:
            return "node-join", self._join
        return "node-drain", self._drain

    def _nodes(self) -> list[Machine]:
        return [m for m in self._cluster.machines.values() if m.belongs]

    def _any(self) -> Machine:
        return self._chance.choice(self._nodes())

    async def _cordon(self) -> None:
        name = self._any().name
        await self._ask(messages.CORDON_NODE, messages.CordonNode(node=name, timeout=5.0))
        self._out[name] = None

    async def _uncordon(self) -> None:
        name = self._chance.choice([*self._out] or [m.name for m in self._nodes()])
        await self._ask(messages.UNCORDON_NODE, messages.UncordonNode(node=name, timeout=5.0))
        self._out.pop(name, None)

    async def _drain(self) -> None:
        name = self._any().name
        grace_s = self._chance.choice((0.5, 5.0))
        self._out[name] = None
        await self._ask(DRAIN_NODE, DrainNode(node=name, grace=grace_s, timeout=10.0), 10.0)

    async def _remove(self) -> None:
        name = self._any().name
        force = self._chance.random() < 0.5
        params = messages.RemoveNodeRequest(node=name, force=force, timeout=6.0)
        await self._ask(messages.REMOVE_NODE, params)

    async def _join(self) -> None:
        self._joined += 1
        name = f"n{10 + self._joined}"
        machine = self._cluster.add(name, first=False)
        self._on_new(machine)
        await self.admit(machine)

    async def admit(self, machine: Machine) -> None:
        """Have the cluster expect this machine, and switch it on; raises PlatformError."""
        for _attempt in range(20):
            hubs = self._cluster.hubs()
            if not hubs:
                await trio.sleep(1.0)
                continue
            log = self._chance.choice(hubs).core.log
            try:
                await log.propose(
                    AddNode(node=machine.name, address=machine.address), timeout_s=5.0
                )
            except PlatformError as exc:
                if exc.code == "conflict":
                    raise
                await trio.sleep(1.0)
            else:
                machine.expected = True
                machine.power_on()
                return
        raise PlatformError("unavailable", f"{machine.name} could not be admitted")

    async def _ask(self, method: Method[P, R], params: P, timeout_s: float = 6.0) -> None:
        await self._operator.call(self._any(), method, params, timeout_s=timeout_s)

    async def uncordon_all(self) -> None:
        """All nodes take components again; tries until it is so.

        The last order may still be on its way: it comes first.
        """
        async with self._one:
            await trio.sleep(8.0)
        for machine in self._nodes():
            while not machine.removed:
                hubs = self._cluster.hubs()
                params = messages.UncordonNode(node=machine.name, timeout=3.0)
                try:
                    if not hubs:
                        raise PlatformError("unavailable", "no hub")
                    await self._operator.call(
                        hubs[0].machine, messages.UNCORDON_NODE, params, timeout_s=3.0
                    )
                    break
                except PlatformError as exc:
                    if exc.code in ("no-such-target", "conflict"):
                        break
                    await trio.sleep(1.0)
