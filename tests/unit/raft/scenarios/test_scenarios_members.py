"""Stories of members, elections and reads: harmful with a rule switched off, and not as we ship it.

What the bare library does in their place is in test_scenarios.py (P01) and in P24-P27 of
docs/internals/raft.md; rules of our own are taken off by `paas.sim.consensus.mutants`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import pytest

from paas.base.errors import PlatformError
from paas.raft.messages import Message, NextIndex
from paas.sim.consensus.mutants import switched_off
from paas.sim.replicas import Broken, Cluster


def harm(scenario: Callable[[Cluster], bool], cluster: Cluster) -> bool:
    try:
        return scenario(cluster)
    except Broken:
        return True


def started(names: str, seed: int) -> Cluster:
    cluster = Cluster(names, seed=seed)
    cluster.run(3)
    return cluster


def others(cluster: Cluster, *names: str) -> list[str]:
    return [name for name in cluster.names if name not in names]


# -- P01, K4: a leader in a minority makes its minority the majority -------------------------------


def majority_made_of_a_minority(cluster: Cluster) -> bool:
    leader = cluster.leader()
    mate, *rest = others(cluster, leader)
    cluster.cut([leader, mate], rest)
    replica = cluster.replicas[leader]
    voters: Iterable[str] = cluster.names
    for name in rest:
        voters = [voter for voter in voters if voter != name]
        with contextlib.suppress(PlatformError):
            replica.change_configuration(voters, [])
    cluster.propose(leader, "here")
    cluster.run(5)
    for name in cluster.leaders():
        cluster.propose(name, "there")
    cluster.run(2)
    return {"here", "there"} <= cluster.acknowledged


def test_members_change_one_at_a_time() -> None:
    with switched_off("K4"):
        assert harm(majority_made_of_a_minority, started("ABCDE", 1))
    cluster = started("ABCDE", 1)
    assert not majority_made_of_a_minority(cluster)
    assert cluster.acknowledged == {"there"}
    cluster.heal()
    cluster.run(5)
    assert cluster.converged()


def test_a_change_that_was_not_committed_is_taken_back_with_its_entry() -> None:
    cluster = started("ABCDE", 2)
    leader = cluster.leader()
    rest = others(cluster, leader)
    cluster.cut([leader], rest)
    replica = cluster.replicas[leader]
    replica.change_configuration(others(cluster, rest[0]), [rest[0]])
    cluster.run(4)
    assert replica.voters != tuple(cluster.names)
    cluster.heal()
    cluster.run(4)
    assert all(r.voters == tuple(cluster.names) for r in cluster.replicas.values())
    assert cluster.converged()


# -- P25, K5: who hears nothing must not depose who leads well -------------------------------------


def deposed_by_a_deaf_one(cluster: Cluster) -> bool:
    leader = cluster.leader()
    deaf = others(cluster, leader)[0]
    term = cluster.replicas[leader].term
    cluster.hold = lambda source, target, message: target == deaf
    cluster.run(5)
    cluster.hold = None
    cluster.run(3)
    return cluster.replicas[leader].term != term or cluster.leaders() != [leader]


def test_a_deaf_follower_does_not_depose_the_leader() -> None:
    with switched_off("K5"):
        assert harm(deposed_by_a_deaf_one, started("ABC", 3))
    assert not deposed_by_a_deaf_one(started("ABC", 3))


def deposed_by_who_was_away(cluster: Cluster) -> bool:
    """Paused for a while: its timer has ended before it reads that the leader lives."""
    leader = cluster.leader()
    away, here = others(cluster, leader)
    term = cluster.replicas[leader].term
    cluster.run(5, only=(leader, here))
    cluster.turn(away, deliver=False)
    cluster.run(3)
    return cluster.replicas[leader].term != term


def test_who_was_paused_does_not_depose_the_leader() -> None:
    with switched_off("K5"):
        assert harm(deposed_by_who_was_away, started("ABC", 4))
    assert not deposed_by_who_was_away(started("ABC", 4))


# -- P26, K7: a leader that was deposed without knowing answers a read -----------------------------


def stale_read(cluster: Cluster) -> bool:
    """Does the old leader's answer miss what the new one acknowledged before the question?"""
    old = cluster.leader()
    cluster.propose(old, "before")
    cluster.run(1)
    cluster.cut([old], others(cluster, old))
    for _ in range(100):
        cluster.run(0.05, only=others(cluster, old))
        if cluster.leaders() != [old]:
            break
    new = next(name for name in cluster.leaders() if name != old)
    cluster.propose(new, "meanwhile")
    cluster.run(0.5, only=others(cluster, old))
    assert "meanwhile" in cluster.acknowledged
    replica = cluster.replicas[old]
    assert replica.is_leader  # it has not looked at its timers since
    replica.read(1)
    replica.append()
    answered = replica.take_reads()
    cluster.run(1)
    answered += replica.take_reads()
    return bool(answered) and "meanwhile" not in cluster.words[old].words


