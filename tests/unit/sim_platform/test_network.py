"""The simulated network: order, cuts, resets, dead ends, epochs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from paas.rpc.mesh_channels import RAFT
from paas.sim.platform.network import Connection, Network
from paas.sim.platform.world import World


class Listener:
    """An end that writes everything down."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.reachable = True
        self.heard: list[tuple[Any, ...]] = []
        self.connection: Connection | None = None
        self._world = world

    def wants(self, other: str) -> bool:
        return True

    def opened(self, connection: Connection) -> None:
        if connection.channel == RAFT:
            self.connection = connection
            self.heard.append(("up", connection.epoch))

    def arrived(self, connection: Connection, data: bytes) -> None:
        self.heard.append((data, connection.epoch))

    def ended(self, connection: Connection) -> None:
        if connection.channel == RAFT:
            self.heard.append(("down", connection.epoch))

    def late(self, connection: Connection, data: bytes) -> None:
        self.heard.append(("late", data, connection.epoch))


Body = Callable[[World, Network, Listener, Listener], Awaitable[None]]


def told(body: Body, seed: int = 1) -> tuple[Listener, Listener]:
    """Two connected ends, after something happened to them."""
    world = World(seed)
    network = Network(world)
    one, two = Listener(world, "n1"), Listener(world, "n2")

    async def main() -> None:
        network.join(one)
        network.join(two)
        await trio.sleep(1.0)
        await body(world, network, one, two)

    world.run(main)
    return one, two


def send(network: Network, source: Listener, data: bytes) -> None:
    assert source.connection is not None
    network.send(source.connection, source.name, data)


def test_messages_arrive_in_order_though_delays_differ() -> None:
    async def body(world: World, network: Network, one: Listener, two: Listener) -> None:
        network.delay_s = lambda source, target: world.random.random()
        for number in range(50):
            send(network, one, bytes([number]))
        await trio.sleep(5.0)

    _, two = told(body)
    assert two.heard == [("up", 1), *((bytes([n]), 1) for n in range(50))]


def test_a_short_cut_of_one_direction_delays_and_loses_nothing() -> None:
    async def body(world: World, network: Network, one: Listener, two: Listener) -> None:
        heal = network.cut([("n1", "n2")])
        send(network, one, b"to two")
        send(network, two, b"to one")
        await trio.sleep(2.0)
        assert (b"to two", 1) not in two.heard
        assert one.heard[-1] == (b"to one", 1)
        heal()
        await trio.sleep(0.1)

    _, two = told(body)
    assert two.heard == [("up", 1), (b"to two", 1)]


def test_a_long_cut_ends_the_connection_at_both_ends_and_healing_makes_another() -> None:
    async def body(world: World, network: Network, one: Listener, two: Listener) -> None:
        heal = network.cut([("n1", "n2")])
        send(network, one, b"lost")
        await trio.sleep(10.0)
        assert one.heard == two.heard == [("up", 1), ("down", 1)]
        heal()
        await trio.sleep(1.0)

    one, two = told(body)
    assert one.heard == two.heard == [("up", 1), ("down", 1), ("up", 2)]


def test_a_reset_loses_what_was_on_its_way_or_brings_it_too_late() -> None:
    async def body(world: World, network: Network, one: Listener, two: Listener) -> None:
        network.late_chance = 1.0
        network.delay_s = lambda source, target: 0.5
        send(network, one, b"too late")
        assert network.reset_pair("n1", "n2")
        await trio.sleep(2.0)

    _, two = told(body)
    assert two.heard[:2] == [("up", 1), ("down", 1)]
    assert sorted(two.heard[2:], key=str) == [("late", b"too late", 1), ("up", 2)]


def test_the_end_of_a_process_is_noticed_at_once_that_of_its_machine_after_silence() -> None:
    def dying(*, power: bool) -> list[tuple[Any, ...]]:
        async def body(world: World, network: Network, one: Listener, two: Listener) -> None:
            network.leave(one, power=power)
            await trio.sleep(1.0)

        return told(body)[1].heard

    assert dying(power=False) == [("up", 1), ("down", 1)]
    assert dying(power=True) == [("up", 1)]


def test_a_machine_that_is_back_ends_what_the_other_still_holds() -> None:
    async def body(world: World, network: Network, one: Listener, two: Listener) -> None:
        network.leave(one, power=True)
        network.join(Listener(world, "n1"))
        await trio.sleep(1.0)

    _, two = told(body)
    assert two.heard == [("up", 1), ("down", 1), ("up", 2)]


def test_nobody_is_connected_who_does_not_answer() -> None:
    async def body(world: World, network: Network, one: Listener, two: Listener) -> None:
        two.reachable = False
        network.reset_pair("n1", "n2")
        await trio.sleep(5.0)
        assert one.heard == [("up", 1), ("down", 1)]
        two.reachable = True
        network.redial("n2")
        await trio.sleep(1.0)

    one, _ = told(body)
    assert one.heard == [("up", 1), ("down", 1), ("up", 2)]
