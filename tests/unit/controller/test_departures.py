"""Departures: who is to end in order is left first, on virtual time, over the real state."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import commands, limits, messages
from paas.controller.lifecycle import ComponentState as S
from paas.controller.restarts import MOVED
from paas.gateway.messages import Route
from paas.gateway.state import RouteSet, RoutesFollowed
from paas.testing.controlled_node import BUNDLE, ControlledCluster, ControlledNode, manifest
from paas.testing.fake_containers import Behaviour

DRAIN_S = 20.0


async def a_gateway(node: ControlledNode, name: str = "edge") -> str:
    """A gateway that follows."""
    plain = manifest(name)
    plain["component"]["gateway"] = True
    await node.log.propose(commands.RegisterType(bundle=BUNDLE, manifest=plain))
    (gateway,) = await node.create(name, groups=["gateways"])
    await node.log.propose(RoutesFollowed(gateway=gateway, incarnation=1))
    return gateway


async def a_member(node: ControlledNode, **route: Any) -> str:
    """A member of a group that a route leads to."""
    given = {"name": "site", "group": "web", "drain_s": DRAIN_S, **route}
    await node.log.propose(RouteSet(route=msgspec.convert(given, Route)))
    await node.register()
    (member,) = await node.create("greeter", groups=["web"])
    return member


async def acknowledge(
    node: ControlledNode, member: str, gateway: str, incarnation: int = 1
) -> None:
    await node.log.propose(
        commands.AcknowledgeDeparture(component=member, incarnation=incarnation, gateway=gateway)
    )


async def order_end(node: ControlledNode, member: str, grace_s: float = 5.0) -> dict[str, Any]:
    result: dict[str, Any] = await node.log.propose(
        commands.EndInstance(component=member, grace_s=grace_s)
    )
    return result


async def test_it_is_stopped_when_every_gateway_has_acknowledged(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    one, other = await a_gateway(node), await a_gateway(node, "edge-2")
    member = await a_member(node)
    assert (await order_end(node, member))["state"] == S.LEAVING
    await trio.sleep(3)
    await acknowledge(node, member, one)
    await trio.sleep(3)
    assert node.get(member).state is S.LEAVING, "one of two is not all"
    began = trio.current_time()
    await acknowledge(node, member, other)
    await node.wait_state(member, S.DESTROYED)
    assert trio.current_time() - began < 1
    assert node.get(member).reason == "destroyed"
    assert not node.state.departures.leaving


async def test_the_end_of_the_drain_is_waited_for_and_no_longer(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await a_gateway(node)
    member = await a_member(node)
    began = trio.current_time()
    await order_end(node, member)
    await node.wait_state(member, S.STOPPING)
    lasted_s = trio.current_time() - began
    assert DRAIN_S <= lasted_s < DRAIN_S + limits.DEPARTURE_MARGIN_S + 1
    await node.wait_state(member, S.DESTROYED)


async def test_a_gateway_that_ends_is_waited_for_no_more(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    member = await a_member(node)
    await order_end(node, member)
    began = trio.current_time()
    await node.containers.kill(gateway)
    await node.wait_state(member, S.DESTROYED)
    assert trio.current_time() - began < 5


async def test_without_a_route_or_a_gateway_nothing_is_waited_for(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    member = await a_member(node)
    assert (await order_end(node, member))["state"] == S.STOPPING, "nobody follows"
    gateway = await a_gateway(node)
    (other,) = await node.create("greeter", groups=["else"])
    assert (await order_end(node, other))["state"] == S.STOPPING, "no route leads to it"
    (third,) = await node.create("greeter", groups=["web"])
    await node.log.propose(commands.EndInstance(component=gateway, grace_s=0))
    await node.wait_state(gateway, S.DESTROYED)
    assert (await order_end(node, third))["state"] == S.STOPPING, "the gateway is gone"


async def test_an_end_without_grace_is_at_once_and_cuts_a_departure_short(
    autojump_clock: MockClock,
    node: ControlledNode,
) -> None:
    await a_gateway(node)
    member = await a_member(node)
    (other,) = await node.create("greeter", groups=["web"])
    assert (await order_end(node, member, grace_s=0))["state"] == S.STOPPING
    assert (await order_end(node, other))["state"] == S.LEAVING
    assert (await order_end(node, other, grace_s=0))["state"] == S.STOPPING


async def test_members_of_another_application_than_the_routes_are_not_waited_for(
    autojump_clock: MockClock,
    node: ControlledNode,
) -> None:
    await a_gateway(node)
    member = await a_member(node, application="shop")
    assert (await order_end(node, member))["state"] == S.STOPPING


async def test_a_crash_during_the_departure_ends_it(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    member = await a_member(node)
    await order_end(node, member)
    await node.containers.kill(member)
    await node.wait_state(member, S.DESTROYED)
    await acknowledge(node, member, gateway)
    assert not node.state.departures.leaving


async def test_an_acknowledgement_of_another_incarnation_or_by_a_stranger_counts_for_nothing(
    autojump_clock: MockClock,
    node: ControlledNode,
) -> None:
    gateway = await a_gateway(node)
    member = await a_member(node)
    await order_end(node, member)
    await acknowledge(node, member, gateway, incarnation=2)
    await acknowledge(node, member, member)
    await acknowledge(node, "0" * 40, gateway)
    assert node.get(member).state is S.LEAVING
    assert node.state.departures.leaving[member].waiting == [gateway]


async def test_the_order_survives_a_restart_of_the_hub(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    member = await a_member(node)
    await order_end(node, member)
    await trio.sleep(2)
    await node.stop_controller()
    await node.restart_controller()
    assert node.state.departures.leaving[member].waiting == [gateway]
    await trio.sleep(1)
    assert node.get(member).state is S.LEAVING
    await acknowledge(node, member, gateway)
    await node.wait_state(member, S.DESTROYED)


async def test_a_restart_of_the_hub_does_not_begin_the_drain_anew(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await a_gateway(node)
    member = await a_member(node)
    began = trio.current_time()
    await order_end(node, member)
    await trio.sleep(DRAIN_S - 2)
    await node.stop_controller()
    await node.restart_controller()
    await node.wait_state(member, S.DESTROYED)
    assert trio.current_time() - began < DRAIN_S + 5


async def test_one_that_moves_leaves_first_and_goes_on_elsewhere(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = ControlledCluster(nursery)
    await cluster.start()
    first = cluster["n1"]
    gateway = await a_gateway(first)
    member = await a_member(first)
    instance = first.get(member)
    home = instance.node
    await first.log.propose(
        commands.MoveInstance(component=member, incarnation=1, node=home, grace_s=5)
    )
    assert first.get(member).state is S.LEAVING
    await acknowledge(first, member, gateway)
    assert first.get(member).state is S.STOPPING
    ended = await first.wait_state(member, S.AVAILABLE, incarnation=2)
    assert first.ends(member)[0].reason == MOVED
    assert ended.incarnation == 2


async def test_who_is_asked_whether_it_will_end_leaves_before_it_is_asked(
    autojump_clock: MockClock,
    node: ControlledNode,
) -> None:
    gateway = await a_gateway(node)
    member = await a_member(node)

    async def answer() -> None:
        await node.wait_state(member, S.LEAVING)
        await trio.sleep(1)
        await acknowledge(node, member, gateway)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        params = messages.TerminateComponent(component=member)
        said = await node.api.terminate(params, node.context())
    assert said.accepted
    await node.wait_state(member, S.DESTROYED)
    assert node.states(member)[-4:] == [S.LEAVING, S.STOPPING, S.DESTROYING, S.DESTROYED]


async def test_who_refuses_to_end_is_available_again(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    gateway = await a_gateway(node)
    node.now = Behaviour(refuses="busy")
    member = await a_member(node)

    async def answer() -> None:
        await node.wait_state(member, S.LEAVING)
        await acknowledge(node, member, gateway)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        params = messages.TerminateComponent(component=member)
        said = await node.api.terminate(params, node.context())
    assert not said.accepted
    await node.wait_state(member, S.AVAILABLE)
    assert node.get(member).wanted
    assert not node.state.departures.leaving


async def test_the_keeper_may_not_begin_a_departure_or_stop_by_itself(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await a_gateway(node)
    member = await a_member(node)
    for event in ("leave", "stay", "stop"):
        change = commands.ChangeInstance(component=member, incarnation=1, event=event)
        with pytest.raises(PlatformError) as refused:
            await node.log.propose(change)
        assert refused.value.code == "conflict"
