"""Attributes, signals and their watches across three nodes, one of them cut off or killed."""

from __future__ import annotations

from typing import Any

import pytest

from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ACTOR = "actor@1.0.0"


def spread(cluster: DevCluster, **more: Any) -> list[str]:
    """One component on each node, in the order of the nodes."""
    return [cluster.create(ACTOR, constraints=[f"node={node}"], **more) for node in cluster.names]


def ask(cluster: DevCluster, component: str, method: str, /, **params: Any) -> Any:
    """A method of the component API, called by this component."""
    answer = cluster.call(component, "ask", method=method, params=params)
    assert "error" not in answer, answer
    return answer["result"]


def events(cluster: DevCluster, component: str, word: str = "") -> list[dict[str, Any]]:
    found = cluster.call(component, "events")["events"]
    return [event for event in found if not word or event["event"] == word]


def test_attributes_of_all_nodes_are_read_from_each(cluster: DevCluster) -> None:
    components = spread(cluster, groups=["lamps"])
    for number, component in enumerate(components):
        ask(cluster, component, "hub.set_attributes", attributes={"level": number})
        ask(
            cluster,
            component,
            "hub.set_attributes",
            attributes={"load": number},
            kind="volatile",
        )
    wanted = {c: {"level": n, "load": n} for n, c in enumerate(components)}
    for reader in components:
        found = ask(cluster, reader, "hub.get_attributes", target="group:lamps", aggregate="sum")
        assert found["members"] == wanted
        assert found["aggregates"] == {"level": 3, "load": 3}


def test_signals_reach_watchers_on_other_nodes_in_order(cluster: DevCluster) -> None:
    sender, *watchers = spread(cluster, groups=["lamps"])
    for target, watcher in zip((sender, "group:lamps"), watchers, strict=True):
        cluster.call(watcher, "watch", signals={"target": target})
    cluster.until(lambda: ask(cluster, sender, "hub.signal", signal="are-you")["watchers"] == 2)
    for number in range(100):
        ask(cluster, sender, "hub.signal", signal="on", payload=number)
    for watcher in watchers:

        def heard(watcher: str = watcher) -> list[Any]:
            found = events(cluster, watcher, "signal")
            return [e["payload"] for e in found if e["signal"] == "on"]

        cluster.until(lambda: len(heard()) >= 100)
        assert heard() == list(range(100))


def test_a_cut_is_told_as_a_gap_and_as_a_new_snapshot(cluster: DevCluster) -> None:
    sender, watcher, other = spread(cluster)
    ask(cluster, sender, "hub.set_attributes", attributes={"load": 1}, kind="volatile")
    shown = cluster.call(watcher, "watch", attributes={"target": sender})
    assert shown["snapshot"] == {"load": 1}
    cluster.call(watcher, "watch", signals={"target": sender})
    cluster.call(other, "watch", attributes={"target": sender, "kind": "durable"})
    cluster.kill_agents("n1", "hub")
    cluster.until(lambda: events(cluster, watcher, "gap"), 90)
    cluster.until(lambda: events(cluster, watcher, "resumed"), 90)
    assert events(cluster, watcher, "resumed")[-1]["data"]["snapshot"] == {}
    cluster.until(lambda: _works(cluster, sender), 90)
    for number in range(20):
        ask(cluster, sender, "hub.set_attributes", attributes={"n": number})
    for component in (watcher, other):

        def seen(component: str = component) -> list[Any]:
            return [e["attributes"]["n"] for e in events(cluster, component, "changed")]

        cluster.until(lambda: len(seen()) >= 20)
        assert seen() == list(range(20))


def test_a_watcher_s_own_hub_is_killed_and_nothing_of_the_log_is_missing(
    cluster: DevCluster,
) -> None:
    one, watcher, _ = spread(cluster)
    cluster.call(watcher, "watch", attributes={"target": one, "kind": "durable"})
    for number in range(60):
        ask(cluster, one, "hub.set_attributes", attributes={"n": number})
        if number % 20 == 10:
            cluster.kill_agents("n2", "hub")
        if number % 20 == 19:
            cluster.until(lambda: _works(cluster, watcher), 90)

    def seen() -> list[Any]:
        return [e["attributes"]["n"] for e in events(cluster, watcher, "changed")]

    cluster.until(lambda: _works(cluster, watcher) and len(seen()) >= 60, 90)
    assert seen() == list(range(60))
    assert events(cluster, watcher, "resumed") == []


def _works(cluster: DevCluster, component: str) -> bool:
    try:
        return bool(cluster.call(component, "who"))
    except Exception:
        return False
