"""Moves and their faults: whatever fails and whenever, one copy counts and nothing is lost."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller.commands import EmptyNode
from paas.controller.lifecycle import ComponentState as S
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode, RemoveNode
from paas.testing.fake_volumes import VolumeWorld
from paas.volume import messages
from paas.volume.commands import MoveVolumes
from paas.volume.lifecycle import HoldingState

CONTENT = {0: b"a" * 64, 65_536: b"b" * 64, 1 << 20: b"c"}
OPERATIONS = ("copies", "digest", "begin", "read", "write", "keep", "drop")


async def _created(world: VolumeWorld, kind: str = "db@1.0.0", name: str = "db") -> tuple[str, str]:
    [component] = await world.cluster.first.create(kind, name=name)
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE)
    held = world.state.find(name)
    for image in world.files[held.node].whole[name, held.epoch].values():
        image.content = dict(CONTENT)
    return component, instance.node


async def _move(world: VolumeWorld, to: str, owner: str = "db") -> None:
    epoch = world.state.find(owner).epoch
    await world.cluster.first.view.propose(MoveVolumes(owner=owner, epoch=epoch, to=to))


async def _settled(world: VolumeWorld, owner: str = "db") -> None:
    """Until they are held, and every node has dropped what does not count."""
    with trio.fail_after(600):
        while True:
            held = world.state.find(owner)
            copies = {(node, key) for node, f in world.files.items() for key in f.whole}
            copies |= {(node, key) for node, f in world.files.items() for key in f.incoming}
            if held.state is HoldingState.HELD and copies == {(held.node, (owner, held.epoch))}:
                return
            await trio.sleep(0.1)


def _other(world: VolumeWorld, node: str) -> str:
    return next(name for name in world.cluster.nodes if name != node)


async def test_a_move_brings_content_and_component(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world)
    goal, before = _other(world, node), world.state.find("db").epoch
    await _move(world, goal)
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    held = world.state.find("db")
    assert (instance.node, held.node, instance.restarts) == (goal, goal, 0)
    assert held.epoch > before
    assert world.files[goal].whole["db", held.epoch]["data"].content == CONTENT
    await _settled(world)
    assert not world.troubles


async def test_volumes_that_nobody_uses_move_too(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world)
    await world.cluster.first.destroy(component)
    goal = _other(world, node)
    await _move(world, goal)
    await _settled(world)
    assert world.state.find("db").node == goal
    component, where = await _created(world)
    assert where == goal


async def test_a_move_back_gives_it_up(autojump_clock: MockClock, world: VolumeWorld) -> None:
    component, node = await _created(world)
    goal = _other(world, node)
    world.files[goal].before = _refuse("write")
    await _move(world, goal)
    await world.cluster.first.wait_state(component, S.PREPARING, incarnation=2)
    await trio.sleep(3)
    epoch = world.state.find("db").epoch
    await _move(world, node)
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    assert (instance.node, world.state.find("db").epoch) == (node, epoch)
    world.files[goal].before = lambda _operation: None
    await _settled(world)
    assert world.files[node].whole["db", epoch]["data"].content == CONTENT


def _refuse(which: str):  # type: ignore[no-untyped-def]
    def refuse(operation: str) -> None:
        if operation == which:
            raise PlatformError("storage-full")

    return refuse


@pytest.mark.parametrize("end", ["source", "goal"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("turn", [1, 2, 3])
async def test_a_hub_that_dies_at_any_step_loses_nothing(
    autojump_clock: MockClock, world: VolumeWorld, end: str, operation: str, turn: int
) -> None:
    component, node = await _created(world)
    goal = _other(world, node)
    victim = {"source": node, "goal": goal}[end]
    left = [turn]

    def before(now: str) -> None:
        if now == operation and left[0]:
            left[0] -= 1
            if not left[0]:
                world.kill(victim)

    world.files[victim].before = before
    await _move(world, goal)
    with trio.move_on_after(30):
        await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    world.files[victim].before = lambda _now: None
    if not left[0]:
        await world.start(victim)
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    await _settled(world)
    held = world.state.find("db")
    assert instance.node == held.node == goal
    assert world.files[goal].whole["db", held.epoch]["data"].content == CONTENT
    assert world.cluster.running() == {component: [goal]}


async def test_a_copy_that_is_not_like_the_original_never_counts(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world)
    goal = _other(world, node)
    files = world.files[goal]
    spoilt = [2]

    def spoil(operation: str) -> None:
        if operation == "keep" and spoilt[0]:
            spoilt[0] -= 1
            for copy in files.incoming.values():
                copy["data"].content[0] = b"x" * 64

    files.before = spoil
    await _move(world, goal)
    await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    held = world.state.find("db")
    assert files.whole["db", held.epoch]["data"].content == CONTENT
    assert sum("not like the original" in text for text in world.troubles) == 2


async def test_a_node_that_is_emptied_sends_its_volumes_away(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world)
    idle, where = await _created(world, name="idle")
    await world.cluster.first.destroy(idle)
    if where != node:
        await _move(world, node, "idle")
        with trio.fail_after(60):
            while world.state.find("idle").node != node:  # noqa: ASYNC110
                await trio.sleep(0.1)
    log = world.cluster.common.log
    await log.propose(ChangeNode(node=node, event=NodeEvent.MARK_UNAVAILABLE))
    await log.propose(EmptyNode(node=node, grace_s=1.0))
    instance = await world.cluster.first.wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node != node
    with trio.fail_after(600):
        while world.files[node].whole:  # noqa: ASYNC110
            await trio.sleep(0.1)
    for owner in ("db", "idle"):
        held = world.state.find(owner)
        assert held.node != node
        assert world.files[held.node].whole[owner, held.epoch]["data"].content == CONTENT


async def test_what_is_used_and_copied_is_told(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    _component, node = await _created(world)
    asked = _other(world, node)
    api, context = world.apis[asked], world.cluster[asked].context()
    shown = await api._show(messages.ShowVolumes(owner="db"), context)
    [volume] = shown.volumes
    assert (volume.node, volume.state, volume.used) == (node, "held", 129)
    assert volume.component
    listed = api._list(messages.ListVolumes(node=node), context)
    assert [v.owner for v in listed.volumes] == ["db"]
    assert not api._list(messages.ListVolumes(node=asked), context).volumes
    with pytest.raises(PlatformError) as refused:
        await api._show(messages.ShowVolumes(owner="nobody"), context)
    assert refused.value.code == "no-such-target"


async def test_content_is_handed_out_for_a_move_only(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    _component, node = await _created(world)
    held, context = world.state.find("db"), world.cluster[node].context()
    ask = messages.GetPiece(owner="db", epoch=held.epoch, volume="data", offset=0, limit=1)
    with pytest.raises(PlatformError) as refused:
        await world.apis[node]._piece(ask, context)
    assert refused.value.code == "conflict"


async def test_a_node_is_not_removed_while_it_has_the_only_copy(
    autojump_clock: MockClock, world: VolumeWorld
) -> None:
    component, node = await _created(world)
    await world.cluster.first.destroy(component)
    log = world.cluster.common.log
    with pytest.raises(PlatformError) as refused:
        await log.propose(RemoveNode(node=node))
    assert "volumes of 1 components" in refused.value.message
    await _move(world, _other(world, node))
    await _settled(world)
    await log.propose(RemoveNode(node=node))
