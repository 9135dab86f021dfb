"""A component reaches one on another node once it was resolved, until either end goes."""

from __future__ import annotations

from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def test_a_member_on_another_node_is_reached_once_it_was_resolved(world: Any) -> None:
    store = world.create("n2", groups=["stores"])
    asker, other = world.create("n1"), world.create("n1")
    endpoint = world.endpoint(store)
    assert world.reach(asker, endpoint)["reached"] is False
    resolved = world.resolve(asker)
    assert [e["component"] for e in resolved] == [store]
    assert world.reach(asker, resolved[0])["said"] == f"this is {store}"
    assert world.reach(other, endpoint)["reached"] is False, "granted to one only"
    another_port = {**endpoint, "port": endpoint["port"] + 1}
    assert world.reach(asker, another_port)["reached"] is False
    assert world.reach(store, world.endpoint(asker))["reached"] is False, "the way back"


def test_members_of_all_nodes_are_offered_those_of_the_own_node_first(world: Any) -> None:
    stores = [world.create(node, groups=["stores"]) for node in ("n1", "n2", "n3")]
    for number, node in enumerate(("n1", "n2", "n3")):
        asker = world.create(node)
        resolved = world.resolve(asker)
        assert resolved[0]["component"] == stores[number]
        assert sorted(e["component"] for e in resolved) == sorted(stores)
        for endpoint in resolved:
            assert world.reach(asker, endpoint)["said"] == f"this is {endpoint['component']}"


def test_the_path_is_closed_at_both_nodes_when_either_end_goes(world: Any) -> None:
    store = world.create("n2", groups=["stores"])
    asker = world.create("n1")
    world.resolve(asker)
    assert len(world.grants("n1")) == len(world.grants("n2")) == 1
    world.cluster.api("controller.destroy", component=asker, grace=0.0)
    world.cluster.until(lambda: not world.grants("n1") and not world.grants("n2"))
    asker = world.create("n1")
    (endpoint,) = world.resolve(asker)
    kept = world.reach(asker, endpoint, keep=True)
    assert world.cluster.call(asker, "talk", number=kept["number"])["answered"] is True
    world.cluster.call(store, "exit", code=3)
    world.cluster.until(lambda: not world.grants("n1") and not world.grants("n2"))
    # It comes back as another incarnation, perhaps at the same address: one has to ask again.
    world.cluster.until(lambda: world.cluster.component(store)["state"] == "available")
    assert world.cluster.call(asker, "talk", number=kept["number"])["answered"] is False
    assert world.reach(asker, world.endpoint(store))["reached"] is False
    (endpoint,) = world.resolve(asker)
    assert world.reach(asker, endpoint)["reached"] is True


@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("role", ["hub", "containers"])
def test_paths_live_on_when_an_agent_is_killed_and_close_if_their_end_goes_meanwhile(
    world: Any, node: str, role: str
) -> None:
    store, gone = world.create("n2", groups=["stores"]), world.create("n2", groups=["stores"])
    asker = world.create("n1")
    assert len(world.resolve(asker)) == 2
    endpoint = world.endpoint(store)
    kept = world.reach(asker, endpoint, keep=True)
    before = world.cluster.agents(node)[role]
    world.cluster.kill_agents(node, role)
    world.cluster.at("n3", "controller.destroy", component=gone, grace=0.0, timeout_s=60)
    world.cluster.until(lambda: world.cluster.agents(node).get(role, before) != before)

    def lives() -> bool:
        """On a busy machine the agent is away for longer than the lease: then all begins anew."""
        found = [world.cluster.component(one) for one in (store, asker)]
        return sum(one["restarts"] for one in found) == 0

    world.cluster.until(lambda: [len(world.grants(n)) for n in ("n1", "n2")] == [lives()] * 2)
    for one in (store, asker):
        world.cluster.available(one)
    if lives():
        assert world.cluster.call(asker, "talk", number=kept["number"])["answered"] is True
    assert world.reach(asker, endpoint)["reached"] is lives()


def test_what_only_one_node_lets_pass_does_not_pass(world: Any) -> None:
    """Deny by default on both ends: with one of them open by hand there is no path."""
    store, asker = world.create("n2", groups=["stores"]), world.create("n1")
    source, target = world.endpoint(asker)["host"], world.endpoint(store)
    for node in ("n1", "n2"):
        tables = world.inside(node, "nft", "list", "tables", "inet").split()
        element = f"{{ {source} . {target['host']} . tcp . {target['port']} }}"
        words = ["inet", tables[2], "grants", element]
        world.inside(node, "nft", "add", "element", *words)
        assert world.reach(asker, target)["reached"] is False
        world.inside(node, "nft", "delete", "element", *words)


def test_a_node_that_cannot_be_reached_is_an_error_that_names_it(world: Any) -> None:
    store, asker = world.create("n3", groups=["stores"]), world.create("n1")
    assert store
    world.cluster.partition("n3|n1,n2")
    try:
        with pytest.raises(PlatformError, match="n3") as caught:
            world.resolve(asker)
    finally:
        world.cluster.heal()
    assert caught.value.code == "not-available"
