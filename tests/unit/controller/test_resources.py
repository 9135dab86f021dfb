"""`resource.resolve`: from a name of the manifest to addresses that can be reached."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller.commands import RegisterType
from paas.controller.resources import RESOLVE, Resolve, Resource, Resources
from paas.rpc.dispatch import Context
from paas.testing.controlled_node import BUNDLE, ControlledCluster, RecordingPeer, manifest


class Paths:
    """The packet filters of a node: it notes what was opened."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, int]] = []

    async def grant(self, source: str, target: str, port: int) -> None:
        await trio.lowlevel.checkpoint()
        self.opened.append((source, target, port))


class Table:
    """In place of a dispatcher: the one handler."""

    def __init__(self) -> None:
        self.handler: Any = None

    def task(self, method: Any, handler: Any) -> None:
        assert method is RESOLVE
        self.handler = handler


class World:
    """A cluster with a type `reader` that requires the group `store`."""

    def __init__(self, cluster: ControlledCluster) -> None:
        self.cluster, self.paths, table = cluster, Paths(), Table()
        Resources(cluster["n1"].state, cluster["n1"].groups, self.paths).register(table)  # type: ignore[arg-type]
        self._handler = table.handler

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
        answer: Resource = await self._handler(Resolve(name=name), context)
        return answer


@pytest.fixture
async def world(autojump_clock: MockClock, nursery: trio.Nursery) -> World:
    made = World(ControlledCluster(nursery, ["n1", "n2"]))
    await made.start()
    return made


async def test_members_on_the_own_node_are_chosen_and_their_path_is_opened(
    autojump_clock: MockClock, world: World
) -> None:
    reader = await world.create("reader", "n1")
    near = await world.create("store", "n1", groups=["stores"])
    await world.create("store", "n2", groups=["stores"])
    answer = await world.resolve(reader)
    assert [(e.component, e.port, e.protocol) for e in answer.endpoints] == [(near, 8000, "http")]
    assert world.paths.opened == [(reader, near, 8000)]


async def test_members_on_other_nodes_only_are_refused_with_their_nodes(
    autojump_clock: MockClock, world: World
) -> None:
    reader = await world.create("reader", "n1")
    await world.create("store", "n2", groups=["stores"])
    with pytest.raises(PlatformError, match="n2: there is no network path from n1") as caught:
        await world.resolve(reader)
    assert (caught.value.code, caught.value.data["nodes"]) == ("not-available", ["n2"])
    assert not world.paths.opened


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
