"""A replica that lost its log: it is silent until the others can do without what it promised."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.raft import limits, recovery, returning
from paas.raft.machine import Machine
from paas.raft.messages import (
    AppendEntries,
    NextIndex,
    PreVote,
    PreVoteAnswer,
    RequestVote,
    Returned,
    Welcome,
    decode,
)
from paas.raft.settings import RaftSettings
from paas.raft.syncobj import Replica
from paas.raft.transport import MemoryNetwork
from paas.sim.clock import SimClock
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Note, PowerCut, Words

SEEDS = itertools.count(1)


def replica(disk: SimDisk, node: str = "a", **more: Any) -> Replica:
    made = Replica(
        files=disk,
        clock=SimClock(),
        entropy=SimEntropy(next(SEEDS)),
        machine=Machine([Words()]),
        node=node,
        **more,
    )
    made.connected("b", 1)
    made.connected("c", 1)
    return made


def sent(target: Replica) -> list[Any]:
    target.append()
    target.tick()
    return [decode(data) for _, data in target.take_outbox()]


def nonce(target: Replica) -> int:
    assert target.returning.nonce is not None
    return target.returning.nonce


# -- silence ---------------------------------------------------------------------------------------


def test_who_begins_with_an_empty_log_says_so_and_nothing_else() -> None:
    joiner = replica(SimDisk(), join=True)
    assert sent(joiner) == [Returned(nonce(joiner))] * 2
    for message in (
        AppendEntries(5, 1, 1, 0, [(b"\x00x", 2, 5)], 1),
        PreVote(1, 6, 9, 5),
        RequestVote(6, 9, 5),
        RequestVote(6, 9, 5, True),
    ):
        joiner.receive("b", message)
        assert joiner.take_outbox() == []
    assert (joiner.term, joiner.last_index, joiner.journal.voted_for) == (0, 1, None)
    joiner.clock.advance(limits.RETURNED_REPEAT_S)  # type: ignore[attr-defined]
    assert joiner.tick_due
    assert sent(joiner) == [Returned(nonce(joiner))] * 2


def test_a_welcome_to_another_life_is_not_meant() -> None:
    disk = SimDisk()
    before = nonce(replica(disk, join=True))
    disk = SimDisk()
    joiner = replica(disk, join=True)
    joiner.receive("b", Welcome(before, 3, 1, 0))
    assert joiner.returning.mute
    joiner.receive("b", Welcome(nonce(joiner), 3, 1, 0))
    assert not joiner.returning.mute
    assert (joiner.term, joiner.journal.voted_for) == (3, "b")


def test_who_was_welcomed_votes_for_nobody_before_its_log_holds_the_floor() -> None:
    disk = SimDisk()
    joiner = replica(disk, join=True)
    joiner.receive("b", Welcome(nonce(joiner), 3, 3, 3))
    joiner.receive("b", AppendEntries(3, 1, 1, 0, [(b"\x01", 2, 3)], 1))
    joiner.journal.sync()
    joiner = replica(disk, join=True)  # and another life does not change it
    assert (joiner.returning.mute, joiner.returning.settled) == (False, False)
    assert joiner.term == 3
    joiner.take_outbox()
    joiner.receive("c", PreVote(1, 9, 9, 9))
    joiner.receive("c", RequestVote(9, 9, 9))
    assert [decode(data) for _, data in joiner.take_outbox()] == [PreVoteAnswer(1, 3, False)]
    assert joiner.journal.voted_for == "b"
    joiner.receive("b", AppendEntries(3, 1, 2, 3, [(b"\x01", 3, 3)], 2))
    assert joiner.returning.settled


def test_a_journal_that_is_behind_its_welcome_starts_with_the_term_of_it() -> None:
    disk = SimDisk()
    joiner = replica(disk, join=True)
    joiner.journal.sync()
    joiner.receive("b", Welcome(nonce(joiner), 7, 3, 3))
    disk.power_cut(lambda below: 0)  # the file is durable, the journal's next sync did not come
    again = replica(disk, join=True)
    assert (again.returning.mute, again.term, again.journal.voted_for) == (False, 7, "b")


def test_a_welcome_that_another_life_has_read_is_not_forgotten() -> None:
    disk = SimDisk()
    joiner = replica(disk, join=True)

    def killed(kind: str) -> None:
        if kind == "sync_dir":
            raise PowerCut

    disk.on_operation = killed
    with pytest.raises(PowerCut):
        joiner.receive("b", Welcome(nonce(joiner), 7, 3, 3))  # renamed, and not yet durable
    disk.on_operation = None
    assert not replica(disk, join=True).returning.mute  # from now on it may become a voter
    disk.power_cut(lambda below: 0)
    assert not replica(disk, join=True).returning.mute


def test_a_replica_without_a_journal_does_not_trust_what_it_was_told_before() -> None:
    disk = SimDisk()
    joiner = replica(disk, join=True)
    first = nonce(joiner)
    joiner.receive("b", Welcome(first, 7, 3, 3))
    disk.remove("journal")
    again = replica(disk)
    assert again.returning.mute
    assert nonce(again) != first


# -- the one who lets in ---------------------------------------------------------------------------


def leader(voters: str = "abc") -> Replica:
    """a leads the voters in term 1, and has committed an entry of it."""
    made = replica(SimDisk(), voters=list(voters))
    with made._entered():
        made._engine._SyncObj__setCurrentTerm(1, "a")
        made._engine._SyncObj__onBecomeLeader()
    made.journal.sync()
    answer(made, "b")
    made.tick()
    assert made.own_term_committed
    made.take_outbox()
    return made


def answer(target: Replica, peer: str) -> None:
    """A follower has everything that the leader has sent."""
    target.append()
    target.tick()
    target.take_outbox()
    sequence = target._sequence
    target.receive(peer, NextIndex(target.last_index + 1, False, True, target.term, sequence))


def welcomes(target: Replica) -> list[Welcome]:
    return [message for message in sent(target) if isinstance(message, Welcome)]


def test_a_voter_is_not_let_in_before_a_committed_configuration_is_without_it() -> None:
    host = leader()
    host.receive("c", Returned(77))
    assert host.followers()["c"].returned
    answer(host, "b")
    assert welcomes(host) == []
    host.change_configuration(["a", "b"], ["c"])
    host.journal.sync()
    assert welcomes(host) == []
    answer(host, "b")
    assert welcomes(host) == []  # committed now; the round begins
    answer(host, "b")
    found = welcomes(host)
    assert found == [Welcome(77, 1, host.commit_index, 1)]
    assert not host.followers()["c"].returned
    assert welcomes(host) == []


def test_a_round_that_began_before_the_nonce_came_proves_nothing() -> None:
    host = leader("ab")
    host.change_configuration(["a", "b"], ["c"])
    host.journal.sync()
    answer(host, "b")
    answer(host, "b")
    old = host._sequence
    host.receive("c", Returned(5))
    host.receive("b", NextIndex(host.last_index + 1, False, True, 1, old))
    assert welcomes(host) == []
    answer(host, "b")
    assert len(welcomes(host)) == 1


def test_who_does_not_ask_any_more_is_forgotten() -> None:
    host = leader()
    host.receive("c", Returned(5))
    host.clock.advance(limits.RETURNED_FORGOTTEN_S + 0.1)  # type: ignore[attr-defined]
    host.append()
    assert not host.followers()["c"].returned


# -- the story that it is for ----------------------------------------------------------------------


async def test_an_empty_disk_under_an_old_name_elects_nobody_and_comes_back(logs: Any) -> None:
    for name in "abc":
        await logs.boot(name, voters=["a", "b", "c"])
    first = await logs.leader()
    behind, lost = [name for name in "abc" if name != first]
    await logs.kill(behind)
    for number in range(10):
        await logs[first].propose(Note(word=str(number), filler=""))
    words = list(logs.words[first].words)
    await logs.kill(lost)
    logs.disks[lost] = SimDisk()
    await logs.boot(lost, join=True)
    await logs.kill(first)
    await logs.boot(behind, voters=["a", "b", "c"])
    await trio.sleep(3)  # many elections long
    assert logs[behind].leadership is None  # else the ten words would be gone
    await logs.boot(first, voters=["a", "b", "c"])
    await logs.until(lambda: logs[first].leadership is not None)
    await logs[first].confirm()
    await logs.until(lambda: logs[first].followers()[lost].returned)
    await logs[first].change_configuration([first, behind], [lost])
    await logs.until(lambda: logs.words[lost].words == words)
    assert not logs[lost].status()["returning"]
    await logs[first].change_configuration(["a", "b", "c"], [])
    await logs.kill(behind)
    await logs[first].propose(Note(word="with the vote of who returned", filler=""))


# -- putting aside ---------------------------------------------------------------------------------


def open_again(disk: SimDisk, *, others: bool, told: list[PlatformError]) -> Any:
    return recovery.open_or_return(
        others=others,
        on_damage=told.append,
        files=disk,
        clock=SimClock(),
        entropy=SimEntropy(next(SEEDS)),
        machine=Machine([Words()]),
        node="a",
        voters=[] if not others else ["a", "b"],
        transport=MemoryNetwork().transport("a"),
        settings=RaftSettings(sync_in_thread=False),
    )


def damaged_disk() -> SimDisk:
    disk = SimDisk()
    made = replica(disk, voters=["a", "b"])
    made.journal.append(b"\x01", 2, 1)
    made.journal.sync()
    made.journal.close()
    disk.flip_bit("journal", 8 * 1_030)
    return disk


def test_a_damaged_log_is_put_aside_and_the_replica_is_mute() -> None:
    disk, told = damaged_disk(), list[PlatformError]()
    content = disk.content("journal")
    log = open_again(disk, others=True, told=told)
    assert [error.code for error in told] == ["corrupt"]
    assert log.status()["returning"]
    assert disk.content("journal.damaged-1") == content


def test_the_only_one_there_is_does_not_begin_anew() -> None:
    disk, told = damaged_disk(), list[PlatformError]()
    before = disk.list()
    with pytest.raises(PlatformError, match="no other node") as caught:
        open_again(disk, others=False, told=told)
    assert caught.value.code == "corrupt"
    assert "backup" in str(caught.value.hint)
    assert (disk.list(), told) == (before, [])


def test_a_log_that_is_gone_while_there_are_others_is_not_begun_a_second_time() -> None:
    assert open_again(SimDisk(), others=True, told=[]).status()["returning"]
    assert not open_again(SimDisk(), others=False, told=[]).status()["returning"]


def test_a_damaged_mark_is_damage_of_the_log() -> None:
    disk, told = damaged_disk(), list[PlatformError]()
    open_again(disk, others=True, told=told)
    disk.flip_bit(returning.FILE, 400)
    log = open_again(disk, others=True, told=told)
    assert "returned" in told[1].message
    assert log.status()["returning"]


def test_only_the_last_damaged_logs_are_kept() -> None:
    disk = SimDisk()
    for _ in range(limits.DAMAGED_KEPT + 2):
        replica(disk, join=True).journal.close()
        recovery.set_aside(disk, SimEntropy(next(SEEDS)))
    numbers = [int(name.rpartition("-")[2]) for name in disk.list() if ".damaged-" in name]
    assert numbers == [3, 4, 5]


def test_without_room_for_the_mark_nothing_is_moved_and_the_next_start_does_it() -> None:
    disk = damaged_disk()
    names = disk.list()
    disk.capacity_bytes = 0
    for _ in range(2):
        with pytest.raises(PlatformError) as caught:
            open_again(disk, others=True, told=[])
        assert caught.value.code == "storage-full"
        assert isinstance(caught.value.__cause__, OSError)
        assert disk.list() == names
    disk.capacity_bytes = 1 << 40
    assert open_again(disk, others=True, told=[]).status()["returning"]
    assert "journal.damaged-1" in disk.list()


def test_without_room_to_begin_anew_a_joining_replica_does_not_start() -> None:
    disk = SimDisk(capacity_bytes=0)
    with pytest.raises(PlatformError) as caught:
        returning.recover(disk, SimEntropy(1), join=True)
    assert caught.value.code == "storage-full"
    assert disk.list() == []


def test_another_failure_of_the_disk_is_not_called_a_full_one() -> None:
    disk = SimDisk()
    disk.fail_next_sync = lambda below: 0
    with pytest.raises(OSError, match="Input/output error"):
        returning.begin(disk, SimEntropy(1))


def test_power_may_fail_before_every_single_step_of_it() -> None:
    whole = damaged_disk()
    for step in range(40):
        disk = copy.deepcopy(whole)
        left = step

        def count(_kind: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut

        disk.on_operation = count
        finished = True
        try:
            open_again(disk, others=True, told=[])
        except PowerCut:
            finished = False
        disk.on_operation = None
        disk.power_cut(lambda below: 0)
        assert open_again(disk, others=True, told=[]).status()["returning"], step
        assert "journal.damaged-1" in disk.list(), step
        if finished:
            return
    raise AssertionError("it takes more steps than expected")


def test_who_came_back_without_its_log_does_not_count_as_being_in_touch() -> None:
    host = leader()
    answer(host, "b")
    answer(host, "c")
    host.connected("b", 2)  # another life, a moment after the last answer of the one before
    with pytest.raises(PlatformError, match="in touch"):
        host.change_configuration(["a", "b"], ["c"])  # nobody could commit it, nor lead afterwards
    host.change_configuration(["a", "c"], ["b"])
