"""Components of three nodes speak, join, watch and end each other as if they were on one."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ACTOR = "actor@1.0.0"


def spread(cluster: DevCluster, **more: Any) -> list[str]:
    """One component on each node, in the order of the nodes."""
    return [cluster.create(ACTOR, constraints=[f"node={node}"], **more) for node in cluster.names]


def ask(cluster: DevCluster, component: str, method: str, /, **params: Any) -> dict[str, Any]:
    """A method of the component API, called by this component: `result` or `error`."""
    found: dict[str, Any] = cluster.call(component, "ask", method=method, params=params)
    return found


def test_three_voters_and_one_leader_as_every_hub_sees_it(cluster: DevCluster) -> None:
    seen = [cluster.nodes(node) for node in cluster.names]
    for found in seen:
        assert sorted(facts["role"] for facts in found.values()) == ["leader", "voter", "voter"]
    assert len({str({n: f["role"] for n, f in found.items()}) for found in seen}) == 1
    assert sum(facts["virtual_nodes"] for facts in seen[0].values()) == 4096


def test_components_without_constraints_are_spread(cluster: DevCluster) -> None:
    created = cluster.api("controller.create", type=ACTOR, count=6, timeout_s=60)["components"]
    assert sorted(cluster.component(c)["node"] for c in created) == sorted(2 * cluster.names)
    assert [f["components"] for f in cluster.nodes("n2").values()] == [2, 2, 2]


def test_calls_reach_every_node_from_every_node(cluster: DevCluster) -> None:
    components = spread(cluster)
    for node in cluster.names:
        for component in components:
            assert cluster.call(component, "who", node=node)["id"] == component
    for caller in components:
        for target in components:
            answer = ask(cluster, caller, "hub.call", target=target, operation="who")
            assert answer["result"]["outputs"]["id"] == target
            assert answer["result"]["outputs"]["from"] == caller


def test_errors_of_calls_are_the_same_from_another_node(cluster: DevCluster) -> None:
    one, other, _ = spread(cluster)
    answer = ask(cluster, one, "hub.call", target=other, operation="nothing-like-it")
    assert answer["error"] == "no-such-operation"
    answer = ask(cluster, one, "hub.call", target="f" * 40, operation="who")
    assert answer["error"] == "no-such-target"
    cluster.api("controller.destroy", component=other, grace=0.0)
    answer = ask(cluster, one, "hub.call", target=other, operation="who")
    assert answer["error"] == "not-available"


def test_casts_from_one_node_to_another_arrive_in_order_and_once(cluster: DevCluster) -> None:
    sender, receiver, _ = spread(cluster)
    cluster.call(sender, "cast-many", target=receiver, count=300)
    cluster.until(lambda: len(cluster.call(receiver, "notes")["notes"]) >= 300)
    assert cluster.call(receiver, "notes")["notes"] == list(range(300))


def test_selectors_look_at_members_on_all_nodes(cluster: DevCluster) -> None:
    components = spread(cluster, groups=["workers"])
    caller = components[1]
    for where in (*cluster.names, ""):
        every = (
            cluster.at(where, "hub.call", target="group:workers", operation="who", selector="all")
            if where
            else ask(
                cluster,
                caller,
                "hub.call",
                target="group:workers",
                operation="who",
                selector="all",
            )["result"]
        )
        assert {reply["outputs"]["id"] for reply in every["replies"]} == set(components)
    anyone = {
        cluster.at("n3", "hub.call", target="group:workers", operation="who")["component"]
        for _ in range(9)
    }
    assert anyone == set(components)
    leaders = {
        cluster.at(node, "hub.call", target="group:workers", operation="who", selector="leader")[
            "component"
        ]
        for node in cluster.names
    }
    assert leaders == {components[0]}


def test_what_one_hub_has_acknowledged_can_be_ordered_about_at_another(
    cluster: DevCluster,
) -> None:
    """Though the other one may not have heard of it yet."""
    nodes = itertools.cycle(cluster.names)
    for number in range(20):
        name = f"brief-{number % 2}"
        cluster.at(next(nodes), "controller.create", type=ACTOR, name=name, wait="accepted")
        cluster.at(next(nodes), "controller.destroy", component=name, grace=0.0)


def test_groups_and_members_are_the_same_on_every_hub(cluster: DevCluster) -> None:
    components = spread(cluster)
    for component in reversed(components):
        ask(cluster, component, "hub.join", groups=["late", "later"])

    def seen(node: str) -> Any:
        members = cluster.at(node, "hub.members", group="late")["members"]
        return [(m["component"], m["node"], m["state"]) for m in members]

    wanted = [
        (component, node, "available")
        for component, node in reversed(list(zip(components, cluster.names, strict=True)))
    ]
    for node in cluster.names:
        cluster.until(lambda node=node: seen(node) == wanted)
        assert cluster.at(node, "hub.groups", prefix="late")["groups"] == {"late": 3, "later": 3}
    ask(cluster, components[2], "hub.leave", groups=["late"])
    for node in cluster.names:
        cluster.until(lambda node=node: seen(node) == wanted[1:])


def test_a_watch_of_a_group_hears_of_members_on_other_nodes(cluster: DevCluster) -> None:
    components = spread(cluster)
    listener = cluster.listen("n1")
    watch = listener.open("hub.watch", group="watched")
    cluster.call(components[0], "watch", group="watched")
    for component in components[1:]:
        ask(cluster, component, "hub.join", groups=["watched"])
    ask(cluster, components[2], "hub.leave", groups=["watched"])
    wanted = [("joined", components[1]), ("joined", components[2]), ("left", components[2])]
    heard = listener.events(watch, until=3)
    assert [(event["event"], event["component"]) for event in heard] == wanted
    heard = cluster.until(
        lambda: len(found := cluster.call(components[0], "events")["events"]) >= 3 and found
    )
    assert [(event["event"], event["component"]) for event in heard] == wanted
    listener.close()


def test_the_records_of_all_nodes_are_one_log(cluster: DevCluster) -> None:
    components = spread(cluster)
    for number, component in enumerate(components):
        cluster.call(component, "log", text=f"record number {number}")
    for node in cluster.names:

        def texts(node: str = node) -> list[str]:
            said = cluster.run("logs", "-o", "jsonl", "--grep", "record number", "--node", node)
            lines = [json.loads(line) for line in said.splitlines()]
            ours = [one for one in lines if one["component"] in components]
            return [one["message"] for one in ours]

        cluster.until(lambda texts=texts: len(texts()) == 3)
        assert texts() == [f"record number {number}" for number in range(3)]


def test_following_the_log_brings_records_of_all_nodes(cluster: DevCluster) -> None:
    components = spread(cluster)
    following = subprocess.Popen(
        [sys.executable, "-m", "paas.cli", "logs", "-f", "-o", "jsonl", "--node", "n2"],
        env=cluster.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    heard: list[str] = []

    def read() -> None:
        assert following.stdout is not None
        heard.extend(following.stdout)

    reader = threading.Thread(target=read)
    reader.start()
    try:

        def all_heard() -> bool:
            for component in components:
                cluster.call(component, "log", text=f"followed {component}")
            return all(any(f"followed {c}" in line for line in heard) for c in components)

        cluster.until(all_heard)
    finally:
        following.terminate()
        following.wait()
        reader.join()


def test_memory_of_components_on_other_nodes_is_known(cluster: DevCluster) -> None:
    components = spread(cluster)

    def known(node: str) -> bool:
        found = json.loads(cluster.run("ps", "-o", "json", "--node", node))["components"]
        memory = {one["id"]: one["memory"] for one in found}
        return all((memory.get(component) or 0) > 1 << 20 for component in components)

    for node in cluster.names:
        cluster.until(lambda node=node: known(node))


def test_a_monitor_hears_once_of_an_end_on_another_node(cluster: DevCluster) -> None:
    watcher, _, watched = spread(cluster, restart="temporary")
    listener = cluster.listen("n1")
    watch = listener.open("controller.monitor", component=watched)
    cluster.call(watcher, "monitor", component=watched)
    cluster.call(watched, "die", status=7)
    (event,) = listener.events(watch, until=1)
    assert (event["event"], event["component"], event["reason"]) == ("down", watched, "exit:7")
    cluster.until(lambda: cluster.call(watcher, "events")["events"])
    listener.gather(1.0)
    assert len(listener.events(watch)) == 1
    assert [e["reason"] for e in cluster.call(watcher, "events")["events"]] == ["exit:7"]
    # One that is gone already is told at once, from any node.
    late = cluster.listen("n2")
    (event,) = late.events(late.open("controller.monitor", component=watched), until=1)
    assert event["reason"] == "exit:7"
    for one in (listener, late):
        one.close()


def test_a_component_of_another_node_is_asked_to_end(cluster: DevCluster) -> None:
    component = cluster.create(ACTOR, constraints=["node=n3"], configuration={"stays": True})
    answer = cluster.at("n1", "controller.terminate", component=component)
    assert answer["accepted"] is False
    assert "work to do" in answer["reason"]
    answer = cluster.at("n1", "controller.terminate", component=component, inputs={"really": True})
    assert answer["accepted"] is True
    cluster.until(lambda: cluster.component(component)["state"] == "destroyed")


def test_links_reach_across_nodes(cluster: DevCluster) -> None:
    one, other, _ = spread(cluster, restart="temporary")
    cluster.at("n3", "controller.link", a=one, b=other)
    cluster.call(one, "die", status=3)
    cluster.until(lambda: cluster.component(other, "n3")["state"] == "destroyed")
    assert cluster.component(other, "n1")["reason"] == "exit:3"


def _at_once(jobs: list[Any]) -> list[Any]:
    """What each of these returned or raised, all begun at the same moment."""
    gate, results = threading.Barrier(len(jobs)), [None] * len(jobs)

    def run(number: int, job: Any) -> None:
        gate.wait()
        try:
            results[number] = job()
        except PlatformError as error:
            results[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_those_who_want_a_name_at_once_on_three_nodes_one_gets_it(cluster: DevCluster) -> None:
    for number in range(3):
        connections = [cluster.listen(node) for node in cluster.names]
        results = _at_once(
            [
                lambda one=one, node=node, number=number: one.ask(
                    "controller.create",
                    type=ACTOR,
                    name=f"the-one-{number}",
                    constraints=[f"node={node}"],
                )["components"]
                for one, node in zip(connections, cluster.names, strict=True)
            ]
        )
        won = [result for result in results if isinstance(result, list)]
        lost = [result for result in results if isinstance(result, PlatformError)]
        assert len(won) == 1, results
        assert [error.code for error in lost] == ["conflict", "conflict"]
        assert {cluster.component(f"the-one-{number}", n)["id"] for n in cluster.names} == {
            won[0][0]
        }
        for one in connections:
            one.close()


def test_those_who_join_at_once_on_three_nodes_get_different_places(cluster: DevCluster) -> None:
    components = spread(cluster) + spread(cluster)
    connections = [cluster.listen(node) for node in cluster.names * 2]
    highest = 0
    for _ in range(3):
        results = _at_once(
            [
                lambda one=one, component=component: one.ask(
                    "hub.call",
                    target=component,
                    operation="ask",
                    inputs={"method": "hub.join", "params": {"groups": ["race"]}},
                )["outputs"]["result"]
                for one, component in zip(connections, components, strict=True)
            ]
        )
        places = sorted((r["positions"]["race"], r["token"]["race"]) for r in results)
        assert [position for position, _ in places] == [1, 2, 3, 4, 5, 6]
        tokens = [token for _, token in places]
        assert tokens == sorted(set(tokens))
        assert tokens[0] > highest
        highest = tokens[-1]
        for component in components:
            ask(cluster, component, "hub.leave", groups=["race"])
    alone = _at_once(
        [
            lambda one=one, component=component: one.ask(
                "hub.call",
                target=component,
                operation="ask",
                inputs={"method": "hub.join", "params": {"groups": ["throne"], "unique": True}},
            )["outputs"]
            for one, component in zip(connections, components, strict=True)
        ]
    )
    assert sum("result" in outcome for outcome in alone) == 1
    assert [o["error"] for o in alone if "error" in o] == ["conflict"] * 5
    for one in connections:
        one.close()
