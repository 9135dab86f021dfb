"""`resource.resolve`: from a name of the manifest to addresses that can be reached."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller.commands import RegisterType
from paas.controller.resources import RESOLVE, Resolve, Resource, Resources
from paas.network.messages import OPEN, FarPath, OpenEnd
from paas.rpc.dispatch import Context
from paas.testing.controlled_node import BUNDLE, ControlledCluster, RecordingPeer, manifest


class Paths:
    """The packet filters of a node: it notes what was opened."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, int]] = []

    async def grant(self, source: str, target: str, port: int) -> None:
        await trio.lowlevel.checkpoint()
        self.opened.append((source, target, port))


class Far:
    """Paths to other nodes: notes what was opened, and fails as a test says."""

    def __init__(self) -> None:
        self.opened: list[tuple[FarPath, str, str]] = []
        self.admitted: list[FarPath] = []
        self.fails: dict[str, PlatformError] = {}

    async def open(self, path: FarPath, endpoint: str, requirement: str) -> None:
        await trio.lowlevel.checkpoint()
        if (error := self.fails.get(path.peer_node)) is not None:
            raise error
        self.opened.append((path, endpoint, requirement))

    async def admit(self, path: FarPath) -> str:
        await trio.lowlevel.checkpoint()
        self.admitted.append(path)
        return "10.64.0.2"


