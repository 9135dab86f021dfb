"""A network falls apart: the majority goes on, the minority says so; healing needs no hand."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ACTOR = "actor@1.0.0"
REFUSAL_TIMEOUT_S = 1.5


def cut_off(cluster: DevCluster, alone: str) -> list[str]:
    """Separate this node from the others, which are returned."""
    others = [name for name in cluster.names if name != alone]
    cluster.partition(f"{alone}|{','.join(others)}")
    cluster.until(lambda: cluster.nodes(others[0])[alone]["state"] == "offline")
    return others


def refused(cluster: DevCluster, node: str, method: str, /, **params: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        cluster.at(node, method, timeout_s=REFUSAL_TIMEOUT_S, **params)
    return caught.value


def without_leader(cluster: DevCluster, node: str) -> None:
    """Until it knows that nobody leads; before that, what it takes has an unknown outcome."""
    cluster.until(lambda: cluster.at(node, "cluster.status")["log"]["leader"] is None)


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_the_majority_goes_on_and_the_minority_refuses(cluster: DevCluster, leads: bool) -> None:
    leader = cluster.leader()
    alone = leader if leads else next(n for n in cluster.names if n != leader)
    stays = cluster.create(ACTOR, name="stays", constraints=[f"node={alone}"])
    kept = cluster.create(ACTOR, groups=["kept"], constraints=[f"node={cluster.names[1]}"])
    others = cut_off(cluster, alone)
    # The majority writes.
    made = cluster.at(others[0], "controller.create", type=ACTOR, name="made", timeout_s=60)
    assert cluster.component("made", others[1])["node"] in others
    cluster.at(others[1], "controller.destroy", component="made", grace=0.0, timeout_s=60)
    # The minority answers what it knows, and for how long it has known nothing newer.
    cluster.until(lambda: cluster.at(alone, "controller.components").get("stale_s"))
    for method, params in (
        ("controller.components", {}),
        ("controller.component", {"component": kept}),
        ("hub.members", {"group": "kept"}),
        ("hub.groups", {}),
        ("nodes.list", {}),
        ("cluster.status", {}),
    ):
        assert cluster.at(alone, method, **params)["stale_s"] >= 2.0, method
        assert not cluster.at(others[0], method, **params).get("stale_s"), method
    members = cluster.at(alone, "hub.members", group="kept")["members"]
    assert [member["component"] for member in members] == [kept]
    # And refuses changes in time, as what it is.
    without_leader(cluster, alone)
    for error in (
        refused(cluster, alone, "controller.create", type=ACTOR, name="not-made"),
        refused(cluster, alone, "controller.destroy", component=kept),
        refused(cluster, alone, "controller.link", a=kept, b=stays),
        refused(cluster, alone, "nodes.cordon", node=others[0]),
    ):
        assert error.code == "unavailable", error
        assert error.hint
    # Nothing runs there any more, and calls to and from there say that it is not available.
    error = refused(cluster, alone, "hub.call", target=stays, operation="who")
    assert error.code == "not-available"
    cluster.heal()
    cluster.wait_well()
    assert cluster.available(stays) == alone
    for node in cluster.names:
        names = [c["name"] for c in cluster.at(node, "controller.components")["components"]]
        assert "not-made" not in names
        assert cluster.component(made["components"][0], node)["state"] == "destroyed"
        assert cluster.component(kept, node)["state"] != "destroyed"
    assert cluster.create(ACTOR, constraints=[f"node={alone}"])


def test_a_component_that_is_cut_off_is_refused_what_it_asks_of_the_cluster(
    cluster: DevCluster,
) -> None:
    """It asks all the time; the answers come to an end with its life, and are no inner errors."""
    alone = cluster.names[2]
    component = cluster.create(ACTOR, restart="temporary", constraints=[f"node={alone}"])
    cluster.partition(f"{alone}|{','.join(cluster.names[:2])}")
    seen: list[str] = []

    def ended() -> bool:
        try:
            answer = cluster.at(
                alone,
                "hub.call",
                target=component,
                operation="ask",
                inputs={"method": "hub.join", "params": {"groups": ["g"], "timeout": 0.3}},
                timeout_s=REFUSAL_TIMEOUT_S,
            )["outputs"]
            seen.append(answer.get("error", "done"))
        except PlatformError as error:
            seen.append(error.code)
            return error.code == "not-available"
        return False

    cluster.until(ended)
    allowed = {"done", "unavailable", "timeout", "not-available", "unknown-outcome"}
    assert set(seen) <= allowed, seen
    cluster.until(lambda: cluster.nodes(cluster.names[0])[alone]["state"] == "offline")
    cluster.heal()
    cluster.wait_well()
    assert cluster.component(component)["reason"] == "node-lost"


def test_without_any_majority_all_refuse_and_go_on_afterwards(cluster: DevCluster) -> None:
    component = cluster.create(ACTOR, name="survivor")
    cluster.partition("|".join(cluster.names))
    for node in cluster.names:
        without_leader(cluster, node)
        cluster.until(lambda node=node: cluster.at(node, "nodes.list").get("stale_s"))
        error = refused(cluster, node, "controller.create", type=ACTOR)
        assert error.code == "unavailable", error
    cluster.heal()
    cluster.wait_well()
    cluster.available("survivor")
    assert cluster.component("survivor")["id"] == component
    seen = [cluster.at(node, "controller.components")["components"] for node in cluster.names]
    assert [[c["id"] for c in found] for found in seen] == [[c["id"] for c in seen[0]]] * 3


def test_the_command_line_warns_of_old_answers(cluster: DevCluster) -> None:
    alone = cluster.names[0]
    others = cut_off(cluster, alone)
    cluster.until(lambda: cluster.at(alone, "nodes.list").get("stale_s"))
    for words in (["nodes"], ["ps"], ["groups"], ["status"]):
        warned = cluster.say(*words, "--node", alone).stderr
        assert "old" in warned or "stale" in warned, (words, warned)
        warned = cluster.say(*words, "--node", others[0]).stderr
        assert "old" not in warned, (words, warned)
        assert "stale" not in warned, (words, warned)
