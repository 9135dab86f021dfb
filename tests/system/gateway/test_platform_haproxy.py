"""HAProxy before a gateway component: in its container, between real members, under load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from paas.testing.census import processes
from paas.testing.dev_cluster import dev_cluster
from paas.testing.gateway_world import World, load

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with dev_cluster(2) as cluster:
        world = World(cluster, "auto")
        world.prepare()
        world.gateway("n1")
        yield world


def test_members_are_replaced_under_load_and_nothing_fails(world: World) -> None:
    members = [world.member(), world.member()]
    world.route()
    world.serving(2)
    assert any("haproxy" in words[0] for _, words in processes() if words)
    with load(world.address(), "GET", "/slow?0.02", clients=4) as running:
        for _ in range(4):
            members.append(world.member())
            world.serving(2)
            world.destroy(members.pop(0))
    assert [wrong for one in running for wrong in one.wrong] == []
    assert len({name for one in running for name in one.answers}) == 6


def test_who_carries_is_shown(world: World) -> None:
    (gateway,) = world.cluster.api("gateway.status")["gateways"]
    assert gateway["data_path"].startswith("haproxy ")
    assert gateway["data_path"] in world.cluster.run("gateway", "status")


def test_operations_go_through_haproxy_to_the_edge(world: World) -> None:
    world.member()
    world.route("call", kind="operation", path="/call", strip_prefix=True)
    world.serving(1, "/call/who")
    assert world.ask("POST", "/call/echo", b"body") == (200, "body")