class Table:
    """In place of a dispatcher: the handlers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def task(self, method: Any, handler: Any) -> None:
        self.handlers[method.name] = handler


class World:
    """A cluster with a type `reader` that requires the group `store`."""

    def __init__(self, cluster: ControlledCluster) -> None:
        self.cluster, self.paths, self.far, table = cluster, Paths(), Far(), Table()
        node = cluster["n1"]
        Resources(node.state, node.groups, self.paths, self.far).register(table)  # type: ignore[arg-type]
        self._handlers = table.handlers

    async def start(self) -> None:
        await self.cluster.start()
        await self.cluster["n1"].register("store")
        plain = manifest("reader") | {"requires": {"store": {"group": "stores"}}}
        await self.cluster["n1"].log.propose(RegisterType(bundle=BUNDLE, manifest=plain))

    async def create(self, kind: str, where: str, **fields: Any) -> str:
        [made] = await self.cluster["n1"].create(kind, constraints=[f"node={where}"], **fields)
        return made

    async def resolve(self, component: str | None, name: str = "store") -> Resource:
        context: Context = self.cluster["n1"].context(RecordingPeer(component))
        answer: Resource = await self._handlers[RESOLVE.name](Resolve(name=name), context)
        return answer

    async def ask_open(self, node: str, source: str, target: str, /, **changes: Any) -> None:
        """As the hub of another node asks."""
        peer = RecordingPeer(None)
        peer.info["node"] = node
        given = {
            "source": source,
            "source_incarnation": 1,
            "address": "10.64.8.2",
            "target": target,
            "target_incarnation": 1,
            "endpoint": "http",
            "requirement": "store",
        }
        context: Context = self.cluster["n1"].context(peer)
        await self._handlers[OPEN.name](OpenEnd(**{**given, **changes}), context)


@pytest.fixture
async def world(autojump_clock: MockClock, nursery: trio.Nursery) -> World:
    made = World(ControlledCluster(nursery, ["n1", "n2"]))
    await made.start()
    return made


async def test_members_on_the_own_node_come_first_and_all_paths_are_opened(
    autojump_clock: MockClock, world: World
) -> None:
    reader = await world.create("reader", "n1")
    far = await world.create("store", "n2", groups=["stores"])
    near = await world.create("store", "n1", groups=["stores"])
    answer = await world.resolve(reader)
    assert [(e.component, e.port, e.protocol) for e in answer.endpoints] == [
        (near, 8000, "http"),
        (far, 8000, "http"),
    ]
    assert world.paths.opened == [(reader, near, 8000)]
    ((path, endpoint, requirement),) = world.far.opened
    assert (path.component, path.end, path.peer, path.peer_node) == (reader, "source", far, "n2")
    assert (path.incarnation, path.peer_incarnation, path.port) == (1, 1, 8000)
    assert (endpoint, requirement) == ("http", "store")


async def test_an_endpoint_of_the_node_is_for_components_of_that_node(
    autojump_clock: MockClock, world: World
) -> None:
    plain = manifest("local") | {"endpoints": {"http": {"protocol": "http", "scope": "node"}}}
    await world.cluster["n1"].log.propose(RegisterType(bundle=BUNDLE, manifest=plain))
    reader, stranger = await world.create("reader", "n1"), await world.create("reader", "n2")
    near = await world.create("local", "n1", groups=["stores"])
    await world.create("local", "n2", groups=["stores"])
    assert [e.component for e in (await world.resolve(reader)).endpoints] == [near]
    assert not world.far.opened
    with pytest.raises(PlatformError, match="no endpoint 'http'") as caught:
        await world.ask_open("n2", stranger, near)
    assert caught.value.code == "conflict"


async def test_a_node_that_does_not_answer_is_left_out_unless_nobody_else_is_there(
    autojump_clock: MockClock, world: World
) -> None:
    reader = await world.create("reader", "n1")
    await world.create("store", "n2", groups=["stores"])
    world.far.fails["n2"] = PlatformError("not-available", "node n2 cannot be reached")
    with pytest.raises(PlatformError, match="n2 cannot be reached") as caught:
        await world.resolve(reader)
    assert (caught.value.code, caught.value.data["nodes"]) == ("not-available", ["n2"])
    near = await world.create("store", "n1", groups=["stores"])
    assert [e.component for e in (await world.resolve(reader)).endpoints] == [near]


async def test_another_hub_opens_a_path_to_a_component_here(
    autojump_clock: MockClock, world: World
) -> None:
    reader = await world.create("reader", "n2")
    store = await world.create("store", "n1", groups=["stores"])
    await world.ask_open("n2", reader, store)
    (path,) = world.far.admitted
    assert (path.component, path.end, path.port) == (store, "target", 8000)
    assert (path.peer, path.peer_node, path.peer_address) == (reader, "n2", "10.64.8.2")


@pytest.mark.parametrize(
    ("node", "changes", "code"),
    [
        ("n3", {}, "conflict"),
        ("n2", {"source": "f" * 40}, "conflict"),
        ("n2", {"target": "f" * 40}, "conflict"),
        ("n2", {"endpoint": "smtp"}, "conflict"),
        ("n2", {"requirement": "mail"}, "denied"),
    ],
)
async def test_another_hub_opens_nothing_that_the_state_does_not_bear_out(
    autojump_clock: MockClock, world: World, node: str, changes: dict[str, Any], code: str
) -> None:
    reader = await world.create("reader", "n2")
    store = await world.create("store", "n1", groups=["stores"])
    with pytest.raises(PlatformError) as caught:
        await world.ask_open(node, reader, store, **changes)
    assert caught.value.code == code
    assert not world.far.admitted


async def test_another_hub_opens_nothing_to_who_is_not_in_the_required_group(
    autojump_clock: MockClock, world: World
) -> None:
    reader, other = await world.create("reader", "n2"), await world.create("store", "n1")
    with pytest.raises(PlatformError) as caught:
        await world.ask_open("n2", reader, other)
    assert caught.value.code == "denied"
    assert not world.far.admitted


async def test_nobody_at_all_is_an_empty_answer(autojump_clock: MockClock, world: World) -> None:
    reader = await world.create("reader", "n1")
    assert (await world.resolve(reader)).endpoints == []


async def test_what_is_not_declared_and_who_is_no_component_is_refused(
    autojump_clock: MockClock, world: World
) -> None:
    reader = await world.create("reader", "n1")
    with pytest.raises(PlatformError, match="does not require 'cache'") as caught:
        await world.resolve(reader, "cache")
    assert caught.value.code == "no-such-target"
    with pytest.raises(PlatformError, match="only components have resources") as caught:
        await world.resolve(None)
    assert caught.value.code == "denied"


def _of(application: str, name: str, **sections: Any) -> RegisterType:
    plain = manifest(name) | sections
    plain["component"] = {**plain["component"], "application": application}
    return RegisterType(bundle=BUNDLE, manifest=plain)


@pytest.mark.parametrize(
    ("exposure", "application", "reached"),
    [
        (None, "", False),
        ({"operations": ["get"], "to": ["default"]}, "", False),
        ({"operations": ["endpoints"], "to": ["billing"]}, "", False),
        ({"operations": ["endpoints"], "to": ["default"]}, "", True),
        ({"operations": ["*"], "to": ["*"]}, "storage", True),
        ({"operations": ["*"], "to": ["*"]}, "elsewhere", False),
    ],
)
async def test_paths_between_applications_follow_both_manifests(
    autojump_clock: MockClock,
    world: World,
    exposure: dict[str, Any] | None,
    application: str,
    reached: bool,
) -> None:
    propose = world.cluster["n1"].log.propose
    needs = {"store": {"group": "theirs", "application": application}}
    exposes = {} if exposure is None else {"x": exposure}
    await propose(_of("storage", "kv", exposes=exposes))
    await propose(_of("default", "asker", requires=needs))
    provider = await world.create("kv", "n1", groups=["theirs"])
    asker = await world.create("asker", "n1")
    if reached:
        assert [e.component for e in (await world.resolve(asker)).endpoints] == [provider]
        return
    with pytest.raises(PlatformError) as caught:
        await world.resolve(asker)
    assert caught.value.code == "denied"
    assert caught.value.data["types"] == ["kv@1.0.0"]
    assert world.paths.opened == []
