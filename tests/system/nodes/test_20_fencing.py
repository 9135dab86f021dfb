"""Whatever happens to a node, of each component at most one process lives at any instant.

The kernel is the witness (`paas.testing.census`): start times of processes and the ends that their
descriptors told.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from paas.testing.census import Census, Life
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ACTOR = "actor@1.0.0"
PROGRAM = "actor.py"
PAUSE_S = 8.0
TICK_S = 0.01
"""The kernel tells start times in whole hundredths of a second."""

Fault = Callable[[DevCluster, str], Callable[[], None]]
"""Hurts a node; what it returns undoes that."""


def follower_of(cluster: DevCluster) -> str:
    leader = cluster.leader()
    return next(name for name in cluster.names if name != leader)


def crew_of(cluster: DevCluster, victim: str, **more: Any) -> list[str]:
    """Three components on this node, which may be on any later."""
    others = [name for name in cluster.names if name != victim]
    for other in others:
        cluster.api("nodes.cordon", node=other)
    created: list[str] = cluster.api(
        "controller.create", type=ACTOR, count=3, timeout_s=60, **more
    )["components"]
    for other in others:
        cluster.api("nodes.uncordon", node=other)
    return created


def moved(cluster: DevCluster, crew: list[str], victim: str) -> None:
    """Until each of them is available elsewhere, as a hub says that is not the victim's."""
    hub = next(name for name in cluster.names if name != victim)

    def elsewhere() -> bool:
        found = [cluster.component(one, hub) for one in crew]
        return all(f["state"] == "available" and f["node"] != victim for f in found)

    cluster.until(elsewhere)


def overlaps(census: Census, crew: list[str]) -> list[tuple[Life, Life]]:
    """Pairs of lives of one component of which the later began while the earlier did something.

    Who sleeps cannot end, but does nothing; when it wakes, it is ended (see the last test).
    """
    found = []
    for component in crew:
        for one, following in itertools.pairwise(census.of(component)):
            until_s = one.worked_until_s
            if until_s is None or until_s > following.started_s + TICK_S:
                found.append((one, following))
    return found


def cut_off(cluster: DevCluster, victim: str) -> Callable[[], None]:
    others = ",".join(name for name in cluster.names if name != victim)
    cluster.partition(f"{victim}|{others}")
    return cluster.heal


def deaf(cluster: DevCluster, victim: str) -> Callable[[], None]:
    """It is heard, and hears nobody."""
    others = ",".join(name for name in cluster.names if name != victim)
    cluster.partition(f"{others}|{victim}", one_way=True)
    return cluster.heal


def mute(cluster: DevCluster, victim: str) -> Callable[[], None]:
    """It hears everybody, and is not heard."""
    others = ",".join(name for name in cluster.names if name != victim)
    cluster.partition(f"{victim}|{others}", one_way=True)
    return cluster.heal


def asleep(cluster: DevCluster, victim: str) -> Callable[[], None]:
    cluster.pause(victim)
    time.sleep(PAUSE_S)
    return lambda: cluster.resume(victim)


def hub_stopped(cluster: DevCluster, victim: str) -> Callable[[], None]:
    """Its node controller would end it after a while: it is stopped as well."""
    roles = ("node", "hub")
    cluster.kill_agents(victim, *roles, number=signal.SIGSTOP)
    cluster.hurt.add(victim)
    return lambda: cluster.kill_agents(victim, *roles, number=signal.SIGCONT)


def agents_dead(cluster: DevCluster, victim: str) -> Callable[[], None]:
    """All at once, and nobody starts them again for a while."""
    supervisor = cluster.machine(victim).pid
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSTOP)
    cluster.kill_agents(victim, "node", "containers", "hub", "certificates", "template")
    cluster.hurt.add(victim)
    return lambda: os.kill(supervisor, signal.SIGCONT)


FAULTS = {
    "cut off": cut_off,
    "deaf": deaf,
    "mute": mute,
    "asleep": asleep,
    "hub stopped": hub_stopped,
    "agents dead": agents_dead,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_follower(cluster: DevCluster, fault: str) -> None:
    check(cluster, follower_of(cluster), FAULTS[fault])


@pytest.mark.parametrize("fault", ["cut off", "asleep", "hub stopped"])
def test_the_leader(cluster: DevCluster, fault: str) -> None:
    check(cluster, cluster.leader(), FAULTS[fault])


def check(cluster: DevCluster, victim: str, hurt: Fault) -> None:
    crew = crew_of(cluster, victim)
    with Census(crew, program=PROGRAM) as census:
        undo = hurt(cluster, victim)
        try:
            moved(cluster, crew, victim)
        finally:
            undo()
        cluster.calm()
        for component in crew:
            assert cluster.available(component) != victim
            assert census.now(component) == 1
    assert overlaps(census, crew) == []
    assert [len(census.of(component)) for component in crew] == [2, 2, 2]


def test_what_is_left_of_a_component_on_a_node_that_wakes_is_not_heard(
    cluster: DevCluster,
) -> None:
    victim = follower_of(cluster)
    hearer = cluster.create(ACTOR, constraints=[f"node={cluster.leader()}"])
    teller = crew_of(cluster, victim, configuration={"tells": hearer})[0]

    def said(life: str) -> list[int]:
        notes = cluster.call(hearer, "notes")["notes"]
        return [number for one, number in notes if one == life]

    old = cluster.call(teller, "who")["life"]
    cluster.until(lambda: len(said(old)) > 100)
    cluster.pause(victim)
    moved(cluster, [teller], victim)
    new = cluster.until(lambda: cluster.call(teller, "who"))["life"]
    cluster.until(lambda: said(new))
    told = said(old)
    cluster.resume(victim)
    cluster.wait_well()
    count = len(said(new))
    cluster.until(lambda: len(said(new)) > count + 50)
    assert said(old) == told
    for life in (old, new):
        heard = said(life)  # once: the new one goes on talking
        assert heard == sorted(set(heard))
