"""A node is lost: components with volumes wait for it, or begin empty elsewhere."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from paas.controller.lifecycle import ComponentState as S
from paas.testing.fake_volumes import VolumeWorld
from paas.volume.commands import MoveVolumes, RemoveVolumes
from paas.volume.lifecycle import HoldingState


async def _created(world: VolumeWorld, kind: str, name: str) -> tuple[str, str]:
    [component] = await world.cluster.first.create(kind, name=name)
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE)
    return component, instance.node


async def test_a_component_waits_for_the_node_with_its_volumes(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world, "db@1.0.0", "db")
    epoch = world.state.find("db").epoch
    await world.cluster.lose(node)
    await trio.sleep(10)
    instance = world.cluster.first.get(component)
    assert (instance.state, instance.node) == (S.PREPARING, "")
    assert f"its volumes are on {node}" in instance.unplaced
    assert f"{node}: offline" in instance.unplaced
    await world.cluster.come_back(node)
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node == node
    [mount] = world.cluster[node].containers.table[component].order.volumes
    assert (mount.epoch, mount.fresh) == (epoch, False)


async def test_volumes_that_may_be_lost_begin_empty_elsewhere(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world, "scratch@1.0.0", "s")
    before = world.state.find("s").epoch
    await world.cluster.lose(node)
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node != node
    held = world.state.find("s")
    assert held.node == instance.node
    assert held.epoch > before
    assert ("s", before) in world.files[node].whole
    await world.cluster.come_back(node)
    with trio.fail_after(60):
        while ("s", before) in world.files[node].whole:  # noqa: ASYNC110
            await trio.sleep(0.1)
    assert ("s", held.epoch) in world.files[held.node].whole


async def test_giving_waiting_volumes_up_lets_their_component_begin_anew(
    autojump_clock: MockClock,
    world: VolumeWorld,
) -> None:
    component, node = await _created(world, "db@1.0.0", "db")
    await world.cluster.lose(node)
    await trio.sleep(5)
    held = world.state.find("db")
    await world.cluster.first.view.propose(RemoveVolumes(owner="db", epoch=held.epoch))
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node != node
    await world.cluster.come_back(node)
    await trio.sleep(10)
    assert not world.files[node].whole  # the old copy is dropped when its node is back


async def test_losing_the_goal_of_a_move_leaves_them_where_they_are(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world, "db@1.0.0", "db")
    other = next(n for n in world.cluster.nodes if n != node)
    world.kill(other)
    epoch = world.state.find("db").epoch
    await world.cluster.first.view.propose(MoveVolumes(owner="db", epoch=epoch, to=other))
    await world.cluster[node].wait_state(component, S.PREPARING, incarnation=2)
    await world.cluster.lose(other)
    instance = await world.cluster[node].wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node == node
    held = world.state.find("db")
    assert (held.state, held.epoch, held.to) == (HoldingState.HELD, epoch, "")


async def test_losing_the_source_of_a_move_waits_for_it(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world, "db@1.0.0", "db")
    other = next(n for n in world.cluster.nodes if n != node)
    world.kill(node)
    epoch = world.state.find("db").epoch
    await world.cluster[other].view.propose(MoveVolumes(owner="db", epoch=epoch, to=other))
    await world.cluster.lose(node)
    await trio.sleep(10)
    assert f"from {node} to {other}" in world.cluster[other].get(component).unplaced
    await world.cluster.come_back(node)
    await world.start(node)
    instance = await world.cluster[other].wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node == other
