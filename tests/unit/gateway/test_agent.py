"""The platform's side in a hub: who follows is told, ways are opened, departures end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller.commands import AcknowledgeDeparture, EndInstance, RegisterType
from paas.controller.resources import Resources
from paas.gateway import limits, messages
from paas.gateway.agent import Gateways
from paas.gateway.messages import Route, TableChange
from paas.gateway.table import Surroundings
from paas.hub.attributes import AttributeState
from paas.network.messages import OPEN, FarPath, OpenEnd
from paas.rpc.dispatch import Context
from paas.testing.controlled_node import BUNDLE, ControlledCluster, RecordingPeer, manifest


class Ways:
    """Packet filters here, and paths to other nodes; what a test says fails."""

    def __init__(self) -> None:
        self.near: list[tuple[str, str, int]] = []
        self.far: list[tuple[FarPath, str, str]] = []
        self.failures = 0

    async def grant(self, source: str, target: str, port: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise PlatformError("unavailable")
        self.near.append((source, target, port))

    async def open(self, path: FarPath, endpoint: str, requirement: str) -> None:
        await trio.lowlevel.checkpoint()
        self.far.append((path, endpoint, requirement))

    async def admit(self, path: FarPath) -> str:
        await trio.lowlevel.checkpoint()
        return "10.64.0.2"


class Handlers:
    """In place of a dispatcher."""

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}

    def task(self, method: Any, handler: Any) -> None:
        self.table[method.name] = handler

    plain = task


class World:
    """Nodes n1 and n2; the hub of n1, with a gateway there."""

    def __init__(self, cluster: ControlledCluster, nursery: trio.Nursery) -> None:
        self.cluster, self.nursery, self.ways = cluster, nursery, Ways()
        self.node = node = cluster["n1"]
        state, handlers = node.common.gateway, Handlers()
        resources = Resources(node.state, node.groups, self.ways, self.ways, state)
        self.troubles: list[str] = []
        self.gateways = Gateways(
            Surroundings(state, node.state, node.groups, AttributeState()),
            node.groups,
            log=node.view,
            watches=node.watches,
            paths=resources,
            clock=node.clock,
            acknowledge=self._acknowledge,
            on_trouble=lambda component, error: self.troubles.append(f"{component}: {error}"),
        )
        resources.register(handlers)  # type: ignore[arg-type]
        self.gateways.register(handlers)  # type: ignore[arg-type]
        self._handlers = handlers.table
        self.gateway = ""
        self.peer = RecordingPeer()

    async def _acknowledge(self, component: str, number: int, gateway: str, _s: float) -> None:
        command = AcknowledgeDeparture(component=component, incarnation=number, gateway=gateway)
        await self.node.log.propose(command)

    async def start(self) -> None:
        await self.cluster.start()
        await self.node.register()
        plain = manifest("edge")
        plain["component"]["gateway"] = True
        await self.node.log.propose(RegisterType(bundle=BUNDLE, manifest=plain))
        self.gateway = await self.create("edge", "n1", groups=["gateways"])
        self.peer = RecordingPeer(self.gateway)
        self.node.log.subscribe(self.gateways.state_changed)
        await self.nursery.start(self.gateways.run)

    async def create(self, kind: str, where: str, **fields: Any) -> str:
        [made] = await self.node.create(kind, constraints=[f"node={where}"], **fields)
        return made

    async def ask(self, method: Any, params: Any, peer: Any = None) -> Any:
        context: Context = self.node.context(peer or self.peer)
        answer = self._handlers[method.name](params, context)
        return await answer if hasattr(answer, "__await__") else answer

    async def route(self, **fields: Any) -> None:
        given = {"name": "site", "group": "web", **fields}
        route = msgspec.convert(given, Route)
        await self.ask(messages.SET, messages.SetRoute(route=route))

    async def changes(self) -> list[TableChange]:
        """What was told since the last time."""
        await trio.sleep(1)
        events, self.peer.events = self.peer.events, []
        return [msgspec.convert(event.data, TableChange) for event in events]


@pytest.fixture
async def world(autojump_clock: MockClock, nursery: trio.Nursery) -> World:
    made = World(ControlledCluster(nursery, ["n1", "n2"]), nursery)
    await made.start()
    return made


async def test_the_answer_has_everything_and_what_changes_follows(
    autojump_clock: MockClock, world: World
) -> None:
    await world.route()
    near = await world.create("greeter", "n1", groups=["web"])
    found = await world.ask(messages.FOLLOW, messages.Follow())
    assert [route.name for route in found.snapshot.routes] == ["site"]
    assert [(m.component, m.port, m.state) for m in found.snapshot.members] == [
        (near, 8000, "serving")
    ]
    assert world.ways.near == [(world.gateway, near, 8000)]
    assert world.node.common.gateway.followers == {world.gateway: 1}
    far = await world.create("greeter", "n2", groups=["web"])
    (change,) = await world.changes()
    assert [(m.component, m.node) for m in change.members] == [(far, "n2")]
    ((path, endpoint, requirement),) = world.ways.far
    assert (path.peer, endpoint, requirement) == (far, "http", "route:site")
    await world.ask(messages.REMOVE, messages.RemoveRoute(name="site"))
    assert [change.removed for change in await world.changes()] == [["site"]]


async def test_a_way_that_cannot_be_opened_is_tried_again_and_told_then(
    autojump_clock: MockClock, world: World
) -> None:
    await world.ask(messages.FOLLOW, messages.Follow())
    world.ways.failures = 3
    await world.route()
    await world.create("greeter", "n1", groups=["web"])
    told = [member for change in await world.changes() for member in change.members]
    assert told == []
    await trio.sleep(4 * limits.PATH_RETRY_S)
    told = [member for change in await world.changes() for member in change.members]
    assert [member.state for member in told] == ["serving"]
    assert len(world.troubles) == 3


async def test_a_departure_ends_with_the_acknowledgement(
    autojump_clock: MockClock, world: World
) -> None:
    await world.route()
    member = await world.create("greeter", "n2", groups=["web"])
    await world.ask(messages.FOLLOW, messages.Follow())
    await world.node.log.propose(EndInstance(component=member, grace_s=5))
    ((change,), status) = await world.changes(), await world.ask(messages.STATUS, messages.Status())
    assert [m.state for m in change.members] == ["leaving"]
    assert [(d.component, d.waiting) for d in status.departures] == [(member, [world.gateway])]
    await world.ask(messages.ACKNOWLEDGE, messages.Acknowledge(component=member, incarnation=1))
    await world.node.wait_state(member, "destroyed")
    told = [m.state for change in await world.changes() for m in change.members]
    assert told == ["gone"]


async def test_who_is_no_gateway_does_not_follow(autojump_clock: MockClock, world: World) -> None:
    other = await world.create("greeter", "n1", groups=["gateways"])
    with pytest.raises(PlatformError) as refused:
        await world.ask(messages.FOLLOW, messages.Follow(), RecordingPeer(other))
    assert refused.value.code == "denied"
    assert "gateway = true" in refused.value.hint


async def test_routes_are_listed_with_their_members(
    autojump_clock: MockClock, world: World
) -> None:
    await world.route(application="shop")
    await world.route(name="own", path="/own")
    await world.create("greeter", "n1", groups=["web"])
    listed = await world.ask(messages.LIST, messages.ListRoutes())
    assert [(r.route.name, r.serving) for r in listed.routes] == [("own", 1), ("site", 0)]
    listed = await world.ask(messages.LIST, messages.ListRoutes(application="shop"))
    assert [r.route.name for r in listed.routes] == ["site"]
    shown = await world.ask(messages.SHOW, messages.ShowRoute(name="own"))
    assert len(shown.members) == 1
    with pytest.raises(PlatformError) as unknown:
        await world.ask(messages.REMOVE, messages.RemoveRoute(name="owm"))
    assert unknown.value.code == "no-such-target"
    assert "own" in unknown.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"requirement": "route:other"},
        {"requirement": "route:calls"},
        {"source_is": "stranger"},
        {"target_is": "stranger"},
        {"node": "n1"},
    ],
    ids=str,
)
async def test_another_hub_may_open_a_way_only_as_a_route_says(
    autojump_clock: MockClock, world: World, wrong: dict[str, str]
) -> None:
    await world.route()
    await world.route(name="calls", kind="operation")
    far = await world.create("edge", "n2", groups=["gateways"])
    stranger = await world.create("greeter", "n1")
    other = await world.create("greeter", "n2")
    member = await world.create("greeter", "n1", groups=["web"])
    await world.ask(messages.FOLLOW, messages.Follow(), RecordingPeer(far))
    peer = RecordingPeer()
    peer.info["node"] = "n2"
    asked = OpenEnd(
        source=far,
        source_incarnation=1,
        address="10.64.8.2",
        target=member,
        target_incarnation=1,
        endpoint="http",
        requirement="route:site",
    )
    await world.ask(OPEN, asked, peer)
    changes: dict[str, Any] = {}
    if "requirement" in wrong:
        changes["requirement"] = wrong["requirement"]
    if "source_is" in wrong:
        changes["source"] = other
    if "target_is" in wrong:
        changes["target"] = stranger
    peer.info["node"] = wrong.get("node", "n2")
    with pytest.raises(PlatformError) as refused:
        await world.ask(OPEN, msgspec.structs.replace(asked, **changes), peer)
    assert refused.value.code == "conflict"
