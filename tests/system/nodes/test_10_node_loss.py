"""A node dies: what ran on it runs elsewhere, whoever should hear of it does, and it comes back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import Census, DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ACTOR = "actor@1.0.0"
PROGRAM = "actor.py"
ATTEMPTS_MAX = 5
"""On a busy machine an agent may be away for longer than a lease, which is another thing."""


def on(node: str) -> dict[str, Any]:
    return {"constraints": [f"node={node}"]}


def placed_on(cluster: DevCluster, node: str, **more: Any) -> str:
    """A component that is on this node now and may be on any later: the others were cordoned."""
    for other in cluster.names:
        if other != node:
            cluster.api("nodes.cordon", node=other)
    try:
        return cluster.create(ACTOR, **more)
    finally:
        for other in cluster.names:
            if other != node:
                cluster.api("nodes.uncordon", node=other)


def offline(cluster: DevCluster, victim: str, seen_by: str) -> None:
    cluster.until(lambda: cluster.nodes(seen_by)[victim]["state"] == "offline")


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_components_of_a_node_that_dies_are_available_elsewhere(
    cluster: DevCluster, leads: bool
) -> None:
    leader = cluster.leader()
    victim = leader if leads else next(n for n in cluster.names if n != leader)
    others = [name for name in cluster.names if name != victim]
    observer = cluster.create(ACTOR, **on(others[0]))
    component = placed_on(cluster, victim, name="moves", groups=["crew"])
    tied = cluster.create(ACTOR, links=[component], restart="temporary", **on(others[1]))
    brief = cluster.create(ACTOR, restart="temporary", **on(victim))
    before = cluster.component(component)
    life = cluster.call(component, "who")["life"]
    listeners = [cluster.listen(node) for node in others]
    downs = [one.open("controller.monitor", component=component) for one in listeners]
    ends = listeners[0].open("controller.monitor", component=brief)
    watches = [one.open("hub.watch", group="crew") for one in listeners]
    cluster.call(observer, "monitor", component=component)
    with Census([component, brief], program=PROGRAM) as census:
        cluster.kill(victim)
        where = cluster.available(component, besides=victim)
        cluster.until(lambda: cluster.component(brief)["state"] == "destroyed")
    assert where in others
    after = cluster.component(component)
    assert (after["id"], after["name"]) == (before["id"], before["name"])
    assert after["restarts"] == before["restarts"] + 1
    assert cluster.call("moves", "who")["life"] != life
    assert census.most == {component: 1, brief: 1}
    assert len(census.of(component)) == 2
    assert len(census.of(brief)) == 1
    cluster.until(lambda: cluster.component(tied)["state"] == "destroyed")
    for one, down, watch in zip(listeners, downs, watches, strict=True):
        one.events(watch, until=2)
        one.gather(1.0)
        assert [event["reason"] for event in one.events(down)] == ["node-lost"]
        members = [e["event"] for e in one.events(watch) if e["event"] in ("joined", "left")]
        assert members == ["left", "joined"]
    assert [event["reason"] for event in listeners[0].events(ends)] == ["node-lost"]
    assert [e["reason"] for e in cluster.call(observer, "events")["events"]] == ["node-lost"]
    assert cluster.component(brief)["reason"] == "node-lost"
    assert cluster.component(tied)["reason"] == "node-lost"
    for one in listeners:
        one.close()


def test_nothing_of_the_past_runs_on_a_node_that_comes_back(cluster: DevCluster) -> None:
    moved = placed_on(cluster, "n3", name="moved")
    brief = cluster.create(ACTOR, restart="temporary", **on("n3"))
    gone = cluster.create(ACTOR, **on("n3"))
    bound = cluster.create(ACTOR, name="bound", **on("n3"))
    with Census(program=PROGRAM) as census:
        cluster.kill("n3")
        offline(cluster, "n3", "n1")
        cluster.available(moved, besides="n3")
        cluster.api("controller.destroy", component=gone, grace=0.0)
        # The one that may run nowhere else waits, and says why.
        assert cluster.component(bound)["node"] == ""
        cluster.until(lambda: cluster.component(bound)["reason"].startswith("no-placement"))
        cluster.resume("n3")
        cluster.wait_well()
        assert cluster.available(bound) == "n3"
        assert cluster.component(moved)["node"] != "n3"
        assert cluster.component(gone)["state"] == "destroyed"
        assert cluster.component(brief)["state"] == "destroyed"
        assert {mark: census.now(mark) for mark in (moved, bound, gone, brief)} == {
            moved: 1,
            bound: 1,
            gone: 0,
            brief: 0,
        }
    assert len(census.of(gone)) == len(census.of(brief)) == 1
    assert all(most == 1 for most in census.most.values())
    # And it is used again.
    fresh = cluster.api("controller.create", type=ACTOR, count=4, timeout_s=60)["components"]
    assert "n3" in {cluster.component(one)["node"] for one in fresh}


def test_a_node_that_was_off_too_briefly_to_be_lost_starts_its_components_again(
    cluster: DevCluster,
) -> None:
    component = placed_on(cluster, "n2")
    cluster.kill("n2")
    cluster.resume("n2")
    cluster.wait_well()
    cluster.until(lambda: cluster.component(component)["restarts"] >= 1)
    cluster.available(component)
    assert cluster.call(component, "who")["id"] == component


def test_creations_under_way_when_a_node_dies_end_well_or_say_why(cluster: DevCluster) -> None:
    outcomes: list[Any] = []
    first_done = threading.Event()

    def create(node: str, number: int) -> None:
        one = cluster.listen(node)
        try:
            while number < 60 and not stop.is_set():
                name = f"made-{node}-{number}"
                try:
                    made = one.ask("controller.create", type=ACTOR, name=name)["components"][0]
                    outcomes.append((name, made))
                except PlatformError as error:
                    outcomes.append((name, error))
                first_done.set()
                number += 1
        finally:
            one.close()

    stop = threading.Event()
    leader = cluster.leader()
    victim = next(name for name in cluster.names if name != leader)
    staying = [name for name in cluster.names if name != victim]
    threads = [threading.Thread(target=create, args=(node, 0)) for node in staying]
    for thread in threads:
        thread.start()
    try:
        assert first_done.wait(30)
        cluster.kill(victim)
        offline(cluster, victim, leader)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert any(isinstance(made, str) for _, made in outcomes)
    for name, outcome in outcomes:
        if isinstance(outcome, PlatformError):
            # A component whose node was lost while it was waited for, or is still on its way.
            assert outcome.code in ("not-available", "unavailable", "timeout"), outcome
        else:
            assert cluster.available(name) in staying
            assert cluster.component(name)["id"] == outcome


@pytest.mark.parametrize("role", ["hub", "containers", "certificates", "template", "fence"])
def test_components_go_on_when_an_agent_is_killed(cluster: DevCluster, role: str) -> None:
    """Unless it was away for longer than the lease lasted: then they are started anew."""
    victim = next(name for name in cluster.names if name != cluster.leader())
    other = placed_on(cluster, cluster.leader())
    component = cluster.create(ACTOR, **on(victim))
    life = cluster.call(other, "who")["life"]
    with Census([component, other], program=PROGRAM) as census:
        outlived = any(_outlives(cluster, component, victim, role) for _ in range(ATTEMPTS_MAX))
        assert outlived, f"no component outlives the {role}"
        assert cluster.call(other, "who", node=victim)["life"] == life
    assert census.most == {component: 1, other: 1}
    assert cluster.call(cluster.create(ACTOR, **on(victim)), "who")


def test_when_the_node_controller_is_killed_components_go_on_or_are_started_anew(
    cluster: DevCluster,
) -> None:
    """All agents end with it, and are back about when the lease ends."""
    component = cluster.create(ACTOR, **on("n3"))
    with Census([component], program=PROGRAM) as census:
        _outlives(cluster, component, "n3", "node")
    assert census.most == {component: 1}
    assert cluster.call(cluster.create(ACTOR, **on("n3")), "who")


def _outlives(cluster: DevCluster, component: str, node: str, role: str) -> bool:
    """Kill the agent; does the same process go on?  If not, the restart is counted."""
    life = cluster.call(component, "who")["life"]
    restarts = cluster.component(component)["restarts"]
    before = cluster.until(lambda: cluster.agents(node).get(role))
    cluster.kill_agents(node, role)
    if role != "template":  # which is started when it is needed
        cluster.until(lambda: cluster.agents(node).get(role, before) != before)
    cluster.wait_well()
    cluster.available(component)
    kept = bool(cluster.until(lambda: cluster.call(component, "who"))["life"] == life)
    assert kept == (cluster.component(component)["restarts"] == restarts)
    return kept
