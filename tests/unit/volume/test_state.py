"""Who holds which volumes, at which epoch, and where a component may be placed."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import limits as controller_limits
from paas.controller.commands import CreateInstances, PlaceInstance
from paas.controller.lifecycle import ComponentState as S
from paas.testing.fake_volumes import VolumeWorld
from paas.volume.commands import MoveVolumes, RemoveVolumes, VolumesMoved
from paas.volume.lifecycle import HOLDING, HoldingEvent, HoldingState
from paas.volume.state import Holding, VolumeState

MIB = 1 << 20


def holding(world: VolumeWorld, owner: str) -> Holding:
    return world.state.find(owner)


async def create(world: VolumeWorld, kind: str = "db@1.0.0", name: str = "db") -> str:
    [component] = await world.cluster.first.create(kind, name=name)
    await world.cluster.first.wait_state(component, S.AVAILABLE)
    return component


def test_the_table_lets_nobody_in_while_they_move() -> None:
    assert not HOLDING.allows(HoldingState.MOVING, HoldingEvent.PLACE)
    assert not HOLDING.allows(HoldingState.NONE, HoldingEvent.MOVE)
    for state in HoldingState:
        assert HOLDING.edges[state]


async def test_volumes_are_where_their_component_was_placed(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component = await create(world)
    held = holding(world, "db")
    node = world.cluster.first.get(component).node
    assert (held.node, held.state, held.type) == (node, HoldingState.HELD, "db")
    assert held.volumes["data"].size_bytes == 16 * MIB
    assert held.volumes["data"].made
    assert list(world.files[node].whole) == [("db", held.epoch)]


async def test_a_component_of_the_same_name_comes_back_to_them(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    first = await create(world)
    node, epoch = holding(world, "db").node, holding(world, "db").epoch
    for _ in range(4):
        await world.cluster.first.destroy(first)
        first = await create(world)
        assert world.cluster.first.get(first).node == node
        assert holding(world, "db").epoch == epoch
    [mount] = world.cluster[node].containers.table[first].order.volumes
    assert (mount.owner, mount.name, mount.epoch, mount.fresh) == ("db", "data", epoch, False)


async def test_a_new_version_keeps_them_grows_them_and_adds_its_own(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component = await create(world)
    epoch = holding(world, "db").epoch
    await world.cluster.first.destroy(component)
    component = await create(world, "db@2.0.0")
    held = holding(world, "db")
    assert held.epoch == epoch
    assert {n: v.size_bytes >> 20 for n, v in held.volumes.items()} == {"data": 32, "log": 16}
    mounts = world.cluster[held.node].containers.table[component].order.volumes
    assert {m.name: m.fresh for m in mounts} == {"data": False, "log": True}
    await world.cluster.first.destroy(component)
    component = await create(world)  # the old version again: nothing shrinks, nothing is lost
    [mount] = world.cluster[held.node].containers.table[component].order.volumes
    assert mount.size_bytes == 32 * MIB
    assert set(holding(world, "db").volumes) == {"data", "log"}


async def test_another_type_does_not_get_them(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component = await create(world)
    await world.cluster.first.destroy(component)
    with pytest.raises(PlatformError) as refused:
        await create(world, "scratch@1.0.0")
    assert refused.value.code == "conflict"
    assert refused.value.hint == "choose another name, or: paas volumes remove db"
    await create(world, "plain@1.0.0")  # has no volumes: the name is free for it


async def test_components_without_a_name_have_volumes_for_their_own_life(
    autojump_clock: MockClock,
    world: VolumeWorld,
) -> None:
    first, second = await create(world, name=""), await create(world, name="")
    assert holding(world, first).epoch != holding(world, second).epoch
    await world.cluster.first.destroy(first)
    await world.cluster.first.destroy(second)
    overdue = controller_limits.ENDED_KEPT_S + 1
    world.cluster.first.clock.now_ms = lambda: 2_000_000_000_000 + int(overdue * 1000)  # type: ignore[method-assign]
    third = await create(world)
    await world.cluster.first.destroy(third)
    assert [h.owner for h in world.state] == ["db"]


async def test_many_of_one_creation_each_go_to_their_own(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    made = await world.cluster.first.create("db@1.0.0", name="db", count=6)
    nodes = {world.cluster.first.get(c).name: world.cluster.first.get(c).node for c in made}
    assert len(set(nodes.values())) == 3
    for component in made:
        await world.cluster.first.destroy(component)
    await world.cluster.first.create("plain@1.0.0", count=5)  # changes what would be even
    again = await world.cluster.first.create("db@1.0.0", name="db", count=6)
    assert nodes == {
        world.cluster.first.get(c).name: world.cluster.first.get(c).node for c in again
    }


async def test_what_was_planned_elsewhere_is_refused_when_it_is_applied(
    autojump_clock: MockClock,
    world: VolumeWorld,
) -> None:
    component = await create(world)
    await world.cluster.first.destroy(component)
    held = holding(world, "db")
    other = next(n for n in world.cluster.nodes if n != held.node)
    with pytest.raises(PlatformError) as refused:
        await world.cluster.common.log.propose(
            CreateInstances(type="db@1.0.0", nodes=[other], name="db")
        )
    assert refused.value.data["placement"] is True
    assert f"its volumes are on {held.node}" in refused.value.message


async def test_nobody_is_placed_while_they_move(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component = await create(world)
    await world.cluster.first.destroy(component)
    held = holding(world, "db")
    other = next(n for n in world.cluster.nodes if n != held.node)
    for name in world.cluster.nodes:
        world.kill(name)  # nobody carries the move out
    log = world.cluster.common.log
    await log.propose(MoveVolumes(owner="db", epoch=held.epoch, to=other))
    for node in (held.node, other):
        with pytest.raises(PlatformError) as refused:
            await log.propose(CreateInstances(type="db@1.0.0", nodes=[node], name="db"))
        assert "are being moved" in refused.value.message
    with pytest.raises(PlatformError) as refused:
        await create(world)
    assert refused.value.code == "no-placement"
    created = await log.propose(CreateInstances(type="db@1.0.0", nodes=[""], name="db"))
    [waiting] = created["components"]
    assert f"are being moved from {held.node} to {other}" in await _waits(world, waiting)
    ring, number = world.cluster.common.ring, int(waiting[:4], 16)
    assert ring is not None
    place = PlaceInstance(
        component=waiting,
        incarnation=1,
        node=held.node,
        by=ring.primary(number) or "",
        ring_epoch=ring.epoch(number),
    )
    with pytest.raises(PlatformError) as refused:
        await log.propose(place)
    assert "are being moved" in refused.value.message
    await log.propose(MoveVolumes(owner="db", epoch=held.epoch, to=held.node))  # given up
    instance = await world.cluster.first.wait_state(waiting, S.AVAILABLE)
    assert instance.node == held.node


async def _waits(world: VolumeWorld, component: str) -> str:
    for _ in range(200):
        if text := world.cluster.first.get(component).unplaced:
            return text
        await trio.sleep(0.05)
    raise AssertionError("it gives no reason")


async def test_a_copy_counts_only_when_nobody_is_with_the_original(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    await create(world)
    held = holding(world, "db")
    other = next(n for n in world.cluster.nodes if n != held.node)
    for name in world.cluster.nodes:
        world.kill(name)
    log = world.cluster.common.log
    await log.propose(MoveVolumes(owner="db", epoch=held.epoch, to=other))
    moved = VolumesMoved(owner="db", epoch=held.epoch, copy=held.copy, to=other)
    with pytest.raises(PlatformError) as refused:
        await log.propose(moved)
    assert "in use" in refused.value.message
    for wrong in (
        VolumesMoved(owner="db", epoch=held.epoch, copy=held.copy + 1, to=other),
        VolumesMoved(owner="db", epoch=held.epoch - 1, copy=held.copy, to=other),
        VolumesMoved(owner="db", epoch=held.epoch, copy=held.copy, to=held.node),
    ):
        with pytest.raises(PlatformError) as refused:
            await log.propose(wrong)
        assert refused.value.code == "conflict"


async def test_volumes_in_use_are_not_removed_and_others_leave_nothing_behind(
    autojump_clock: MockClock,
    world: VolumeWorld,
) -> None:
    component = await create(world)
    held = holding(world, "db")
    log = world.cluster.common.log
    with pytest.raises(PlatformError) as refused:
        await log.propose(RemoveVolumes(owner="db", epoch=held.epoch))
    assert refused.value.hint == "end it first: paas destroy db"
    await world.cluster.first.destroy(component)
    await log.propose(RemoveVolumes(owner="db", epoch=held.epoch))
    assert world.state.get("db") is None
    old = held.epoch
    await create(world)
    assert holding(world, "db").epoch > old  # what may be left of before is not taken for it


@pytest.mark.parametrize("to", ["n9", "n3"])
async def test_they_move_only_to_a_node_that_takes_them(
    autojump_clock: MockClock, world: VolumeWorld, to: str
) -> None:
    await world.cluster.lose("n3")
    component = await create(world)
    held = holding(world, "db")
    with pytest.raises(PlatformError) as refused:
        await world.cluster.common.log.propose(MoveVolumes(owner="db", epoch=held.epoch, to=to))
    assert refused.value.code == {"n9": "no-such-target", "n3": "conflict"}[to]
    assert world.cluster.first.get(component).state is S.AVAILABLE


async def test_the_section_is_the_same_after_a_snapshot(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    await create(world)
    await create(world, "scratch@1.0.0", "s")
    other = VolumeState()
    other.restore(world.state.snapshot())
    assert other.snapshot() == world.state.snapshot()
    assert len(other) == 2
