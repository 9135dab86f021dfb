"""Volumes on several nodes: they stay with the name, move with their content, and are never two."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from functools import partial
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

LEDGER = "ledger@1.0.0"


def images(cluster: DevCluster) -> dict[str, list[str]]:
    """Node to the whole copies of volumes on its disk."""
    found = {}
    for node in cluster.names:
        folder = cluster.node_state(node) / "volumes"
        paths = [p for p in folder.glob("*/*/*.img") if p.parts[-3] != ".incoming"]
        if paths:
            found[node] = sorted(str(p.relative_to(folder)) for p in paths)
    return found


def volume(cluster: DevCluster, owner: str = "db") -> dict[str, Any]:
    found: dict[str, Any] = cluster.api("volume.show", owner=owner)["volumes"][0]
    return found


def values(cluster: DevCluster) -> list[str]:
    """What the ledger says, once it can be asked."""

    def ask() -> Any:
        with contextlib.suppress(PlatformError):
            return [cluster.call("db", "read")["values"]]
        return None

    found: list[str] = cluster.until(ask)[0]
    return found


def created(cluster: DevCluster, kind: str = LEDGER) -> tuple[str, str]:
    component = cluster.create(kind, name="db")
    return component, cluster.available("db")


def destroyed(cluster: DevCluster, component: str) -> None:
    cluster.api("controller.destroy", component=component, grace=1.0, timeout_s=60)
    cluster.until(lambda: cluster.component(component)["state"] == "destroyed")


def test_what_was_written_survives_restart_destruction_and_a_new_component(
    cluster: DevCluster,
) -> None:
    component, node = created(cluster)
    cluster.call("db", "append", value="one")
    with contextlib.suppress(PlatformError):
        cluster.call("db", "crash")
    cluster.until(lambda: cluster.component(component)["restarts"] == 1)
    cluster.available("db")
    assert values(cluster) == ["one"]
    cluster.kill_agents(node, "containers")  # the container goes on, with its volume
    cluster.call("db", "append", value="beside")
    destroyed(cluster, component)
    component, again = created(cluster)
    assert again == node
    assert values(cluster) == ["one", "beside"]


def test_a_move_takes_the_content_along_and_leaves_nothing_behind(cluster: DevCluster) -> None:
    component, node = created(cluster)
    digest = cluster.call("db", "fill", mib=24, seed=1)["digest"]
    cluster.call("db", "append", value="moved")
    goal = next(name for name in cluster.names if name != node)
    said = cluster.run("volumes", "move", "db", goal)
    assert f"are on {goal}" in said
    assert cluster.available("db", besides=node) == goal
    assert values(cluster) == ["moved"]
    assert cluster.call("db", "digest")["digest"] == digest
    assert cluster.component(component)["restarts"] == 0
    cluster.until(lambda: list(images(cluster)) == [goal])


def test_emptying_a_node_moves_its_volumes_first(cluster: DevCluster) -> None:
    _component, node = created(cluster)
    cluster.call("db", "append", value="drained")
    cluster.run("nodes", "drain", node, timeout_s=180)
    assert cluster.available("db", besides=node) != node
    assert values(cluster) == ["drained"]
    cluster.until(lambda: node not in images(cluster))
    cluster.run("nodes", "uncordon", node)


def test_a_lost_node_is_waited_for(cluster: DevCluster) -> None:
    component, node = created(cluster)
    cluster.call("db", "append", value="kept")
    cluster.kill(node)

    def waits() -> Any:
        reason = cluster.component(component)["reason"]
        return f"its volumes are on {node}" in reason and f"{node}: offline" in reason

    cluster.until(waits)
    listed = cluster.run("volumes", "list")
    assert f"its volumes are on {node}" in listed
    cluster.resume(node)
    assert cluster.available("db") == node
    assert values(cluster) == ["kept"]


def test_volumes_that_may_be_lost_begin_empty_elsewhere(cluster: DevCluster) -> None:
    _component, node = created(cluster, "scratch@1.0.0")
    cluster.call("db", "append", value="lost")
    cluster.kill(node)
    goal = cluster.available("db", besides=node)
    assert values(cluster) == []
    cluster.resume(node)
    cluster.until(lambda: list(images(cluster)) == [goal])


def test_a_volume_in_use_is_not_removed(cluster: DevCluster) -> None:
    component, _node = created(cluster)
    refused = cluster.run("volumes", "remove", "db", "--yes", status=None)
    assert "in use" in refused
    destroyed(cluster, component)
    cluster.run("volumes", "remove", "db", "--yes")
    cluster.until(lambda: not images(cluster))


@pytest.mark.parametrize("seed", [1, 2])
def test_agents_that_die_during_moves_lose_nothing(cluster: DevCluster, seed: int) -> None:
    """Both ends, hubs and container controllers, at any moment of a move of 32 MiB."""
    chance = random.Random(seed)
    _component, node = created(cluster)
    digest = cluster.call("db", "fill", mib=32, seed=seed)["digest"]
    for number in itertools.count():
        cluster.call("db", "append", value=number)
        goal = chance.choice([name for name in cluster.names if name != node])
        cluster.until(partial(_order, cluster, goal))
        for _ in range(2):
            time.sleep(chance.random() * 1.2)
            victim, role = chance.choice([node, goal]), chance.choice(["hub", "containers"])
            with contextlib.suppress(KeyError, ProcessLookupError):
                cluster.kill_agents(victim, role)
        node = moved(cluster, node, goal)
        assert values(cluster) == [str(n) for n in range(number + 1)]
        assert cluster.call("db", "digest")["digest"] == digest
        if number == 1:
            break
    cluster.until(lambda: list(images(cluster)) == [node])


def _order(cluster: DevCluster, goal: str) -> bool:
    return bool(cluster.api("volume.move", owner="db", node=goal) == {})


def moved(cluster: DevCluster, node: str, goal: str) -> str:
    """Until they are held where they should be; what was lost with a hub is asked for again."""

    def there() -> bool:
        found = volume(cluster)
        if found["state"] == "held" and found["node"] == node:
            cluster.api("volume.move", owner="db", node=goal)
        return bool(found["state"] == "held" and found["node"] == goal)

    cluster.until(there, 120)
    assert cluster.available("db", timeout_s=120) == goal
    return goal