def test_a_deposed_leader_answers_no_read() -> None:
    with switched_off("K7"):
        assert harm(stale_read, started("ABC", 5))
    assert not stale_read(started("ABC", 5))


def test_a_read_comes_through_when_the_partition_is_over() -> None:
    cluster = started("ABC", 5)
    old = cluster.leader()
    assert not stale_read(cluster)
    cluster.heal()
    cluster.run(4)
    answered = cluster.replicas[old].take_reads()
    assert [outcome.number for outcome in answered] == [1]
    assert answered[0].index is not None
    assert "meanwhile" in cluster.words[old].words


# -- a disk that was lost --------------------------------------------------------------------------


def test_who_lost_its_disk_does_not_vote_before_it_was_forgotten_and_taken_in_again() -> None:
    cluster = started("ABC", 6)
    leader = cluster.leader()
    lost, healthy = others(cluster, leader)
    for number in range(5):
        cluster.propose(leader, f"w{number}")
    cluster.run(1)
    cluster.kill(lost)
    replica = cluster.replicas[leader]
    replica.change_configuration([leader, healthy], [])
    cluster.run(1)
    assert replica.configuration.committed
    cluster.replace(lost)
    newcomer = cluster.replicas[lost]
    cluster.run(1)
    assert not newcomer.knows_members  # nobody talks to it yet
    with pytest.raises(PlatformError):
        newcomer.change_configuration([lost], [])
    replica.change_configuration([leader, healthy], [lost])
    cluster.run(2)
    assert newcomer.role == "observer"
    replica.change_configuration([leader, healthy, lost], [])
    cluster.run(2)
    assert newcomer.role == "follower"
    assert cluster.converged()


def echo_of_an_earlier_life(cluster: Cluster) -> bool:
    """The answer to an append of its last life reaches one who led, died and is elected anew."""
    leader = cluster.leader()
    mate, third = others(cluster, leader)
    for number in range(40):
        cluster.propose(leader, f"w{number}")
        cluster.run(0.1)
    late: list[NextIndex] = []

    def hold(source: str, target: str, message: Message) -> bool:
        if (source, target) == (mate, leader) and isinstance(message, NextIndex):
            late.append(message)
            return True
        return False

    cluster.hold = hold
    cluster.run(0.2)
    cluster.hold = None
    cluster.kill(leader)
    again = cluster.boot(leader)
    assert again.term == late[-1].term
    again.receive(mate, late[-1])
    cluster.connect()
    cluster.calm()
    again._set("raftElectionDeadline", 0)
    for _ in range(60):
        cluster.run(0.05)
        if again.is_leader:
            break
    assert again.is_leader
    cluster.run(0.3)
    cluster.cut([leader], [mate, third])
    again.read(7, confirm=True)
    again.append()
    return any(outcome.index is not None for outcome in again.take_reads())


def test_what_was_echoed_to_an_earlier_life_confirms_nothing() -> None:
    with switched_off("K7"):
        assert echo_of_an_earlier_life(started("ABC", 7))
    assert not echo_of_an_earlier_life(started("ABC", 7))
