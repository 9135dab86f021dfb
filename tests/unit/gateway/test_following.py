"""What gateways are told: members by the cluster's state, and only differences after that."""

from __future__ import annotations

from typing import Any

import msgspec
from trio.testing import MockClock

from paas.controller import commands
from paas.gateway.following import Follower, Path
from paas.gateway.messages import EndedMember, Route, TableChange
from paas.gateway.state import RouteRemoved, RouteSet, RoutesFollowed
from paas.gateway.table import Surroundings
from paas.hub.attributes import AttributeState
from paas.testing.controlled_node import BUNDLE, ControlledNode, manifest

HTTP = {"protocol": "http", "host": "10.0.0.2", "port": 8000}


class World:
    """A node with a gateway that follows, and members `greeter` of the group web."""

    def __init__(self, node: ControlledNode) -> None:
        self.node = node
        self.attributes = AttributeState()
        self.around = Surroundings(node.common.gateway, node.state, node.groups, self.attributes)

    async def begin(self) -> Follower:
        plain = manifest("edge")
        plain["component"]["gateway"] = True
        await self.propose(commands.RegisterType(bundle=BUNDLE, manifest=plain))
        (gateway,) = await self.node.create("edge", groups=["gateways"])
        await self.propose(RoutesFollowed(gateway=gateway, incarnation=1))
        await self.node.register()
        return Follower(gateway, self.around, self.node.groups)

    async def propose(self, command: Any) -> Any:
        return await self.node.log.propose(command)

    async def route(self, **fields: Any) -> None:
        given = {"name": "site", "group": "web", "kind": "operation", **fields}
        await self.propose(RouteSet(route=msgspec.convert(given, Route)))

    async def member(self, **fields: Any) -> str:
        (member,) = await self.node.create("greeter", groups=["web"], **fields)
        return member

    def look(self, follower: Follower) -> tuple[TableChange | None, list[Path]]:
        change, missing = follower.look(self.node.clock.now_ms())
        return change, list(missing)


async def test_members_come_leave_and_go(autojump_clock: MockClock, node: ControlledNode) -> None:
    world = World(node)
    follower = await world.begin()
    assert world.look(follower) == (None, [])
    await world.route(drain_s=20)
    member = await world.member()
    change, _ = world.look(follower)
    assert change is not None
    assert [route.name for route in change.routes] == ["site"]
    assert [(m.component, m.state, m.weight) for m in change.members] == [(member, "serving", 100)]
    assert world.look(follower) == (None, []), "told once"
    await world.propose(commands.EndInstance(component=member, grace_s=5))
    change, _ = world.look(follower)
    assert change is not None
    (leaving,) = change.members
    assert (leaving.state, round(leaving.drain_s)) == ("leaving", 20)
    assert world.look(follower) == (None, []), "that time goes on is no news"
    await world.propose(commands.EndInstance(component=member, grace_s=0))
    change, _ = world.look(follower)
    assert change is not None
    assert [(m.component, m.state) for m in change.members] == [(member, "gone")]
    await world.propose(RouteRemoved(name="site"))
    change, _ = world.look(follower)
    assert change == TableChange(removed=["site"])


async def test_a_member_with_an_endpoint_is_told_when_its_path_is_open(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    world = World(node)
    follower = await world.begin()
    await world.route(kind="endpoint")
    member = await world.member()
    change, missing = world.look(follower)
    assert change is not None
    assert change.members == []
    assert missing == [Path(member, 1, "http")]
    follower.opening.add(missing[0])
    assert world.look(follower) == (None, []), "it is being opened"
    follower.opened(missing[0], HTTP)
    change, missing = world.look(follower)
    assert change is not None
    assert not missing
    assert [(m.host, m.port) for m in change.members] == [("10.0.0.2", 8000)]


async def test_one_that_leaves_is_told_of_without_a_path_too(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    world = World(node)
    follower = await world.begin()
    await world.route(kind="endpoint")
    member = await world.member()
    await world.propose(commands.EndInstance(component=member, grace_s=5))
    change, missing = world.look(follower)
    assert change is not None
    assert not missing
    assert [m.state for m in change.members] == ["leaving"], "it is waited for by us"


async def test_the_next_incarnation_needs_a_path_of_its_own(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    world = World(node)
    follower = await world.begin()
    await world.route(kind="endpoint")
    member = await world.member()
    world.look(follower)
    follower.opened(Path(member, 1, "http"), HTTP)
    world.look(follower)
    await node.containers.kill(member)
    await node.wait_state(member, "available", incarnation=2)
    change, missing = world.look(follower)
    assert missing == [Path(member, 2, "http")]
    assert change is not None
    assert [(m.incarnation, m.state) for m in change.members] == [(1, "gone")]


async def test_the_end_of_an_incarnation_is_told_once_whatever_became_of_its_route(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    world = World(node)
    follower = await world.begin()
    await world.route()
    stays, dies = await world.member(), await world.member()
    world.look(follower)
    await node.containers.kill(dies)
    await node.wait_state(dies, "available", incarnation=2)
    change, _ = world.look(follower)
    assert change is not None
    assert change.ended == [EndedMember(component=dies, incarnation=1)]
    assert world.look(follower) == (None, []), "told once"
    await world.propose(RouteRemoved(name="site"))
    assert world.look(follower)[0] == TableChange(removed=["site"])
    for one in (stays, dies):
        await world.propose(commands.EndInstance(component=one, grace_s=0))
        await node.wait_state(one, "destroyed")
    change, _ = world.look(follower)
    ended = [
        EndedMember(component=stays, incarnation=1),
        EndedMember(component=dies, incarnation=2),
    ]
    assert change == TableChange(ended=ended)


async def test_one_that_pauses_is_gone_and_has_not_ended(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    world = World(node)
    follower = await world.begin()
    await world.route()
    member = await world.member()
    world.look(follower)
    await world.propose(
        commands.ChangeInstance(component=member, incarnation=1, event="pause", reason="rests")
    )
    change, _ = world.look(follower)
    assert change is not None
    assert [m.state for m in change.members] == ["gone"]
    assert change.ended == []


async def test_weights_by_version_and_by_attribute(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    world = World(node)
    follower = await world.begin()
    member = await world.member()
    await world.route(weights={"1.0.0": 7})
    assert _weights(world, follower) == [7]
    await world.route(weights={"2.0.0": 7})
    assert _weights(world, follower) == [0]
    await world.route(weight_by="type", weights={"greeter": 3})
    assert _weights(world, follower) == [3]
    await world.route(weight_by="attribute:ring", weights={"canary": 1, "": 9})
    assert _weights(world, follower) == [9]
    world.attributes._objects[member] = {"": {"ring": msgspec.msgpack.encode("canary")}}
    assert _weights(world, follower) == [1]


def _weights(world: World, follower: Follower) -> list[int]:
    world.look(follower)
    return [member.weight for member in follower.table().members]


async def test_members_of_other_applications_and_groups_are_none(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    world = World(node)
    follower = await world.begin()
    await world.member()
    await world.route(application="shop")
    await world.route(name="other", gateway="other-gateways")
    world.look(follower)
    table = follower.table()
    assert [route.name for route in table.routes] == ["site"]
    assert table.members == []
