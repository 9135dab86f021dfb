"""Several nodes on virtual time: monitors, and what only a component's node knows."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import limits, messages
from paas.controller.commands import EndInstance, MoveInstance
from paas.controller.lifecycle import ComponentState as S
from paas.testing.controlled_node import ControlledCluster, RecordingPeer
from paas.testing.fake_containers import Behaviour

# -- monitors -------------------------------------------------------------------------------------


async def test_monitors_on_every_node_fire_once_when_a_node_is_lost(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster.on_node("n3")
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
    [component] = await cluster.on_node("n3")
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
    [component] = await cluster.on_node("n3")
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
    [component] = await cluster.on_node("n3")
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
    [component] = await cluster.on_node("n3")
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
    [component] = await cluster.on_node("n3")
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


# -- what only the node itself knows --------------------------------------------------------------


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
    [component] = await cluster.on_node("n3")
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
