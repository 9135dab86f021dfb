"""The log as its users see it: outcomes, order, durability, full disk, several voters."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from paas.base.errors import LocalError, PlatformError
from paas.raft import limits
from paas.raft.journal import JournalFailed
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine, StateReplaced
from paas.raft.settings import RaftSettings
from paas.raft.transport import MemoryNetwork
from paas.real.clock import SystemClock
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Note, Noted, Words

SEEDS = itertools.count(1)  # each life draws other numbers, as on a real machine
INLINE = RaftSettings(sync_in_thread=False)


def opened(disk: SimDisk, words: Words, node: str = "a", **more: Any) -> ReplicatedLog:
    return ReplicatedLog.open(
        files=disk,
        clock=SystemClock(),
        entropy=SimEntropy(next(SEEDS)),
        machine=Machine([words]),
        node=node,
        **{"settings": INLINE, **more},
    )


@asynccontextmanager
async def running(log: ReplicatedLog) -> AsyncIterator[ReplicatedLog]:
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        yield log
        await log.close()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await trio.sleep(0.02)


# -- one voter -------------------------------------------------------------------------------------


async def test_a_proposal_returns_its_result_and_survives_a_power_cut() -> None:
    disk, words = SimDisk(), Words()
    async with running(opened(disk, words)) as log:
        assert await log.propose(Note(word="x")) == 1
        assert await log.propose(Note(word="y")) == 2
        disk.power_cut(lambda below: 0)
    again = Words()
    async with running(opened(disk, again)) as log:
        assert again.words == ["x", "y"]
        assert log.status()["role"] == "leader"


async def test_proposals_of_one_turn_share_a_sync() -> None:
    async with running(opened(SimDisk(), Words())) as log:
        before = log.status()["syncs"]
        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(log.propose, Note(word=f"w{number}"))
        assert log.status()["applied"] >= 64
        assert log.status()["syncs"] - before <= 3


async def test_waiting_for_a_real_thread_keeps_the_order() -> None:
    words = Words()
    async with running(opened(SimDisk(), words, settings=RaftSettings())) as log:
        for number in range(20):
            assert await log.propose(Note(word=f"w{number}")) == number + 1


async def test_the_same_request_is_applied_once_also_after_a_restart() -> None:
    disk = SimDisk()
    async with running(opened(disk, Words())) as log:
        assert await log.propose(Note(word="x"), request_id=("client", 7)) == 1
        assert await log.propose(Note(word="x"), request_id=("client", 7)) == 1
    words = Words()
    async with running(opened(disk, words)) as log:
        assert await log.propose(Note(word="x"), request_id=("client", 7)) == 1
    assert words.words == ["x"]


async def test_the_same_request_twice_at_once_is_one() -> None:
    words = Words()
    results: list[Any] = []

    async def ask(log: ReplicatedLog) -> None:
        results.append(await log.propose(Note(word="x"), request_id=("client", 1)))

    async with running(opened(SimDisk(), words)) as log, trio.open_nursery() as nursery:
        nursery.start_soon(ask, log)
        nursery.start_soon(ask, log)
    assert (results, words.words) == ([1, 1], ["x"])


async def test_a_command_that_is_refused_raises_its_own_error() -> None:
    class Strict(Words):
        def _note(self, cmd: Note, ctx: Any) -> int:
            raise PlatformError("conflict", "not this word", word=cmd.word)

    async with running(opened(SimDisk(), Strict())) as log:
        with pytest.raises(PlatformError) as caught:
            await log.propose(Note(word="x"))
    assert (caught.value.code, caught.value.data) == ("conflict", {"word": "x"})


async def test_subscribers_hear_everything_in_order_but_nothing_that_is_replayed() -> None:
    disk = SimDisk()
    for expected in (["w0", "w1", "w2"], ["w0", "w1", "w2"]):
        heard: list[tuple[int, str]] = []

        def listen(index: int, events: Sequence[msgspec.Struct]) -> None:
            heard.extend((index, e.word) for e in events if isinstance(e, Noted))  # noqa: B023

        log = opened(disk, Words())
        unsubscribe = log.subscribe(listen)
        async with running(log):
            for word in expected:
                await log.propose(Note(word=word))
            unsubscribe()
            await log.propose(Note(word="unheard"))
        assert [word for _, word in heard] == expected
        assert heard == sorted(heard)


async def test_a_subscriber_that_fails_does_not_stop_the_others() -> None:
    heard: list[int] = []

    def fail(index: int, events: Sequence[msgspec.Struct]) -> None:
        raise ValueError

    log = opened(SimDisk(), Words())
    log.subscribe(fail)
    log.subscribe(lambda index, events: heard.append(index))
    async with running(log):
        await log.propose(Note(word="x"))
    assert len(heard) == 1


async def test_a_snapshot_shortens_the_journal_and_holds_everything() -> None:
    disk, words = SimDisk(), Words()
    async with running(opened(disk, words)) as log:
        for number in range(50):
            await log.propose(Note(word=f"w{number}"))
        await log.snapshot()
        await log.snapshot()  # nothing came since: no harm
        await log.propose(Note(word="after"))
        assert log.status()["first_index"] > 40
        disk.power_cut(lambda below: 0)
    again = Words()
    async with running(opened(disk, again)):
        assert again.words == [f"w{number}" for number in range(50)] + ["after"]


async def test_the_journal_is_compacted_by_itself() -> None:
    disk = SimDisk()
    settings = RaftSettings(sync_in_thread=False, compaction_entries=50)
    async with running(opened(disk, Words(), settings=settings)) as log:
        for number in range(300):
            await log.propose(Note(word=f"w{number}"))
        assert log.status()["snapshot_index"] > 100
        assert log.status()["last_index"] - log.status()["first_index"] < 120


async def test_a_barrier_passes_on_a_single_voter() -> None:
    async with running(opened(SimDisk(), Words())) as log:
        await log.barrier()


async def test_after_close_proposals_are_refused_as_certainly_not_done() -> None:
    log = opened(SimDisk(), Words())
    with pytest.raises(PlatformError) as caught:
        await log.propose(Note(word="too early"))
    assert caught.value.code == "unavailable"
    async with running(log):
        pass
    for call in (log.propose(Note(word="x")), log.snapshot(), log.barrier()):
        with pytest.raises(PlatformError) as caught:
            await call
        assert caught.value.code == "unavailable"
    with pytest.raises(LocalError):
        await log.run()


async def test_too_many_proposals_at_once_are_refused() -> None:
    outcomes: list[str] = []

    async def ask(log: ReplicatedLog, number: int) -> None:
        try:
            await log.propose(Note(word=f"w{number}"))
            outcomes.append("done")
        except PlatformError as error:
            outcomes.append(error.code)

    async with running(opened(SimDisk(), Words())) as log, trio.open_nursery() as nursery:
        for number in range(limits.IN_FLIGHT_MAX + 5):
            nursery.start_soon(ask, log, number)
    assert outcomes.count("limit-exceeded") == 5
    assert outcomes.count("done") == limits.IN_FLIGHT_MAX


# -- disks that are full or fail -------------------------------------------------------------------


async def test_a_full_disk_refuses_changes_goes_on_reading_and_recovers_by_itself() -> None:
    disk, words = SimDisk(capacity_bytes=5 << 20), Words()
    settings = RaftSettings(sync_in_thread=False, compaction_bytes=1 << 30)
    async with running(opened(disk, words, settings=settings)) as log:
        number = 0
        with pytest.raises(PlatformError) as caught:  # noqa: PT012
            while True:
                await log.propose(Note(word=f"w{number}", filler="x" * 30_000))
                number += 1
        assert caught.value.code == "storage-full"
        assert log.status()["storage"] == "full"
        await log.barrier()
        assert len(words.words) == number > 50
        disk.capacity_bytes = 64 << 20
        await until(lambda: log.status()["storage"] != "full")
        await log.propose(Note(word="there is room again"))
    again = Words()
    async with running(opened(disk, again)):
        assert again.words == words.words


async def test_a_journal_that_fills_a_small_disk_makes_room_by_a_snapshot() -> None:
    disk, words = SimDisk(capacity_bytes=6 << 20), Words()
    async with running(opened(disk, words)) as log:
        with pytest.raises(PlatformError) as caught:  # noqa: PT012
            for number in range(1_000):
                await log.propose(Note(word=f"w{number}", filler="x" * 30_000))
        assert caught.value.code == "storage-full"
        await until(lambda: log.status()["storage"] == "ok")
        await log.propose(Note(word="goes on"))
        assert log.status()["journal_bytes"] < 2 << 20


async def test_a_snapshot_that_finds_no_room_fails_and_harms_nothing() -> None:
    disk, words = SimDisk(), Words()
    async with running(opened(disk, words)) as log:
        await log.propose(Note(word="x"))
        disk.capacity_bytes = 0
        with pytest.raises(PlatformError) as caught:
            await log.snapshot()
        assert caught.value.code == "storage-full"
        await log.propose(Note(word="y"))
        disk.capacity_bytes = 64 << 20
        await log.snapshot()
    assert "snapshot" in disk.list()


async def test_a_disk_that_fails_ends_the_log_before_it_answers() -> None:
    disk = SimDisk()
    log = opened(disk, Words())
    outcomes: list[str] = []

    async def ask() -> None:
        try:
            await log.propose(Note(word="x"))
        except PlatformError as error:
            outcomes.append(error.code)

    with pytest.RaisesGroup(JournalFailed, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            async with trio.open_nursery() as asking:
                with trio.CancelScope(shield=True):
                    disk.tear_next_write = 5
                    asking.start_soon(ask)
                    await until(lambda: bool(outcomes))
    assert outcomes == ["unknown-outcome"]
    await log.close()
    again = Words()
    async with running(opened(disk, again)):
        assert again.words == []


# -- three voters ----------------------------------------------------------------------------------


class Three:
    """Three logs on one network in memory."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.network = MemoryNetwork()
        self.disks = {name: SimDisk() for name in "abc"}
        self.words: dict[str, Words] = {}
        self.logs: dict[str, ReplicatedLog] = {}
        self.scopes: dict[str, trio.CancelScope] = {}

    async def boot(self, name: str) -> ReplicatedLog:
        self.words[name] = Words()
        log = self.logs[name] = opened(
            self.disks[name],
            self.words[name],
            name,
            voters=["a", "b", "c"],
            transport=self.network.transport(name),
        )
        self.scopes[name] = await self.nursery.start(self._run, log)
        return log

    async def _run(
        self, log: ReplicatedLog, *, task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await log.run()

    async def kill(self, name: str) -> None:
        self.scopes[name].cancel()
        await until(lambda: not self.logs[name].status()["running"])
        del self.logs[name]
        self.disks[name].power_cut(lambda below: 0)

    async def leader(self) -> str:
        def leaders() -> list[str]:
            return [n for n, log in self.logs.items() if log.status()["role"] == "leader"]

        await until(lambda: len(leaders()) == 1)
        return leaders()[0]

    async def equal(self, words: list[str]) -> None:
        await until(lambda: all(self.words[name].words == words for name in self.logs))


@asynccontextmanager
async def three_voters() -> AsyncIterator[Three]:
    async with trio.open_nursery() as nursery:
        three = Three(nursery)
        for name in "abc":
            await three.boot(name)
        yield three
        nursery.cancel_scope.cancel()


async def test_three_voters_take_proposals_anywhere_and_agree() -> None:
    async with three_voters() as three:
        await three.leader()
        for name in "abc":
            await three.logs[name].propose(Note(word=f"from {name}"))
        await three.equal(["from a", "from b", "from c"])


async def test_the_loss_of_the_leader_loses_nothing() -> None:
    async with three_voters() as three:
        first = await three.leader()
        for number in range(10):
            await three.logs[first].propose(Note(word=f"w{number}"))
        await three.kill(first)
        second = await three.leader()
        await three.logs[second].propose(Note(word="after"))
        await three.boot(first)
        await three.equal([f"w{number}" for number in range(10)] + ["after"])


async def test_a_leader_without_a_majority_answers_unknown_outcome_and_the_retry_is_safe() -> None:
    async with three_voters() as three:
        old = await three.leader()
        rest = [name for name in "abc" if name != old]
        three.network.cut([old], rest)
        request = ("client", 1)
        with pytest.raises(PlatformError) as caught:
            await three.logs[old].propose(Note(word="x"), timeout_s=0.5, request_id=request)
        assert caught.value.code == "unknown-outcome"
        assert caught.value.data["request_id"] == ["client", 1]
        three.network.heal()
        with trio.fail_after(60):
            while True:
                try:
                    await three.logs[old].propose(Note(word="x"), request_id=("client", 1))
                    break
                except PlatformError as error:
                    assert error.kind.retryable  # noqa: PT017
        await three.equal(["x"])


async def test_without_any_leader_a_proposal_is_certainly_not_done() -> None:
    async with three_voters() as three:
        await three.leader()
        three.network.cut("a", "bc")
        three.network.cut("b", "c")
        await until(lambda: all(log.status()["leader"] is None for log in three.logs.values()))
        with pytest.raises(PlatformError) as caught:
            await three.logs["a"].propose(Note(word="x"), timeout_s=0.2)
        assert caught.value.code == "unavailable"


async def test_a_voter_that_was_away_long_gets_a_snapshot_and_its_subscribers_are_told() -> None:
    async with three_voters() as three:
        leader = await three.leader()
        away = next(name for name in "abc" if name != leader)
        heard: list[msgspec.Struct] = []
        three.logs[away].subscribe(lambda index, events: heard.extend(events))
        three.network.cut([away], [name for name in "abc" if name != away])
        for number in range(30):
            await three.logs[leader].propose(Note(word=f"w{number}"))
        await three.logs[leader].snapshot()
        await three.logs[leader].propose(Note(word="after"))
        three.network.heal()
        await three.equal([f"w{number}" for number in range(30)] + ["after"])
        assert any(isinstance(event, StateReplaced) for event in heard)


async def test_a_barrier_on_a_follower_shows_what_was_acknowledged_elsewhere() -> None:
    async with three_voters() as three:
        leader = await three.leader()
        follower = next(name for name in "abc" if name != leader)
        await three.logs[leader].propose(Note(word="x"))
        await three.logs[follower].barrier()
        assert three.words[follower].words == ["x"]


async def test_garbage_from_a_peer_ends_its_connection_and_disturbs_nobody() -> None:
    async with three_voters() as three:
        leader = await three.leader()
        follower = next(name for name in "abc" if name != leader)
        for data in (b"", b"\xff" * 50, b"\x80" * 2_000_000, b"\x93\x09\x01\x02"):
            before = three.logs[leader]._replica._epochs[follower]
            three.network.deliver(follower, leader, data)
            await three.logs[leader].propose(Note(word=f"after {data[:3]!r}"))
            assert three.logs[leader]._replica._epochs[follower] > before
        await three.equal(three.words[leader].words)
        assert len(three.words[leader].words) == 4


async def test_several_voters_need_a_transport() -> None:
    with pytest.raises(LocalError):
        opened(SimDisk(), Words(), voters=["a", "b", "c"])
