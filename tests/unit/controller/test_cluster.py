"""Several nodes on virtual time: loss, placing, return, draining, monitors over a take-over."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import limits, messages
from paas.controller.commands import EndInstance, MoveInstance
from paas.controller.lifecycle import ComponentState as S
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode
from paas.testing.controlled_node import ControlledCluster, RecordingPeer
from paas.testing.fake_containers import Behaviour


@pytest.fixture
async def cluster(autojump_clock: MockClock, nursery: trio.Nursery) -> ControlledCluster:
    made = ControlledCluster(nursery)
    await made.start()
    await made["n1"].register()
    return made


async def on_node(
    cluster: ControlledCluster, where: str, count: int = 1, **fields: Any
) -> list[str]:
    """Components on this very node of an empty cluster, that may go elsewhere."""
    made = await cluster.first.create(count=count * len(cluster.nodes), **fields)
    found = []
    for component in made:
        if cluster.first.get(component).node == where:
            found.append(component)
        else:
            await cluster.first.destroy(component)
    return found


# -- loss and placing ------------------------------------------------------------------------------


async def test_components_are_spread_over_the_nodes(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=6)
    nodes = [cluster["n1"].get(c).node for c in created]
    assert sorted(nodes) == ["n1", "n1", "n2", "n2", "n3", "n3"]
    assert cluster.running() == {c: [node] for c, node in zip(created, nodes, strict=True)}


async def test_components_of_a_lost_node_run_elsewhere_soon(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=9, groups=["g"])
    lost = [c for c in created if cluster["n1"].get(c).node == "n3"]
    begin_s = trio.current_time()
    await cluster.lose("n3")
    for component in lost:
        instance = await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
        assert instance.node in ("n1", "n2")
        assert (instance.restarts, instance.reason) == (1, "node-lost")
        [end] = cluster["n1"].ends(component)
        assert (end.incarnation, end.reason, end.will_restart) == (1, "node-lost", True)
    assert trio.current_time() - begin_s < 0.5
    assert sorted(cluster["n1"].groups.members("g")) == sorted(created)
    assert all(len(nodes) == 1 for nodes in cluster.running().values())
    assert not cluster.bugs


async def test_a_temporary_component_ends_with_its_node(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await on_node(cluster, "n3", restart="temporary", name="job")
    await cluster.lose("n3")
    instance = cluster["n1"].get(component)
    assert (instance.state, instance.reason) == (S.DESTROYED, "node-lost")
    assert cluster["n1"].state.instances.holder(instance.name) is None


async def test_without_room_a_component_waits_and_says_why(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = ControlledCluster(nursery, ["n1", "n2"], memory_bytes=64 << 20)
    await cluster.start()
    await cluster["n1"].register()
    created = await cluster["n1"].create(count=8)
    await cluster.lose("n2")
    await trio.sleep(10)
    waiting = [c for c in created if cluster["n1"].get(c).state is S.PREPARING]
    assert len(waiting) == 4
    listed = await cluster["n1"].api.components(
        messages.ListComponents(filter={"node": ""}), cluster["n1"].context()
    )
    assert [info.id for info in listed.components] == waiting
    for info in listed.components:
        assert info.reason.startswith("no-placement: ")
        assert "memory" in info.reason
        assert "n2: offline" in info.reason
    gone = next(c for c in created if c not in waiting)
    await cluster["n1"].destroy(gone)
    await trio.sleep(limits.PLACING_RETRY_S / 2)
    assert len([c for c in waiting if cluster["n1"].get(c).state is S.PREPARING]) == 3
    await cluster.come_back("n2")
    for component in waiting:
        assert (await cluster["n1"].wait_state(component, S.AVAILABLE)).unplaced == ""
    assert not cluster.bugs


async def test_one_that_waits_for_a_node_can_be_destroyed(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(constraints=["node=n3"])
    await cluster.lose("n3")
    await trio.sleep(5)
    assert cluster["n1"].get(created[0]).unplaced.startswith("no-placement: ")
    await cluster["n1"].destroy(created[0])
    assert cluster["n1"].get(created[0]).state is S.DESTROYED


async def test_a_crash_of_the_primary_leaves_placing_to_the_next_one(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=9)
    await cluster["n2"].stop_controller()
    await cluster.lose("n3")
    await trio.sleep(5)
    still = [c for c in created if not cluster["n1"].get(c).node]
    assert still  # those that the stopped hub of n2 decides about
    await cluster.lose("n2")
    for component in created:
        await cluster["n1"].wait_state(component, S.AVAILABLE)
        assert cluster["n1"].get(component).node == "n1"


async def test_creates_from_two_hubs_at_once_never_overfill_a_node(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = ControlledCluster(nursery, ["n1", "n2", "n3"], memory_bytes=64 << 20)
    await cluster.start()
    await cluster["n1"].register()
    made: list[str] = []
    refused: list[str] = []

    async def create(name: str) -> None:
        try:
            made.extend(await cluster[name].create())
        except PlatformError as error:
            refused.append(error.code)

    async with trio.open_nursery() as several:
        for number in range(20):
            several.start_soon(create, f"n{number % 3 + 1}")
    assert len(made) == 12
    assert set(refused) <= {"no-placement", "conflict"}
    state = cluster["n1"].state
    assert [state.loads.count(name) for name in cluster.nodes] == [4, 4, 4]


# -- return ----------------------------------------------------------------------------------------


async def test_a_returning_node_removes_what_runs_elsewhere_by_now(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=6)
    there = [c for c in created if cluster["n1"].get(c).node == "n3"]
    await cluster.lose("n3")
    for component in there:
        await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    assert sorted(cluster["n3"].containers.table) == sorted(there)
    await cluster.come_back("n3")
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert all(cluster["n1"].get(c).incarnation == 2 for c in there)
    assert all(len(nodes) == 1 for nodes in cluster.running().values())
    await cluster["n1"].create(count=3)
    assert len(cluster["n3"].containers.running()) >= 1
    assert not cluster.bugs


async def test_a_returning_node_whose_hub_started_anew_removes_orphans(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    moved, gone = await on_node(cluster, "n3", count=2)
    await cluster["n3"].stop_controller()
    await cluster.lose("n3")
    await cluster["n1"].wait_state(moved, S.AVAILABLE, incarnation=2)
    await cluster["n1"].destroy(gone)
    starts = len(cluster["n3"].containers.starts)
    cluster["n3"].view.come_back()
    await cluster.report("n3")
    cluster["n3"]._make_controller()
    await cluster["n3"].start()
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert len(cluster["n3"].containers.starts) == starts
    assert cluster["n1"].get(gone).state is S.DESTROYED


async def test_what_was_destroyed_and_forgotten_meanwhile_is_not_restarted(
    autojump_clock: MockClock, cluster: ControlledCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    [component] = await on_node(cluster, "n3")
    await cluster.lose("n3")
    await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    monkeypatch.setattr(limits, "ENDED_KEPT_MAX", 0)
    await cluster["n1"].destroy(component)
    assert component not in cluster["n1"].state.instances
    await cluster.come_back("n3")
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert not cluster.bugs


async def test_a_node_that_was_away_but_not_lost_goes_on(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=6)
    cluster["n3"].view.cut_off()
    await trio.sleep(1)
    cluster["n3"].view.come_back()
    await trio.sleep(5)
    assert all(cluster["n1"].get(c).incarnation == 1 for c in created)
    assert len(cluster.running()) == 6
    assert [len(n.containers.starts) for n in cluster.nodes.values()] == [2, 2, 2]
    assert not cluster.bugs


async def test_one_that_comes_back_to_the_same_node_is_started_after_its_past_is_removed(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster["n1"].create(constraints=["node=n3"])
    await cluster.lose("n3")
    await trio.sleep(3)
    await cluster.come_back("n3")
    instance = await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node == "n3"
    assert cluster["n3"].containers.starts == [(component, 1), (component, 2)]
    assert cluster["n3"].containers.table[component].order.incarnation == 2


async def test_a_start_that_is_under_way_on_a_lost_node_is_given_up(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].now = Behaviour(start_s=30)
    [component] = await cluster["n1"].create(constraints=["node!=n1", "node!=n2"], wait="accepted")
    await trio.sleep(1)
    await cluster.declare_lost("n3")  # its hub hears of it at once
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert cluster["n1"].get(component).node == ""


async def test_a_start_of_a_past_incarnation_makes_way_for_the_next_one_on_the_same_node(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].by_incarnation[1] = Behaviour(start_s=30)
    [component] = await cluster["n1"].create(constraints=["node=n3"], wait="accepted")
    await trio.sleep(1)
    cluster["n3"].view.cut_off()
    await cluster.declare_lost("n3")
    await cluster.report("n3")
    await trio.sleep(3)
    instance = cluster["n1"].get(component)
    assert (instance.node, instance.incarnation) == ("n3", 2)
    cluster["n3"].view.come_back()
    await trio.sleep(1)
    assert instance.state is S.AVAILABLE
    assert cluster["n3"].containers.table[component].order.incarnation == 2
    assert not cluster.bugs


# -- emptying a node -------------------------------------------------------------------------------


async def drain(cluster: ControlledCluster, by: str, name: str, **fields: Any) -> messages.Drained:
    timeout_s = fields.pop("timeout_s", 60.0)
    params = messages.DrainNode(node=name, **fields)
    return await cluster[by].api.drain(params, cluster[by].context(timeout_s=timeout_s))


async def test_a_drained_node_is_empty_and_its_components_are_elsewhere(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=30, groups=["g"])
    for component in created:
        cluster["n1"].get(component)
    answer = await drain(cluster, "n1", "n2", grace=3)
    assert (answer.left, answer.components) == (0, {})
    await trio.sleep(5)
    for component in created:
        instance = cluster["n1"].get(component)
        assert (instance.state, instance.restarts) == (S.AVAILABLE, 0)
        assert instance.node in ("n1", "n3")
        assert all(end.reason == "moved" for end in cluster["n1"].ends(component))
    assert not cluster["n2"].containers.table
    assert sorted(cluster["n1"].groups.members("g")) == sorted(created)
    assert {grace for _, grace in cluster["n2"].harnesses.stops} == {3}


async def test_a_drain_moves_a_few_at_a_time_and_never_runs_two_copies(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    for node in cluster.nodes.values():
        node.now = Behaviour(stop_s=1.0, ready_after_s=1.0)
    created = await cluster["n1"].create(count=30)
    fewest = len(created)

    async def watch() -> None:
        nonlocal fewest
        while True:
            assert all(len(nodes) == 1 for nodes in cluster.running().values())
            states = [cluster["n1"].get(c).state for c in created]
            fewest = min(fewest, states.count(S.AVAILABLE))
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        assert (await drain(cluster, "n3", "n1")).left == 0
        nursery.cancel_scope.cancel()
    assert fewest >= 30 - limits.MOVES_MAX


async def test_a_drain_goes_on_when_its_caller_is_gone_and_over_a_restart(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n2"].now = Behaviour(stop_s=2.0)
    created = await cluster["n1"].create(count=30)
    with trio.move_on_after(1):
        await drain(cluster, "n1", "n2")
    assert cluster["n1"].state.loads.count("n2")
    await cluster["n2"].stop_controller()
    cluster["n2"]._make_controller()
    await cluster["n2"].start()
    await trio.sleep(60)
    assert not cluster["n1"].state.loads.count("n2")
    assert all(cluster["n1"].get(c).state is S.AVAILABLE for c in created)


async def test_a_drain_says_at_the_deadline_what_is_left_and_why(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [pinned] = await cluster["n1"].create(constraints=["node=n2"])
    answer = await drain(cluster, "n1", "n2", timeout_s=5)
    assert answer.left == 1
    assert "constraint node=n2 does not hold" in answer.components[pinned]
    assert cluster["n1"].get(pinned).state is S.AVAILABLE
    assert cluster["n1"].get(pinned).incarnation == 1


async def test_a_drain_ends_when_the_node_takes_components_again(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    await cluster["n1"].create(constraints=["node=n2"])
    await drain(cluster, "n1", "n2", timeout_s=5)
    uncordon = ChangeNode(node="n2", event=NodeEvent.MARK_AVAILABLE)
    await cluster["n1"].log.propose(uncordon)
    assert not cluster["n1"].state.drains
    await cluster["n1"].create(count=6)
    await trio.sleep(10)
    assert cluster["n1"].state.loads.count("n2") == 2  # of seven on three nodes


async def test_a_component_that_is_destroyed_while_it_moves_stays_destroyed(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].now = Behaviour(stop_s=5)
    [component] = await on_node(cluster, "n3")
    order = MoveInstance(component=component, incarnation=1, node="n3", grace_s=60)
    await cluster["n1"].log.propose(order)
    assert cluster["n1"].get(component).state is S.STOPPING
    await cluster["n1"].log.propose(EndInstance(component=component, grace_s=60))
    assert (await cluster["n1"].wait_state(component, S.DESTROYED)).reason == "destroyed"


async def test_a_node_that_is_lost_while_it_is_drained_is_done_with(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].now = Behaviour(hangs=True, stop_s=1_000)
    created = await cluster["n1"].create(count=9)
    with trio.move_on_after(2):
        await drain(cluster, "n1", "n3", grace=600)
    await cluster.lose("n3")
    for component in created:
        await cluster["n1"].wait_state(component, S.AVAILABLE)
        assert cluster["n1"].get(component).node != "n3"
    assert not cluster["n1"].state.drains


async def test_an_unknown_node_cannot_be_drained(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    with pytest.raises(PlatformError) as caught:
        await drain(cluster, "n1", "n9")
    assert caught.value.code == "no-such-target"


# -- monitors --------------------------------------------------------------------------------------


async def test_monitors_on_every_node_fire_once_when_a_node_is_lost(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await on_node(cluster, "n3")
    peers = {}
    for name in ("n1", "n2"):
        peers[name] = RecordingPeer()
        params = messages.Monitor(component=component)
        cluster[name].api.monitor(params, cluster[name].context(peers[name]))
    await cluster.lose("n3")
    await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    await cluster.come_back("n3")
    await trio.sleep(5)
    for peer in peers.values():
        assert [e.reason for e in peer.events] == ["node-lost"]


async def test_a_monitor_fires_once_when_its_hub_missed_the_end(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await on_node(cluster, "n3")
    peer, late = RecordingPeer(), RecordingPeer()
    params = messages.Monitor(component=component)
    cluster["n1"].api.monitor(params, cluster["n1"].context(peer))
    cluster["n1"].view.cut_off()
    cluster["n3"].containers.end(component, "exit:3")
    await cluster["n2"].wait_state(component, S.AVAILABLE, incarnation=2)
    assert not peer.events
    cluster["n1"].api.monitor(params, cluster["n1"].context(late))
    cluster["n1"].view.come_back()
    assert [e.reason for e in peer.events] == ["exit:3"]
    assert not late.events  # it is about the incarnation that runs
    cluster["n1"].view.come_back()
    cluster["n3"].containers.end(component, "exit:4")
    await cluster["n2"].wait_state(component, S.AVAILABLE, incarnation=3)
    assert [e.reason for e in peer.events] == ["exit:3"]
    assert [e.reason for e in late.events] == ["exit:4"]


async def test_a_monitor_of_one_that_is_forgotten_meanwhile_says_unknown(
    autojump_clock: MockClock, cluster: ControlledCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    [component] = await on_node(cluster, "n3")
    peer = RecordingPeer()
    params = messages.Monitor(component=component)
    cluster["n1"].api.monitor(params, cluster["n1"].context(peer))
    cluster["n1"].view.cut_off()
    monkeypatch.setattr(limits, "ENDED_KEPT_MAX", 0)
    await cluster["n2"].destroy(component)
    cluster["n1"].view.come_back()
    assert [e.reason for e in peer.events] == ["unknown"]


async def test_a_monitor_between_two_incarnations_is_about_the_next_one(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await on_node(cluster, "n3")
    cluster["n3"].containers.go_down()
    node = cluster["n3"]
    node.containers.end(component, "exit:1")
    node.harnesses.detach(component)
    await cluster.declare_lost("n2")
    peer = RecordingPeer()
    order = MoveInstance(component=component, incarnation=1, node="n3", grace_s=0)
    await node.log.propose(order)
    node.containers.come_up()
    await node.wait_state(component, S.DESTROYING)
    result = node.api.monitor(messages.Monitor(component=component), node.context(peer))
    assert result.incarnation == 2
    await node.log.propose(EndInstance(component=component))
    await node.wait_state(component, S.DESTROYED)
    assert [e.reason for e in peer.events] == ["moved"]


async def test_an_end_that_is_told_late_does_not_fire_a_monitor_of_the_next_incarnation(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await on_node(cluster, "n3")
    node, peer = cluster["n1"], RecordingPeer()
    cluster["n3"].containers.end(component, "exit:1")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    [late] = node.ends(component)
    node.api.monitor(messages.Monitor(component=component), node.context(peer))
    node.controller.state_changed(late.index, [late])
    assert not peer.events
    cluster["n3"].containers.end(component, "exit:2")
    await node.wait_state(component, S.AVAILABLE, incarnation=3)
    assert [e.reason for e in peer.events] == ["exit:2"]


async def test_a_monitor_renewed_at_a_replica_that_is_behind_waits_for_its_own_incarnation(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await on_node(cluster, "n3")
    node, peer = cluster["n1"], RecordingPeer()
    params = messages.Monitor(component=component, incarnation=2)
    assert node.api.monitor(params, node.context(peer)).incarnation == 2
    cluster["n3"].containers.end(component, "exit:1")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    assert not peer.events
    await cluster.lose("n3")
    assert [e.reason for e in peer.events] == ["node-lost"]


async def test_every_monitor_fires_once_while_nodes_come_and_go(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    chance = random.Random(7)
    await cluster["n1"].register(max_restarts=1_000)
    created = await cluster["n1"].create(count=12)
    expected: list[tuple[RecordingPeer, int]] = []
    for _ in range(40):
        for name in ("n1", "n2", "n3"):
            node, component = cluster[name], chance.choice(created)
            peer = RecordingPeer()
            result = node.api.monitor(messages.Monitor(component=component), node.context(peer))
            expected.append((peer, result.watch))
        victim = chance.choice(["n2", "n3"])
        kind = chance.choice(["lose", "end", "away"])
        if kind == "lose":
            await cluster.lose(victim)
            await trio.sleep(chance.random())
            await cluster.come_back(victim)
        elif kind == "away":
            cluster[victim].view.cut_off()
            for component in cluster["n1"].containers.running()[:2]:
                cluster["n1"].containers.end(component, "exit:1")
            await trio.sleep(chance.random())
            cluster[victim].view.come_back()
        else:
            for component in cluster[victim].containers.running()[:2]:
                cluster[victim].containers.end(component, "exit:1")
        await trio.sleep(chance.random())
    for component in created:
        await cluster["n1"].destroy(component, grace=1)
    await trio.sleep(5)
    for peer, watch in expected:
        assert [e.watch for e in peer.events] == [watch]
    assert not cluster.running()
    assert all(len(node.watches) == 0 for node in cluster.nodes.values())
    assert not cluster.bugs


# -- what only the node itself knows ---------------------------------------------------------------


async def test_figures_of_other_nodes_are_asked_for_once_a_second(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    await cluster["n1"].create(count=6)
    for _ in range(3):
        listed = await cluster["n1"].api.components(
            messages.ListComponents(), cluster["n1"].context()
        )
        assert [info.memory for info in listed.components] == [4096] * 6
        assert all(info.pid for info in listed.components)
    assert [n.containers.stats_asked for n in cluster.nodes.values()] == [1, 1, 1]
    cluster["n3"].view.cut_off()
    await trio.sleep(2)
    listed = await cluster["n1"].api.components(messages.ListComponents(), cluster["n1"].context())
    known = {info.node: info.memory for info in listed.components}
    assert known == {"n1": 4096, "n2": 4096, "n3": None}


async def test_only_nodes_whose_components_are_shown_are_asked(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    await cluster["n1"].create(count=6)
    params = messages.ListComponents(filter={"node": "n2"})
    await cluster["n1"].api.components(params, cluster["n1"].context())
    assert [n.containers.stats_asked for n in cluster.nodes.values()] == [0, 1, 0]


async def test_terminate_reaches_a_component_of_another_node(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].now = Behaviour(refuses="busy")
    [component] = await on_node(cluster, "n3")
    params = messages.TerminateComponent(component=component)
    answer = await cluster["n1"].api.terminate(params, cluster["n1"].context())
    assert (answer.accepted, answer.reason) == (False, "busy")
    cluster["n3"].containers.table[component].behaviour = Behaviour()
    assert (await cluster["n1"].api.terminate(params, cluster["n1"].context())).accepted
    assert (await cluster["n1"].wait_state(component, S.DESTROYED)).reason == "normal"


async def test_terminate_of_what_is_out_of_reach_is_not_available(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster["n1"].create(constraints=["node=n3"])
    cluster.cut_off("n3")
    params = messages.TerminateComponent(component=component)
    for is_lost in (False, True):
        if is_lost:
            await cluster.declare_lost("n3")
        with pytest.raises(PlatformError) as caught:
            await cluster["n1"].api.terminate(params, cluster["n1"].context())
        assert caught.value.code == "not-available"


async def test_reads_of_a_node_that_is_cut_off_say_how_old_they_are(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster["n1"].create()
    for cut_off, expected in ((False, None), (True, 1.5)):
        if cut_off:
            cluster["n2"].view.cut_off()
        api, context = cluster["n2"].api, cluster["n2"].context()
        assert (await api.components(messages.ListComponents(), context)).stale_s == expected
        described = await api.component(messages.DescribeComponent(component=component), context)
        assert described.stale_s == expected
        assert api.types(messages.ListTypes(), context).stale_s == expected
        assert api.status(messages.Status(), context).stale_s == expected
