"""The stories of docs/internals/raft.md: each harms data on the bare library, and not with ours.

Every scenario is a function that is run twice: once with the rules taken off, where the harm must
show (else the scenario proves nothing), and once as we ship it.  Names P.. and T../K.. are those of
docs/internals/raft.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paas.raft.messages import AppendEntries, AppendSnapshot, Message, NextIndex, ResponseVote
from paas.raft.settings import RaftSettings
from paas.sim.replicas import Broken, Cluster


def begin(cluster: Cluster, leader: str = "A") -> None:
    """Make one replica the leader, and nobody else ever by itself."""
    cluster.connect()
    cluster.calm()
    cluster.stand(leader)
    cluster.run(0.15)
    cluster.calm()
    cluster.run(0.5)
    cluster.calm()
    assert cluster.leader() == leader


def hear(cluster: Cluster, source: str, target: str, count: int | None = None) -> None:
    """Let messages arrive, and the answers go out, without a tick."""
    cluster.deliver(source, target, count)
    cluster.replicas[target].journal.sync()
    cluster.post(target)


def tick(cluster: Cluster, name: str, seconds: float = 0.11) -> None:
    cluster.clock.advance(seconds)
    cluster.turn(name, deliver=False)
    cluster.calm()


def lost(cluster: Cluster) -> set[str]:
    """What was acknowledged and is not in the state of the leader."""
    return cluster.acknowledged - set(cluster.words[cluster.leader()].words)


def harm(scenario: Callable[[Cluster], bool], cluster: Cluster) -> bool:
    try:
        return scenario(cluster)
    except Broken:
        return True


# -- P01, K4: several membership changes at once ---------------------------------------------------


def two_histories(cluster: Cluster) -> bool:
    begin(cluster)
    cluster.cut("AB", "CDE")
    leader = cluster.replicas["A"]
    with leader._entered():
        for name in "CDE":
            leader._engine.removeNodeFromCluster(leader._peers[name])
    cluster.propose("A", "on A's side")
    cluster.run(1)
    cluster.stand("C")
    cluster.run(1)
    cluster.propose("C", "on C's side")
    cluster.run(2)
    return {"on A's side", "on C's side"} <= cluster.acknowledged


def test_membership_changes_one_at_a_time() -> None:
    assert harm(two_histories, Cluster("ABCDE", membership_changes=True, bare=True))
    cluster = Cluster("ABCDE", membership_changes=True)
    assert not two_histories(cluster)
    assert cluster.acknowledged == {"on C's side"}


# -- P02, T5: a snapshot commits the receiver's own stale tail -------------------------------------


def stale_tail_committed(cluster: Cluster) -> bool:
    cluster.run(0.1)
    cluster.stand("A")
    cluster.run(2)
    cluster.propose("A", "x0")
    cluster.run(1)
    cluster.cut("A", "BC")
    cluster.propose("A", "stale")
    cluster.run(20)
    leader = next(name for name in cluster.leaders() if name != "A")
    for number in range(30):
        cluster.propose(leader, f"y{number}")
    cluster.run(2)
    cluster.compact(leader)
    cluster.run(1)
    cluster.heal()
    for _ in range(400):  # a slow link: one message a turn
        cluster.clock.advance(0.05)
        cluster.connect()
        for source in "BC":
            cluster.deliver(source, "A", 1)
        for name in "ABC":
            cluster.turn(name, deliver=name != "A")
    cluster.run(5)
    assert cluster.converged() or "stale" in cluster.acknowledged
    return "stale" in cluster.acknowledged


def small_chunks(_name: str) -> RaftSettings:
    return RaftSettings(snapshot_chunk_bytes=40)


def test_a_snapshot_does_not_commit_the_receivers_stale_tail() -> None:
    assert harm(stale_tail_committed, Cluster("ABC", seed=2, settings=small_chunks, bare=True))
    assert not stale_tail_committed(Cluster("ABC", seed=2, settings=small_chunks))


# -- P03, T4 and T2: a repeated append cuts acknowledged entries off -------------------------------


def acknowledged_entries_cut(cluster: Cluster) -> bool:
    begin(cluster)
    cluster.cut("C", "AB")
    cluster.run(0.05)
    for number in range(20):
        cluster.propose("A", f"v{number}", filler="." * 40)
    for _ in range(4):
        tick(cluster, "A")
    cluster.drop_messages()  # the connection breaks and is back before the next heartbeat
    for _ in range(2):
        tick(cluster, "A")  # two heartbeats under way: two rejections
    hear(cluster, "A", "B")
    for _ in range(2):
        hear(cluster, "B", "A", 1)
        tick(cluster, "A")
    sent = [m for m in cluster.messages("A", "B") if isinstance(m, AppendEntries)]
    places = [i for i, m in enumerate(sent) if m.previous_index == sent[0].previous_index]
    second = places[1] if len(places) > 1 else len(sent)
    hear(cluster, "A", "B", second)
    hear(cluster, "B", "A")
    tick(cluster, "A", 0.05)
    assert len(cluster.acknowledged) == 20
    hear(cluster, "A", "B", 1)  # the first message of the second copy, if there is one
    cluster.kill("A")
    cluster.heal()
    cluster.run(1)
    cluster.stand("B")
    cluster.run(4)
    return bool(lost(cluster))


def small_batches(_name: str) -> RaftSettings:
    return RaftSettings(append_bytes=200)


def test_a_repeated_append_cuts_nothing_off() -> None:
    assert harm(acknowledged_entries_cut, Cluster("ABC", settings=small_batches, bare=True))
    assert not acknowledged_entries_cut(Cluster("ABC", settings=small_batches))


def test_a_late_heartbeat_cuts_nothing_off() -> None:
    cluster = Cluster("ABC")
    begin(cluster)
    before = cluster.replicas["B"].last_index
    term = cluster.replicas["A"].term
    for number in range(5):
        cluster.propose("A", f"v{number}")
    cluster.run(0.5)
    assert cluster.replicas["B"].last_index == before + 5
    late = AppendEntries(term, before, before, cluster.replicas["B"].term_at(before), [], 1)
    cluster.replicas["B"].receive("A", late)
    assert cluster.replicas["B"].last_index == before + 5


# -- P04, T1: acknowledgements of an earlier term --------------------------------------------------


def committed_without_majority(cluster: Cluster) -> bool:
    begin(cluster)
    cluster.propose("A", "base")
    cluster.run(0.5)

    def slow(source: str, target: str, _message: Message) -> bool:
        return (source, target) == ("B", "A")

    cluster.hold = slow
    cluster.cut("A", "CDE")
    for number in range(10):
        cluster.propose("A", f"t1-{number}")
    cluster.run(0.5)  # B appends; its acknowledgements are under way
    cluster.cut("B", "CDE")
    cluster.stand("C")
    cluster.run(0.3)
    cluster.calm()
    cluster.heal()
    cluster.cut("B", "CDE")
    cluster.cut("C", "DE")
    cluster.cut("A", "DE")
    cluster.run(0.5)  # C replaces A's tail
    cluster.calm()
    cluster.heal()
    cluster.cut("C", "ABDE")
    cluster.hold = lambda a, b, m: slow(a, b, m) or (a, b) == ("A", "B")
    cluster.connect()
    cluster.stand("A")
    cluster.run(0.15)
    cluster.calm()
    assert cluster.replicas["A"].is_leader
    cluster.cut("A", "E")
    cluster.cut("D", "E")
    cluster.propose("A", "alone")
    for source, target, message in cluster.held:
        if isinstance(message, NextIndex) and (source, target) == ("B", "A"):
            cluster.replicas["A"].receive("B", message)
    cluster.run(0.5)
    return "alone" in cluster.acknowledged


def test_acknowledgements_of_an_earlier_term_commit_nothing() -> None:
    assert harm(committed_without_majority, Cluster("ABCDE", bare=True))
    assert not committed_without_majority(Cluster("ABCDE"))


# -- P07, T6: a late rejection brings back an old snapshot -----------------------------------------


def old_snapshot_installed(cluster: Cluster) -> bool:
    begin(cluster)
    cluster.cut("C", "AB")
    cluster.run(0.05)
    for number in range(10):
        cluster.propose("A", f"v{number}")
    cluster.run(0.5)
    cluster.compact("A")
    cluster.run(0.1)
    for number in range(10):
        cluster.propose("A", f"w{number}")
    cluster.run(0.5)
    cluster.calm()
    assert len(cluster.acknowledged) == 20
    leader = cluster.replicas["A"]
    late = NextIndex(3, reset=True, success=False, term=leader.term, echo=1 << 40)
    leader.receive("B", late)
    tick(cluster, "A")
    assert any(isinstance(m, AppendSnapshot) for m in cluster.messages("A", "B"))
    cluster.hold = lambda a, b, m: (a, b) == ("A", "B") and not isinstance(m, AppendSnapshot)
    hear(cluster, "A", "B")
    cluster.kill("A")
    cluster.heal()
    cluster.hold = None
    cluster.run(1)
    cluster.stand("B")
    cluster.run(4)
    return bool(lost(cluster))


def test_a_snapshot_that_is_held_already_is_not_installed() -> None:
    assert harm(old_snapshot_installed, Cluster("ABC", bare=True))
    assert not old_snapshot_installed(Cluster("ABC"))


# -- P12, T2: a burst of rejections starves a follower for ever ------------------------------------


def follower_starves(cluster: Cluster) -> bool:
    cluster.connect()
    cluster.stand("A")
    cluster.run(2)
    cluster.propose("A", "x0")
    cluster.run(1)
    cluster.cut("A", "BC")
    cluster.propose("A", "stale")
    cluster.run(5)
    leader = next(name for name in cluster.leaders() if name != "A")
    other = "BC".replace(leader, "")
    for number in range(300):
        cluster.propose(leader, f"y{number}", filler="." * 1_000)
    cluster.run(3)
    cluster.kill(leader)
    cluster.heal()
    cluster.latency_s = lambda: 0.005
    cluster.run(60, period_s=0.02)
    return len(cluster.words["A"].words) < 301 or cluster.leaders() not in (["A"], [other])


def test_a_follower_with_a_stale_entry_catches_up() -> None:
    assert harm(follower_starves, Cluster("ABC", seed=20, bare=True))
    assert not follower_starves(Cluster("ABC", seed=20))


# -- P13, T3: finding the common entry takes one round trip ----------------------------------------


def long_stale_tail(cluster: Cluster) -> bool:
    begin(cluster)
    cluster.cut("A", "BC")
    for number in range(300):
        cluster.propose("A", f"stale{number}")
    cluster.run(1)
    cluster.stand("B")
    cluster.run(1)
    for number in range(300):
        cluster.propose("B", f"fresh{number}")
    cluster.run(1)
    cluster.kill("B")
    cluster.heal()
    cluster.run(0.5)
    cluster.stand("C")  # a leader that begins to look for the common entry at its own end
    cluster.run(3)
    return cluster.words["A"].words != [f"fresh{number}" for number in range(300)]


def test_a_long_stale_tail_is_replaced_in_seconds() -> None:
    assert harm(long_stale_tail, Cluster("ABC", bare=True))
    assert not long_stale_tail(Cluster("ABC"))


# -- P14, T7: votes are counted by voter -----------------------------------------------------------


def elected_by_one_vote(cluster: Cluster) -> bool:
    cluster.connect()
    cluster.calm()
    cluster.hold = lambda a, b, m: isinstance(m, ResponseVote)
    cluster.stand("A")
    cluster.run(0.2)
    vote = next(m for a, _, m in cluster.held if a == "B")
    for _ in range(3):
        cluster.replicas["A"].receive("B", vote)
    return cluster.replicas["A"].is_leader


def test_a_repeated_vote_counts_once() -> None:
    assert elected_by_one_vote(Cluster("ABCDE", bare=True))
    assert not elected_by_one_vote(Cluster("ABCDE"))


# -- P05, K2: a crash between the snapshot and the journal -----------------------------------------


@pytest.mark.parametrize("power", [False, True])
def test_a_crash_between_snapshot_and_journal_loses_nothing(power: bool) -> None:
    cluster = Cluster("A")
    cluster.run(0.2)
    for number in range(20):
        cluster.propose("A", f"v{number}")
    cluster.run(0.2)
    cluster.compact("A")
    replica = cluster.replicas["A"]
    replica.tick()
    for number in range(20, 40):
        cluster.propose("A", f"v{number}")
    replica.append()
    replica.journal.sync()
    replica.tick()
    job = replica.take_snapshot_job()
    assert job is not None
    job()  # the snapshot is there; the journal still begins at 1
    cluster.kill("A", power=power)
    again = cluster.boot("A")
    cluster.run(0.2)
    assert again.first_index > 1
    assert cluster.words["A"].words == [f"v{number}" for number in range(40)]


# -- K5, first part: no elections without a majority in reach --------------------------------------


def test_a_replica_that_reaches_no_majority_does_not_raise_the_term() -> None:
    cluster = Cluster("ABCDE")
    cluster.run(3)
    before = cluster.replicas["A"].term
    cluster.cut("AB", "CDE")
    cluster.run(20)
    assert {cluster.replicas[name].term for name in "AB"} == {before}


# -- the everyday ones -----------------------------------------------------------------------------


def test_three_voters_commit_and_survive_the_loss_of_their_leader() -> None:
    cluster = Cluster("ABC", seed=4)
    cluster.run(3)
    first = cluster.leader()
    for number in range(20):
        cluster.propose(first, f"before{number}")
    cluster.run(1)
    cluster.kill(first, power=True)
    cluster.run(5)
    second = cluster.leader()
    cluster.propose(second, "after")
    cluster.run(1)
    cluster.boot(first)
    cluster.run(3)
    assert cluster.converged()
    assert len(cluster.acknowledged) == 21


def test_a_partition_heals_and_the_minority_follows() -> None:
    cluster = Cluster("ABC", seed=5)
    cluster.run(3)
    old = cluster.leader()
    rest = [name for name in "ABC" if name != old]
    cluster.cut([old], rest)
    cluster.propose(old, "nobody hears this")
    cluster.run(5)
    assert cluster.leaders() != [old]
    cluster.propose(cluster.leader(), "the majority goes on")
    cluster.run(1)
    cluster.heal()
    cluster.run(3)
    assert cluster.converged()
    assert cluster.acknowledged == {"the majority goes on"}


def test_a_follower_hands_a_command_to_the_leader() -> None:
    cluster = Cluster("ABC", seed=6)
    cluster.run(3)
    follower = next(name for name in "ABC" if name != cluster.leader())
    cluster.propose(follower, "from afar")
    cluster.run(1)
    assert cluster.acknowledged == {"from afar"}


def test_all_voters_lose_power_and_come_back_with_everything() -> None:
    cluster = Cluster("ABC", seed=7)
    cluster.run(3)
    for number in range(50):
        cluster.propose(cluster.leader(), f"w{number}")
    cluster.run(0.5)
    assert len(cluster.acknowledged) == 50
    for name in "ABC":
        cluster.kill(name, power=True)
    for name in "ABC":
        cluster.boot(name)
    cluster.run(5)
    assert cluster.converged()
