"""What really runs on a simulated machine: containers, fence, power; the container controller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.messages import Limits
from paas.controller.ports import StartOrder
from paas.sim.platform.clocks import NodeClock
from paas.sim.platform.containers import ContainerController, ContainersPort, Session
from paas.sim.platform.kernel import FENCE_KILLS_S, Container, Kernel
from paas.sim.platform.process import Process
from paas.sim.platform.world import World

ID = "01" * 20


def order(component: str = ID, incarnation: int = 1) -> StartOrder:
    return StartOrder(
        component=component,
        incarnation=incarnation,
        bundle="steady@1.0.0",
        command=("./run",),
        base="host",
        protocol="json",
        environment={},
        configuration={},
        endpoints={},
        limits=Limits(),
        ready_timeout_s=30.0,
        stop_grace_s=10.0,
        hostname="x",
    )


class Silent:
    """A program that does nothing."""

    def begin(self) -> None:
        return None

    def killed(self) -> None:
        return None


class Seen:
    """Writes down what really happens."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def started(self, node: str, container: Container) -> None:
        self.lines.append(("started", container.incarnation))

    def ended(self, node: str, container: Container, reason: str) -> None:
        self.lines.append(("ended", container.incarnation, reason))


class Told:
    """A component controller that only listens."""

    def __init__(self) -> None:
        self.exits: list[str] = []

    def containers_connected(self) -> None:
        return None

    def containers_lost(self) -> None:
        return None

    def container_exited(self, facts: Any) -> None:
        self.exits.append(facts.reason)


class Node:
    """A kernel, its container controller, and a hub's way to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen, self.told = Seen(), Told()
        self.clock = NodeClock(world, rate=1.0, origin_s=50.0)
        self.kernel = Kernel(world, "n1", self.clock, self.seen, lambda _container: Silent())
        self.hub = Process(world, "n1/hub")
        self.port = ContainersPort(self.hub)
        self.port.listener = self.told  # type: ignore[assignment]
        self.connect()

    def connect(self) -> None:
        self.controller = ContainerController(self.world, self.kernel)
        session = self.controller.session = Session(self.port, self.controller)
        self.port.connected(session)

    def running(self) -> list[int]:
        return [container.incarnation for container in self.kernel.running()]


def on_a_node(body: Callable[[Node], Awaitable[None]]) -> Node:
    world = World(1)
    node = Node(world)

    async def main() -> None:
        await body(node)

    world.run(main)
    return node


def test_the_fence_kills_when_the_lease_ends_though_all_agents_are_dead() -> None:
    async def body(node: Node) -> None:
        await node.port.extend(node.clock.monotonic_s() + 2.0)
        await node.port.start(order())
        node.controller.die()
        node.hub.kill()
        await trio.sleep(1.9)
        assert node.running() == [1]
        await trio.sleep(0.2 + FENCE_KILLS_S)

    assert on_a_node(body).seen.lines == [("started", 1), ("ended", 1, "node-lost")]


def test_an_extended_lease_goes_on_and_nothing_starts_after_its_end() -> None:
    async def body(node: Node) -> None:
        await node.port.extend(node.clock.monotonic_s() + 1.0)
        await node.port.start(order())
        await node.port.extend(node.clock.monotonic_s() + 3.0)
        await trio.sleep(2.0)
        assert node.running() == [1]
        await trio.sleep(2.0)
        with pytest.raises(PlatformError, match="lease has ended"):
            await node.port.start(order("02" * 20))

    assert on_a_node(body).running() == []


def test_after_a_power_cut_a_node_that_was_under_lease_has_none() -> None:
    async def body(node: Node) -> None:
        await node.port.extend(node.clock.monotonic_s() + 100.0)
        await node.port.start(order())
        node.controller.die()
        node.kernel.power_off()
        node.kernel.power_on()
        await trio.sleep(1.0)
        node.connect()
        with pytest.raises(PlatformError, match="lease has ended"):
            await node.port.start(order(incarnation=2))

    node = on_a_node(body)
    assert node.seen.lines == [("started", 1), ("ended", 1, "power")]


def test_an_end_is_told_once_and_kept_until_the_container_is_removed() -> None:
    async def body(node: Node) -> None:
        await node.port.start(order())
        node.kernel.end(node.kernel.table[ID], "exit:3")
        await trio.sleep(0.1)
        facts = await node.port.list()
        assert [(f.running, f.exit.code) for f in facts] == [(False, 3)]
        await node.port.destroy(ID)
        assert await node.port.list() == []

    assert on_a_node(body).told.exits == ["exit:3"]


def test_a_start_under_way_when_the_controller_dies_has_an_unknown_outcome() -> None:
    async def body(node: Node) -> None:
        node.world.after(0.002, node.controller.die)
        with pytest.raises(PlatformError) as caught:
            await node.port.start(order())
        assert caught.value.code == "unknown-outcome"
        node.connect()
        await trio.sleep(0.1)
        await node.port.start(order())

    assert on_a_node(body).running() == [1]


def test_a_call_waits_for_the_controller_and_gives_up() -> None:
    async def body(node: Node) -> None:
        node.controller.die()
        await trio.sleep(0.1)
        with pytest.raises(PlatformError) as caught:
            await node.port.extend(node.clock.monotonic_s() + 5.0)
        assert caught.value.code == "unavailable"
        node.world.after(0.5, node.connect)
        await node.port.extend(node.clock.monotonic_s() + 5.0)

    on_a_node(body)


def test_work_that_was_begun_goes_on_when_the_hub_dies() -> None:
    async def body(node: Node) -> None:
        async with trio.open_nursery() as nursery:
            node.hub.spawn(nursery, node.port.start, order())
            await trio.sleep(0.003)
            node.hub.kill()
            nursery.cancel_scope.cancel()
        await trio.sleep(0.1)

    assert on_a_node(body).running() == [1]
