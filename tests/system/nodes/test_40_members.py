"""Nodes are emptied, removed, replaced as voters, and join; a lost majority has a way out.

Four nodes: three vote, one observes.  The tests build on each other only in that n4 is removed by
the last one that uses the shared cluster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.census import Census
from paas.testing.dev_cluster import DevCluster, PlainNode, dev_cluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ACTOR = "actor@1.0.0"
SOURCE = Path(__file__).parent / "components" / "actor"


@pytest.fixture(scope="module")
def shared() -> Iterator[DevCluster]:
    with dev_cluster(4) as one:
        one.push(SOURCE)
        yield one


def roles(cluster: DevCluster) -> dict[str, str]:
    return {name: facts["role"] for name, facts in cluster.nodes().items()}


def voters(cluster: DevCluster) -> list[str]:
    return sorted(name for name, role in roles(cluster).items() if role in ("leader", "voter"))


def observers(cluster: DevCluster) -> list[str]:
    return [name for name, role in roles(cluster).items() if role == "observer"]


def three_vote(cluster: DevCluster) -> None:
    cluster.until(lambda: len(voters(cluster)) == 3 and len(observers(cluster)) == 1)


def refused(cluster: DevCluster, method: str, /, **params: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        cluster.api(method, **params)
    return caught.value


def test_an_observer_votes_instead_of_a_voter_that_is_lost(cluster: DevCluster) -> None:
    three_vote(cluster)
    (spare,) = observers(cluster)
    victim = next(name for name in voters(cluster) if name != cluster.leader())
    cluster.kill(victim)
    cluster.until(lambda: observers(cluster) == [victim])
    assert spare in voters(cluster)
    # So a second loss is survived, which would have been the majority before.
    second = next(name for name in voters(cluster) if name not in (spare, cluster.leader()))
    cluster.kill(second)
    cluster.until(lambda: cluster.nodes()[second]["state"] == "offline")
    assert cluster.create(ACTOR, constraints=[f"node={spare}"], timeout_s=60)
    cluster.resume(victim)
    cluster.resume(second)
    cluster.wait_well()
    three_vote(cluster)


def test_as_many_vote_as_a_person_wants(cluster: DevCluster) -> None:
    three_vote(cluster)
    assert refused(cluster, "cluster.want_voters", voters=2).code == "invalid"
    cluster.run("cluster", "voters", "1")
    cluster.until(lambda: voters(cluster) == [cluster.leader()])
    cluster.run("cluster", "voters", "5")
    three_vote(cluster)


def test_a_node_is_emptied_gracefully_and_used_again(cluster: DevCluster) -> None:
    victim = next(name for name in voters(cluster) if name != cluster.leader())
    created = cluster.api("controller.create", type=ACTOR, count=12, timeout_s=60)["components"]
    there = [one for one in created if cluster.component(one)["node"] == victim]
    bound = cluster.create(ACTOR, constraints=[f"node={victim}"])
    assert there
    with Census(created, program="actor.py") as census:
        said = cluster.say("nodes", "drain", victim, "--grace", "2s", "--timeout", "5s", status=8)
        cluster.until(lambda: all(cluster.component(c)["state"] == "available" for c in created))
    assert bound[:8] in said.stdout  # it may be nowhere else, and stays
    for one in there:
        found = cluster.component(one)
        assert found["node"] != victim
        assert found["reason"] in ("", "moved")
    assert all(most == 1 for most in census.most.values())
    assert cluster.component(bound)["node"] == victim
    fresh = cluster.api("controller.create", type=ACTOR, count=6, timeout_s=60)["components"]
    assert victim not in {cluster.component(one)["node"] for one in fresh}
    cluster.run("nodes", "uncordon", victim)
    fresh = cluster.api("controller.create", type=ACTOR, count=6, timeout_s=60)["components"]
    assert victim in {cluster.component(one)["node"] for one in fresh}


def test_the_leader_hands_over_before_its_node_is_emptied(cluster: DevCluster) -> None:
    leader = cluster.leader()
    term = cluster.api("cluster.status")["log"]["term"]
    cluster.run("nodes", "drain", leader)
    assert cluster.until(lambda: (one := cluster.leader()) != leader and one) != leader
    assert cluster.api("cluster.status")["log"]["term"] > term
    cluster.run("nodes", "uncordon", leader)


def test_a_node_that_is_needed_is_not_removed(cluster: DevCluster) -> None:
    cluster.calm()
    three_vote(cluster)
    victim = next(name for name in voters(cluster) if name != cluster.leader())
    component = cluster.create(ACTOR, constraints=[f"node={victim}"])
    error = refused(cluster, "nodes.remove", node=victim)
    assert error.code == "conflict"
    assert "1 component" in error.message
    assert cluster.component(component)["state"] == "available"
    # With one voter and the observer away, two voters are left: both are needed.
    (spare,) = observers(cluster)
    other = next(n for n in voters(cluster) if n not in (victim, cluster.leader()))
    cluster.kill(spare)
    cluster.until(lambda: cluster.nodes()[spare]["state"] == "offline")
    cluster.kill(other)
    cluster.until(lambda: cluster.nodes()[other]["state"] == "offline")
    cluster.destroy_all()
    error = refused(cluster, "nodes.remove", node=victim)
    assert error.code == "conflict"
    assert "voters" in error.message
    assert victim in voters(cluster)


def test_a_removed_node_is_out_for_good(cluster: DevCluster) -> None:
    three_vote(cluster)
    (spare,) = observers(cluster)
    victim = next(name for name in voters(cluster) if name != cluster.leader())
    cluster.run("nodes", "drain", victim)
    left = [name for name in cluster.names if name != victim]
    cluster.run("nodes", "remove", victim, "--yes", "--node", left[0])
    cluster.hurt.add(victim)
    cluster.until(lambda: sorted(cluster.nodes()) == left)
    cluster.until(lambda: voters(cluster) == left)  # the observer has taken its place
    assert spare in left
    # It is not let in any more: its own hub knows nothing new, and is in nobody's list.
    cluster.until(lambda: cluster.at(victim, "cluster.status").get("stale_s"))
    index = cluster.applied(left[0])
    made = cluster.api("controller.create", type=ACTOR, count=6, timeout_s=60)["components"]
    assert {cluster.component(one)["node"] for one in made} <= set(left)
    assert cluster.applied(victim) <= index
    with pytest.raises(PlatformError) as caught:
        cluster.at(victim, "controller.create", type=ACTOR, timeout_s=3.0)
    assert caught.value.code in ("unavailable", "unknown-outcome", "not-available")
    # Switched off and on it is not let in either.
    cluster.kill(victim)
    cluster.say("nodes", "resume", victim, status=None)
    time.sleep(2.0)
    assert sorted(cluster.nodes()) == left
    cluster.kill(victim)
    # And its name is spent.
    token = cluster.run("cluster", "token", "-o", "name").strip()
    fresh = PlainNode(cluster.folder / "again")
    address = cluster.nodes()[left[0]]["address"].partition(":")[0]
    said = fresh.join(address, token, name=victim, listen=f"127.0.0.1:{port()}", status=None)
    assert said.returncode != 0
    assert "conflict" in said.stderr


def port() -> int:
    """Ports for a node on this machine, apart from those of tests that run beside."""
    return 20_000 + 10 * (os.getpid() % 2_000)


def test_a_cluster_that_lost_its_majority_goes_on_with_what_is_left(tmp_path: Path) -> None:
    first, second, third, fourth = (PlainNode(tmp_path / name) for name in ("a", "b", "c", "d"))
    ports = [port() + 2 * number for number in range(4)]
    joining = f"127.0.0.1:{ports[0] + 1}"
    try:
        first.run("cluster", "init", "--name", "lab", "--listen", f"127.0.0.1:{ports[0]}")
        for one, name, at in ((second, "n2", ports[1]), (third, "n3", ports[2])):
            token = first.run("cluster", "token", "-o", "name").stdout.strip()
            one.join(joining, token, listen=f"127.0.0.1:{at}", name=name)
        first.until(lambda: first.count_of("voter") == 2, "three nodes do not vote")
        first.run("push", str(SOURCE))
        for name in ("n2", "n3"):
            first.run("nodes", "cordon", name)
        first.run("create", ACTOR, "--name", "kept")
        for one in (second, third):
            one.destroy()
        # Two of three voters are gone: nothing is written any more.
        first.run("create", ACTOR, "--timeout", "3s", status=None, refused=True)
        said = first.run("cluster", "recover", status=None, refused=True)
        assert "runs" in said.stderr
        first.run("down")
        said = first.run("cluster", "recover", status=None, refused=True)
        assert "loses every change" in said.stderr
        assert "n1, n2, n3" in said.stderr
        said = first.run("cluster", "recover", "--i-accept-losses", "labs", refused=True)
        first.run("cluster", "recover", "--i-accept-losses", "lab")
        first.run("dev", "--detach")
        first.until(lambda: first.component("kept").get("state") == "available", "kept is lost")
        for name in ("n2", "n3"):
            first.run("nodes", "remove", name, "--force", "--yes")
        token = first.run("cluster", "token", "-o", "name").stdout.strip()
        fourth.join(joining, token, listen=f"127.0.0.1:{ports[3]}", name="n4")
        first.until(lambda: set(first.nodes()) == {"n1", "n4"}, "nobody joins any more")
        first.until(lambda: first.nodes()["n4"]["state"] == "available", "n4 is not available")
        first.run("nodes", "cordon", "n1")
        first.run("create", ACTOR, "--name", "grown")
        assert first.component("grown")["node"] == "n4"
    finally:
        for one in (first, second, third, fourth):
            one.destroy()
