"""One replica or a few, step by step: members and terms where the library gets them wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paas.base.errors import PlatformError
from paas.raft import configuration, snapshot
from paas.raft.adapters import Nodes
from paas.raft.engine import UNKNOWN
from paas.raft.inbox import can_wait
from paas.raft.machine import Machine
from paas.raft.messages import (
    AppendEntries,
    NextIndex,
    PreVoteAnswer,
    RequestVote,
    TimeoutNow,
    Welcome,
    decode,
)
from paas.raft.syncobj import Replica
from paas.sim.clock import SimClock
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Cluster, Words


def replica(disk: SimDisk, node: str = "a", **more: Any) -> Replica:
    """One that joins has been let in already."""
    made = Replica(
        files=disk,
        clock=SimClock(),
        entropy=SimEntropy(1),
        machine=Machine([Words()]),
        node=node,
        **more,
    )
    if made.returning.mute:
        made.receive("b", Welcome(made.returning.nonce or 0, 0, 1, 0))
    return made


def entry(index: int, voters: str, observers: str = "") -> tuple[bytes, int, int]:
    return configuration.encode(configuration.make(voters, observers)), index, 1


def appended(target: Replica, *entries: tuple[bytes, int, int], commit: int = 0) -> None:
    """What the leader b of term 1 sends."""
    target.connected("b", 1)
    target.receive("b", AppendEntries(1, commit, 1, 0, list(entries), 1))


def library_nodes(target: Replica) -> tuple[list[str], list[str]]:
    kinds = (target._get("otherNodes"), target._get("readonlyNodes"))
    return tuple([node.id for node in nodes] for nodes in kinds)  # type: ignore[return-value]


# -- the configuration in force --------------------------------------------------------------------


def test_the_library_gets_its_nodes_from_the_last_configuration_in_the_log() -> None:
    joiner = replica(SimDisk(), join=True)
    assert joiner.role == "observer"
    assert library_nodes(joiner) == ([], [])
    appended(joiner, entry(2, "bc", "a"), entry(3, "abc", "d"))
    assert joiner.role == "follower"
    assert library_nodes(joiner) == (["b", "c"], ["d"])
    assert joiner.configuration == configuration.Configuration(("a", "b", "c"), ("d",), 3)
    for known in ("raftNextIndex", "raftMatchIndex", "lastResponseTime"):
        assert [node.id for node in joiner._get(known)] == ["b", "c", "d"]


def test_an_uncommitted_configuration_is_in_force_after_a_restart() -> None:
    disk = SimDisk()
    first = replica(disk, voters="abc")
    appended(first, entry(2, "abcd"))
    first.journal.sync()
    disk.power_cut(lambda below: 0)
    again = replica(disk, voters="abc")
    assert again.commit_index < 2
    assert again.configuration.voters == ("a", "b", "c", "d")


def test_a_configuration_that_is_cut_off_gives_way_to_the_one_before() -> None:
    follower = replica(SimDisk(), voters="abc")
    appended(follower, entry(2, "abcd"), entry(3, "abcd", "e"))
    follower.connected("c", 1)
    follower.receive("c", AppendEntries(2, 0, 2, 1, [(b"\x01", 3, 2)], 1))
    assert follower.configuration == configuration.Configuration(("a", "b", "c", "d"), (), 2)
    follower.receive("c", AppendEntries(2, 0, 1, 0, [(b"\x01", 2, 2)], 2))
    assert follower.configuration == configuration.Configuration(("a", "b", "c"), committed=True)
    assert library_nodes(follower) == (["b", "c"], [])


def test_a_snapshot_holds_the_configuration_at_its_index_and_not_the_newest() -> None:
    disk = SimDisk()
    follower = replica(disk, voters="abc")
    commands = [(b"\x01", index, 1) for index in range(3, 8)]
    appended(follower, entry(2, "abcd"), *commands, entry(8, "abcde"), commit=6)
    follower.tick()
    follower.request_snapshot()
    follower.tick()
    job = follower.take_snapshot_job()
    assert job is not None
    job()
    data = snapshot.SnapshotFile(disk).read()
    assert data is not None
    assert snapshot.decode(data).configuration.voters == ("a", "b", "c", "d")
    assert follower.configuration.voters == ("a", "b", "c", "d", "e")
    follower.tick()  # the prefix goes
    assert follower.first_index > 2
    assert follower.configuration_at(6).index == 2
    follower.log.deleteEntriesFrom(8 - follower.first_index)
    assert follower.configuration.voters == ("a", "b", "c", "d")


def test_a_journal_without_configurations_still_opens() -> None:
    disk = SimDisk()
    first = replica(disk)
    for _ in range(3):
        first.tick()
        first.journal.sync()
    assert first.is_leader
    disk.power_cut(lambda below: 0)
    again = replica(disk)
    assert again.configuration == configuration.Configuration(("a",), (), 0, committed=True)
    again.tick()
    assert again.is_leader


def test_a_snapshot_written_before_there_were_configurations_still_loads() -> None:
    old = {"last": (b"\x01", 7, 2), "previous": (b"\x01", 6, 2), "voters": ["a"], "state": b""}
    made = msgspec.convert(old, snapshot.Snapshot)
    assert made.configuration == configuration.Configuration(("a",), (), 0)


def test_an_answer_of_a_peer_that_is_no_member_changes_nothing() -> None:
    cluster = Cluster("ABC")
    cluster.run(3)
    leader = cluster.replicas[cluster.leader()]
    leader.connected("X", 1)
    for term in (leader.term, leader.term + 5):
        leader.receive("X", NextIndex(99, True, True, term, 1 << 40))
    assert leader.is_leader
    assert "X" not in [node.id for node in leader._get("raftMatchIndex")]


def test_nobody_is_asked_to_stand_who_does_not_vote() -> None:
    observer = replica(SimDisk(), join=True)
    appended(observer, entry(2, "bc", "a"))
    observer.receive("b", TimeoutNow(1))
    before = observer.term
    for _ in range(5):
        observer.clock.advance(5)  # type: ignore[attr-defined]
        observer.tick()
    assert (observer.role, observer.term) == ("observer", before)


def test_an_observer_votes_when_it_is_asked_since_it_may_be_a_voter_by_now() -> None:
    observer = replica(SimDisk(), join=True)
    appended(observer, entry(2, "bc", "a"))
    observer.take_outbox()
    observer.clock.advance(5)  # type: ignore[attr-defined]
    observer.connected("c", 1)
    observer.receive("c", RequestVote(2, 2, 1))
    assert observer.journal.voted_for == "c"


def test_who_knows_no_members_does_not_vote() -> None:
    joiner = replica(SimDisk(), join=True)
    joiner.connected("c", 1)
    joiner.receive("c", RequestVote(2, 9, 1, transfer=True))
    assert (joiner.journal.voted_for, joiner.term, joiner.take_outbox()) == (None, 0, [])


# -- terms -----------------------------------------------------------------------------------------


def test_a_stale_leader_and_a_stale_candidate_learn_the_term_from_the_answer() -> None:
    voter = replica(SimDisk(), voters="abc")
    voter.learn_term(7)
    voter.connected("b", 1)
    voter.receive("b", AppendEntries(3, 0, 1, 0, [], 5))
    voter.receive("b", RequestVote(3, 1, 0))
    told = [decode(data) for _, data in voter.take_outbox()]
    assert told == [NextIndex(2, False, False, 7, 5), PreVoteAnswer(0, 7, False)]
    leader = Cluster("abc")
    leader.run(3)
    stale = leader.replicas[leader.leader()]
    other = next(name for name in "abc" if name != stale.node)
    term = stale.term
    stale.receive(other, NextIndex(2, False, False, term + 3, 5))
    assert (stale.is_leader, stale.leader, stale.term) == (False, None, term + 3)
    assert stale.leadership is None


def test_a_replica_with_a_larger_term_finds_back_under_a_living_leader() -> None:
    cluster = Cluster("ABC", seed=11)
    cluster.run(3)
    leader = cluster.leader()
    stray = next(name for name in "ABC" if name != leader)
    cluster.replicas[stray].learn_term(cluster.replicas[leader].term + 4)
    cluster.run(5)
    cluster.propose(cluster.leader(), "x")
    cluster.run(1)
    assert cluster.converged()


def test_the_leader_steps_down_without_a_majority_and_says_since_when_it_led() -> None:
    cluster = Cluster("ABC", seed=12)
    cluster.run(3)
    leader = cluster.leader()
    held = cluster.replicas[leader].leadership
    assert held is not None
    assert held.term == cluster.replicas[leader].term
    cluster.cut([leader], [name for name in "ABC" if name != leader])
    cluster.run(2)
    assert cluster.replicas[leader].leadership is None


# -- answers that change nothing -------------------------------------------------------------------


def test_a_leader_lets_answers_wait_that_tell_it_nothing() -> None:
    cluster = Cluster("ABC", seed=12)
    cluster.run(3)
    name = cluster.leader()
    leader = cluster.replicas[name]
    heartbeat = NextIndex(leader.last_index + 1, False, True, leader.term, 1)
    assert can_wait(leader, heartbeat)
    assert not can_wait(leader, msgspec.structs.replace(heartbeat, success=False))
    assert not can_wait(leader, msgspec.structs.replace(heartbeat, reset=True))
    assert not can_wait(leader, msgspec.structs.replace(heartbeat, term=leader.term + 1))
    behind = msgspec.structs.replace(heartbeat, next_index=leader.last_index)
    assert not can_wait(leader, behind)  # it wants the rest soon
    follower = next(r for n, r in cluster.replicas.items() if n != name)
    assert not can_wait(follower, heartbeat)


def test_a_leader_takes_answers_at_once_while_somebody_waits_for_them() -> None:
    cluster = Cluster("ABC", seed=12)
    cluster.run(3)
    name = cluster.leader()
    leader = cluster.replicas[name]
    heartbeat = NextIndex(leader.last_index + 1, False, True, leader.term, 1)
    leader.read(1, confirm=True)
    assert not can_wait(leader, heartbeat)
    cluster.run(1)
    assert can_wait(leader, heartbeat)
    cluster.propose(name, "x")
    assert not can_wait(leader, heartbeat)
    after = msgspec.structs.replace(heartbeat, next_index=leader.last_index + 1)
    assert not can_wait(leader, after)  # it commits
    cluster.run(1)
    assert can_wait(leader, after)


def test_followers_hear_of_a_commit_in_the_step_that_made_it() -> None:
    cluster = Cluster("ABC", seed=12)
    cluster.run(3)
    leader = cluster.replicas[cluster.leader()]
    cluster.propose(cluster.leader(), "x")
    for name in ("A", "B", "C") * 4:
        before, sequence = leader.commit_index, leader._sequence
        cluster.turn(name)
        if leader.commit_index != before:
            assert leader._sequence > sequence
            break
    else:
        raise AssertionError("it was not committed")


# -- what waits ------------------------------------------------------------------------------------


def test_a_snapshot_that_jumps_over_what_waits_says_so() -> None:
    leader = replica(SimDisk())
    leader.tick()
    told: list[int] = []
    for index in (5, 6, 9):
        leader._engine.waiting_for(index, lambda result, reason: told.append(reason))
    leader._engine.given_up_to(6)
    assert told == [UNKNOWN, UNKNOWN]
    assert list(leader._get("commandsWaitingCommit")) == [9]


def test_a_bootstrap_must_be_possible() -> None:
    with pytest.raises(PlatformError) as caught:
        replica(SimDisk(), voters=[""])
    assert caught.value.code == "invalid"


def test_sets_of_nodes_keep_their_order() -> None:
    nodes = Nodes("cab")
    assert list(nodes | {"d"}) == ["c", "a", "b", "d"]
    assert list(["z"] | nodes) == ["c", "a", "b", "z"]
    assert list(nodes - {"a"}) == ["c", "b"]
    assert list(nodes.intersection({"b", "c"})) == ["c", "b"]
    copy = nodes.copy()
    copy.add("x")
    copy.discard("c")
    assert (list(copy), len(copy), len(nodes), "a" in copy) == (["a", "b", "x"], 3, 3, True)
