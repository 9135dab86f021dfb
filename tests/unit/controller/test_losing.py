"""Loss of nodes, placing and moving, in the cluster state: examples, and random histories."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base import ids
from paas.base.errors import PlatformError
from paas.controller import commands, placing
from paas.controller.admission import node_view
from paas.controller.lifecycle import ComponentEvent, ComponentState
from paas.controller.loads import UNPLACED
from paas.controller.messages import (
    ComponentChanged,
    ComponentPlaced,
    EmptyingChanged,
)
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode, NodeStorage
from paas.scheduler.limits import MEMORY_OVERCOMMIT
from paas.testing.replica_with_nodes import NEED, ReplicaWithNodes

E, S = ComponentEvent, ComponentState


def refused(code: str) -> Any:
    return pytest.raises(PlatformError, match=rf"\[{code}\]")


@pytest.fixture
def world() -> ReplicaWithNodes:
    return ReplicaWithNodes("n1", "n2", "n3")


# -- a node is lost ------------------------------------------------------------------------------


def test_a_lost_node_ends_what_runs_there_and_nothing_else(world: ReplicaWithNodes) -> None:
    there, other = world.available("n3", "n1", groups=["g"])
    world.lose("n3")
    [end] = world.ends(there)
    assert (end.incarnation, end.reason, end.will_restart) == (1, "node-lost", True)
    instance = world.at(there)
    assert (instance.state, instance.node, instance.incarnation) == (S.PREPARING, "", 2)
    assert (instance.restarts, instance.ends_ms, instance.attempt) == (1, [], 0)
    assert instance.endpoints == {}
    assert world.groups.members("g") == [other]
    assert world.at(other).state is S.AVAILABLE
    states = [e.state for e in world.events if isinstance(e, ComponentChanged)]
    assert states == ["destroying", "preparing"]


def test_a_node_that_was_rebooted_before_anybody_missed_it_has_lost_all(
    world: ReplicaWithNodes,
) -> None:
    world.join("n3", boot="first")
    there, other = world.available("n3", "n1")
    [placed] = world.create("n3")  # its container may have run already, and nobody heard of it
    world.join("n3", boot="first")  # only the hub began anew
    assert world.at(there).state is S.AVAILABLE
    world.join("n3", boot="second")
    for component in (there, placed):
        [end] = world.ends(component)
        assert (end.incarnation, end.reason, end.will_restart) == (1, "node-lost", True)
        assert (world.at(component).node, world.at(component).incarnation) == ("", 2)
    assert world.at(other).state is S.AVAILABLE
    world.join("n3", boot="second")
    assert len(world.ends(there)) == 1


@pytest.mark.parametrize(
    ("restart", "state"),
    [("permanent", S.PREPARING), ("transient", S.PREPARING), ("temporary", S.DESTROYED)],
)
def test_what_follows_a_loss_depends_on_the_policy(
    world: ReplicaWithNodes, restart: str, state: ComponentState
) -> None:
    [component] = world.available("n3", restart=restart)
    world.lose("n3")
    assert world.at(component).state is state


def test_losses_never_exhaust_the_restart_intensity(world: ReplicaWithNodes) -> None:
    [component] = world.available("n3")
    for _ in range(20):
        world.lose("n3")
        world.join("n3")
        world.place(component, "n3")
        world.change(component, E.READY)
    assert (world.at(component).incarnation, world.at(component).restarts) == (21, 20)


def test_every_state_of_a_life_is_concluded_by_the_loss(world: ReplicaWithNodes) -> None:
    preparing, starting, stopping, agreed, restarting, failing, ending = world.create(*["n3"] * 7)
    world.change(starting, E.STARTED)
    for component in (stopping, agreed, restarting, failing, ending):
        world.change(component, E.READY)
    world.apply(commands.EndInstance(component=stopping))
    world.apply(commands.EndInstance(component=agreed, mode="terminate"))
    world.change(restarting, E.EXITED, reason="exit:1")
    world.change(failing, E.EXITED, reason="start-failed:x", fatal=True)
    world.apply(commands.EndInstance(component=ending))
    world.change(ending, E.EXITED)
    world.lose("n3")
    expected = {
        preparing: S.PREPARING,
        starting: S.PREPARING,
        stopping: S.DESTROYED,
        agreed: S.DESTROYED,
        restarting: S.PREPARING,
        failing: S.FAILED,
        ending: S.DESTROYED,
    }
    assert {c: world.at(c).state for c in expected} == expected
    assert all(len(world.ends(c)) == 1 for c in expected)
    assert world.ends(restarting)[0].reason == "exit:1"
    assert world.ends(stopping)[0].reason == "node-lost"
    assert world.state.loads.on("n3") == []


def test_links_fall_once_also_when_both_ends_are_lost(world: ReplicaWithNodes) -> None:
    a, b, c = world.available("n3", "n3", "n1")
    for peer in (b, c):
        world.apply(commands.LinkInstances(a=a, b=peer))
    world.lose("n3")
    assert [e.reason for e in world.ends(a) + world.ends(b)] == ["node-lost"] * 2
    assert world.at(a).incarnation == world.at(b).incarnation == 2
    assert (world.at(c).state, world.at(c).because) == (S.STOPPING, a)
    world.change(c, E.EXITED, reason="signal:SIGTERM")
    [end] = world.ends(c)
    assert (end.reason, end.because) == ("node-lost", a)


def test_one_that_was_falling_already_starts_no_second_wave(world: ReplicaWithNodes) -> None:
    a, b = world.available("n1", "n3")
    world.apply(commands.LinkInstances(a=a, b=b))
    world.change(a, E.EXITED, reason="exit:1")
    world.change(a, E.RESTART)
    world.change(a, E.READY)
    assert world.at(b).state is S.STOPPING
    world.lose("n3")
    assert [e.reason for e in world.ends(b)] == ["node-lost"]
    assert (world.at(a).state, world.at(a).incarnation) == (S.AVAILABLE, 2)


def test_one_that_falls_while_it_waits_for_a_node_is_done_at_once(world: ReplicaWithNodes) -> None:
    [waits] = world.create("")
    [other] = world.available("n1", links=[waits])
    world.change(other, E.EXITED, reason="exit:1")
    assert (world.at(waits).state, world.at(waits).incarnation) == (S.PREPARING, 2)
    assert [e.because for e in world.ends(waits)] == [other]


def test_what_an_agent_of_a_lost_node_says_late_changes_nothing(world: ReplicaWithNodes) -> None:
    [component] = world.available("n3")
    world.lose("n3")
    state = world.state.snapshot()
    for event in (E.EXITED, E.RESTART, E.READY, E.CLEARED):
        for incarnation in (1, 2):
            with refused("conflict"):
                world.change(component, event, incarnation=incarnation)
    assert world.state.snapshot() == state


def test_one_that_waits_for_a_node_is_destroyed_at_once(world: ReplicaWithNodes) -> None:
    [component] = world.create("", name="ada")
    world.apply(commands.EndInstance(component=component))
    assert (world.at(component).state, world.at(component).reason) == (S.DESTROYED, "destroyed")
    assert world.state.instances.holder("ada") is None
    assert world.state.loads.count(UNPLACED) == 0


# -- placing -------------------------------------------------------------------------------------


def test_an_incarnation_is_placed_once(world: ReplicaWithNodes) -> None:
    [component] = world.create("")
    world.place(component, "n2")
    [event] = world.events
    assert isinstance(event, ComponentPlaced)
    assert (event.component, event.incarnation, event.node) == (component, 1, "n2")
    with refused("conflict"):
        world.place(component, "n3")
    world.lose("n2")
    with refused("conflict"):
        world.place(component, "n3", incarnation=1)
    world.place(component, "n3")


def test_only_the_present_primary_places(world: ReplicaWithNodes) -> None:
    [component] = world.create("")
    number = ids.virtual_node(ids.Id(component))
    primary, epoch = world.ring.primary(number), world.ring.epoch(number)
    stranger = next(n for n in ("n1", "n2", "n3") if n != primary)
    for by, ring_epoch in ((stranger, epoch), (primary, epoch - 1), (primary, epoch + 1)):
        with refused("conflict"):
            world.place(component, "n1", by=by, ring_epoch=ring_epoch)
    world.join("n4")
    with refused("conflict"):
        world.place(component, "n1", by=primary, ring_epoch=epoch)
    assert world.at(component).node == ""
    world.place(component, "n1")


def test_nodes_that_take_nothing_are_refused(world: ReplicaWithNodes) -> None:
    [component] = world.create("")
    world.apply(ChangeNode(node="n1", event=NodeEvent.MARK_UNAVAILABLE))
    world.lose("n2")
    for node in ("n1", "n2", "n9"):
        with refused("conflict"):
            world.place(component, node)
        with pytest.raises(PlatformError, match="placement is out of date") as caught:
            world.create(node)
        assert caught.value.data["placement"] is True
    world.create("n3")


def test_a_node_is_never_overfilled_whoever_planned(world: ReplicaWithNodes) -> None:
    room = int(4 * NEED / MEMORY_OVERCOMMIT)
    small = ReplicaWithNodes("n1", "n2", memory_bytes=room)
    first = small.create("n1", "n1", "n1")
    with refused("conflict"):
        small.create("n1", "n1")
    small.create("n1")
    [waits] = small.create("")
    with refused("conflict"):
        small.place(waits, "n1")
    small.apply(commands.EndInstance(component=first[0]))
    with refused("conflict"):
        small.place(waits, "n1")  # it is not cleared yet
    small.change(first[0], E.CLEARED)
    small.place(waits, "n1")


def test_that_there_is_no_node_is_written_down_and_forgotten_when_there_is(
    world: ReplicaWithNodes,
) -> None:
    [component] = world.create("")
    world.place(component, "", reason="no-placement: full")
    assert (world.at(component).unplaced, world.events) == ("no-placement: full", [])
    world.place(component, "n1")
    assert world.at(component).unplaced == ""


def test_a_plan_is_for_what_this_node_decides_about(world: ReplicaWithNodes) -> None:
    created = world.create(*[""] * 30)
    nodes = [node_view(node) for node in world.register.nodes()]
    plans = {n: placing.plan(world.state, nodes, n, world.ring) for n in ("n1", "n2", "n3")}
    planned = [order.component for orders in plans.values() for order in orders]
    assert sorted(planned) == sorted(created)
    for orders in plans.values():
        for order in orders:
            world.apply(order)
    counts = [world.state.loads.count(n) for n in ("n1", "n2", "n3")]
    assert sum(counts) == 30
    assert world.state.loads.count(UNPLACED) == 0


def test_a_plan_spreads_and_writes_a_reason_once(world: ReplicaWithNodes) -> None:
    created = world.create(*[""] * 4)
    nodes = [node_view(node) for node in world.register.nodes()[:2]]
    orders = placing.plan(world.state, nodes, "n1", None)
    assert sorted(order.node for order in orders) == ["n1", "n1", "n2", "n2"]
    orders = placing.plan(world.state, [], "n1", None)
    assert {order.reason for order in orders} == {
        "no-placement: no node can take greeter@1.0.0: the cluster has no node"
    }
    for component in created:
        world.place(component, "", reason=orders[0].reason)
    assert placing.plan(world.state, [], "n1", None) == []


def test_a_node_with_a_full_disk_is_left_out_and_keeps_what_it_has(
    world: ReplicaWithNodes,
) -> None:
    [there] = world.available("n1")
    [waits] = world.create("", constraints=["node=n1"])
    for name in ("n1", "n2"):
        record = world.register.get(name)
        assert record is not None
        world.apply(NodeStorage(node=name, epoch=record.epoch, full=True))
    with pytest.raises(PlatformError, match="n1: disk full"):
        world.create("n1")
    [free] = world.create("")
    nodes = [node_view(node) for node in world.register.nodes()]
    orders = {o.component: o for o in placing.plan(world.state, nodes, "n3", None)}
    assert orders[free].node == "n3"
    assert orders[waits].node == ""
    assert "n1: disk full; n2: disk full" in orders[waits].reason
    assert (world.at(there).state, world.at(there).node) == (S.AVAILABLE, "n1")


# -- moving --------------------------------------------------------------------------------------


def test_a_move_stops_and_begins_anew_without_a_node(world: ReplicaWithNodes) -> None:
    [component] = world.available("n1", groups=["g"])
    world.move(component, grace_s=7.0)
    assert (world.at(component).state, world.at(component).grace_s) == (S.STOPPING, 7.0)
    with refused("conflict"):
        world.place(component, "n2")  # the old copy has not ended
    world.change(component, E.EXITED, reason="exit:143")
    [end] = world.ends(component)
    assert (end.reason, end.will_restart) == ("moved", True)
    assert world.groups.members("g") == []
    world.change(component, E.RESTART)
    instance = world.at(component)
    assert (instance.node, instance.incarnation, instance.restarts) == ("", 2, 0)
    assert (instance.moving, instance.mode, instance.ends_ms) == (False, "", [])
    world.place(component, "n2")
    world.change(component, E.READY)
    assert world.groups.members("g") == [component]


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_whatever_the_policy_a_moved_component_goes_on(
    world: ReplicaWithNodes, restart: str
) -> None:
    [component] = world.available("n1", restart=restart)
    world.move(component)
    world.change(component, E.EXITED, reason="exit:1")
    world.change(component, E.RESTART)
    assert (world.at(component).state, world.at(component).node) == (S.PREPARING, "")


def test_linked_components_do_not_mind_a_move(world: ReplicaWithNodes) -> None:
    a, b = world.available("n1", "n2")
    world.apply(commands.LinkInstances(a=a, b=b))
    world.move(a)
    world.change(a, E.EXITED, reason="signal:SIGKILL")
    assert world.at(b).state is S.AVAILABLE


def test_one_that_is_restarted_anyway_moves_with_that(world: ReplicaWithNodes) -> None:
    [ended] = world.available("n1")
    [starting] = world.create("n1")
    world.change(ended, E.EXITED, reason="exit:1")
    for component in (ended, starting):
        world.move(component)
        world.change(component, E.RESTART)
        assert world.at(component).node == ""
    assert [e.reason for e in world.ends(ended)] == ["exit:1"]
    assert [e.reason for e in world.ends(starting)] == ["moved"]


def test_a_move_is_for_the_incarnation_and_the_node_that_were_seen(world: ReplicaWithNodes) -> None:
    [component] = world.available("n1")
    for fields in ({"incarnation": 2}, {"node": "n2"}, {"node": ""}):
        with refused("conflict"):
            world.move(component, **fields)
    with refused("invalid"):
        world.move(component, grace_s=-1.0)
    world.apply(commands.EndInstance(component=component))
    with refused("not-available"):
        world.move(component)


def test_destroying_overtakes_a_move(world: ReplicaWithNodes) -> None:
    for late in (False, True):
        [component] = world.available("n1")
        world.move(component)
        if late:
            world.change(component, E.EXITED)
        world.apply(commands.EndInstance(component=component))
        if not late:
            world.change(component, E.EXITED)
        world.change(component, E.CLEARED)
        assert world.at(component).state is S.DESTROYED


# -- emptying a node -----------------------------------------------------------------------------


def test_a_node_is_emptied_only_while_it_takes_nothing_new(world: ReplicaWithNodes) -> None:
    order = commands.EmptyNode(node="n1", grace_s=3.0)
    with refused("conflict"):
        world.apply(order)
    with refused("no-such-target"):
        world.apply(commands.EmptyNode(node="n9"))
    world.apply(ChangeNode(node="n1", event=NodeEvent.MARK_UNAVAILABLE))
    with refused("invalid"):
        world.apply(commands.EmptyNode(node="n1", grace_s=-1.0))
    assert world.apply(order) == {"left": 0}
    assert world.events == [EmptyingChanged(node="n1", emptying=True)]
    assert world.state.drains == {"n1": 3.0}
    world.apply(ChangeNode(node="n1", event=NodeEvent.MARK_AVAILABLE))
    assert world.events[-1] == EmptyingChanged(node="n1", emptying=False)
    assert world.state.drains == {}


def test_a_lost_node_is_not_emptied_any_more(world: ReplicaWithNodes) -> None:
    world.apply(ChangeNode(node="n1", event=NodeEvent.MARK_UNAVAILABLE))
    world.apply(commands.EmptyNode(node="n1"))
    world.lose("n1")
    assert world.state.drains == {}


# -- the whole -----------------------------------------------------------------------------------


def test_a_taken_over_state_has_the_same_sums_and_answers(world: ReplicaWithNodes) -> None:
    world.available("n1", "n2", "n3", "n3")
    world.apply(ChangeNode(node="n1", event=NodeEvent.MARK_UNAVAILABLE))
    world.apply(commands.EmptyNode(node="n1", grace_s=3.0))
    world.lose("n3")
    again = ReplicaWithNodes("n1", "n2", "n3")
    again.machine.restore_bytes(world.machine.snapshot_bytes())
    assert again.state.loads.copy() == world.state.loads.copy()
    assert again.state.loads.on(UNPLACED) == world.state.loads.on(UNPLACED)
    assert again.state.drains == world.state.drains
    assert again.machine.snapshot_bytes() == world.machine.snapshot_bytes()
