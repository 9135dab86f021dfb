"""Members of a running log: they join, vote, observe, hand over, and are asked for the truth."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from paas.base.errors import LocalError, PlatformError
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
from paas.real.clock import SystemClock
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Note, Words


async def caught_up(logs: Any, leader: str, name: str) -> None:
    await logs.until(
        lambda: (
            name in logs[leader].followers()
            and logs[leader].followers()[name].match_index == logs[leader].status()["last_index"]
        )
    )


# -- joining, observing, voting --------------------------------------------------------------------


async def test_a_single_voter_grows_to_three_and_loses_its_first(logs: Any) -> None:
    await logs.boot("a")
    await logs["a"].propose(Note(word="alone"))
    for name in "bc":
        await logs.boot(name, join=True)
    assert logs["b"].configuration.voters == ()
    await logs["a"].change_configuration(["a"], ["b", "c"])
    await logs.equal(["alone"])
    assert logs["b"].status()["role"] == "observer"
    assert logs["b"].configuration.observers == ("b", "c")
    await caught_up(logs, "a", "b")
    await logs["a"].change_configuration(["a", "b"], ["c"])
    await caught_up(logs, "a", "c")
    configuration = await logs["a"].change_configuration(["a", "b", "c"], [])
    assert configuration.committed
    await logs["b"].propose(Note(word="from b"))
    await logs.kill("a")
    assert await logs.leader() in "bc"
    await logs["b"].propose(Note(word="without a"))
    await logs.boot("a")  # what it knows of its members is in its journal
    await logs.equal(["alone", "from b", "without a"])
    assert logs["a"].configuration.voters == ("a", "b", "c")


async def test_an_observer_neither_votes_nor_stands(logs: Any) -> None:
    await logs.boot("a")
    await logs.boot("o", join=True)
    await logs["a"].change_configuration(["a"], ["o"])
    await logs["a"].propose(Note(word="x"))
    await logs.equal(["x"])
    await logs.kill("a")
    await trio.sleep(1.2)
    assert logs["o"].status()["role"] == "observer"
    assert logs["o"].leadership is None
    await logs.boot("a")
    await logs["a"].propose(Note(word="y"))
    await logs.equal(["x", "y"])


async def test_who_joins_waits_as_nobody_also_after_a_restart(logs: Any) -> None:
    log = await logs.boot("b", join=True)
    await trio.sleep(1.0)
    assert (log.status()["role"], log.status()["term"]) == ("observer", 0)
    assert log.last_contact_s is None
    with pytest.raises(PlatformError) as caught:
        await log.propose(Note(word="x"), timeout_s=0.1)
    assert caught.value.code == "unavailable"
    await logs.kill("b")
    await logs.boot("b", join=True)
    await logs.boot("a")
    await logs["a"].change_configuration(["a"], ["b"])
    await logs["a"].propose(Note(word="x"))
    await logs.equal(["x"])


async def test_a_joiner_that_knows_no_members_yet_does_not_begin_a_cluster_of_its_own(
    logs: Any,
) -> None:
    await logs.boot("a")
    await logs["a"].propose(Note(word="x"))
    await logs.boot("b", join=True)
    # The leader's log names no members before b; it is replayed to b without any entry about it.
    replica = logs["b"]._replica
    replica.journal.set_term(3, None)
    await logs.kill("b")
    replica.journal.sync()
    await logs.boot("b")  # started without `join` by mistake
    await trio.sleep(0.3)
    assert logs["b"].leadership is None


async def test_an_observer_gets_the_configuration_with_a_snapshot(logs: Any) -> None:
    await logs.boot("a")
    await logs.boot("b", join=True)
    await logs["a"].change_configuration(["a"], ["b"])
    logs.network.cut("a", "b")
    for number in range(30):
        await logs["a"].propose(Note(word=f"w{number}"))
    await logs["a"].change_configuration(["a"], ["b", "c"])
    await logs["a"].propose(Note(word="last"))
    await logs["a"].snapshot()
    logs.network.heal()
    await logs.until(lambda: logs["b"].configuration.observers == ("b", "c"))
    await logs.until(lambda: len(logs.words["b"].words) == 31)
    await logs.kill("b")
    await logs.boot("b")
    assert logs["b"].configuration.observers == ("b", "c")


@pytest.mark.parametrize(
    ("voters", "observers", "says"),
    [
        (["a", "b", "c", "d", "e"], [], "only one voter"),
        (["b", "c"], [], "transfer the leadership first"),
        (["a"], ["b", "c"], "only one voter"),
    ],
)
async def test_changes_that_could_part_the_log_are_refused(
    logs: Any, voters: list[str], observers: list[str], says: str
) -> None:
    leader = await logs.three()
    named = {"a": leader, leader: "a"}  # the leader plays a's part
    real = [[named.get(name, name) for name in names] for names in (voters, observers)]
    with pytest.raises(PlatformError) as caught:
        await logs[leader].change_configuration(*real)
    assert caught.value.code == "conflict"
    assert says in caught.value.message + caught.value.hint


async def test_a_change_is_refused_elsewhere_and_for_names_that_cannot_be(logs: Any) -> None:
    leader = await logs.three()
    follower = next(name for name in "abc" if name != leader)
    for name, voters, code in (
        (follower, ["a", "b"], "conflict"),
        (leader, ["a", "b", "c", "c"], "invalid"),
        (leader, [], "invalid"),
    ):
        with pytest.raises(PlatformError) as caught:
            await logs[name].change_configuration(voters, [])
        assert caught.value.code == code


async def test_a_voter_whose_loss_would_stop_the_log_is_not_removed(logs: Any) -> None:
    leader = await logs.three()
    alive, dead = (name for name in "abc" if name != leader)
    await logs.kill(dead)
    await trio.sleep(1.6)
    with pytest.raises(PlatformError) as caught:
        await logs[leader].change_configuration([leader, dead], [])
    assert (caught.value.code, caught.value.data["missing"]) == ("conflict", [dead])
    changed = await logs[leader].change_configuration([leader, alive], [])
    assert changed.voters == tuple(sorted([leader, alive]))
    await logs[alive].propose(Note(word="two go on"))


async def test_one_change_at_a_time(logs: Any) -> None:
    leader = await logs.three()
    others = [name for name in "abc" if name != leader]
    logs.network.cut([leader], others)
    outcomes: list[str] = []

    async def change(observer: str, timeout_s: float) -> None:
        try:
            await logs[leader].change_configuration("abc", [observer], timeout_s=timeout_s)
        except PlatformError as error:
            outcomes.append(error.code)

    await change("x", 0.2)
    await change("y", 0.2)
    assert outcomes == ["unknown-outcome", "conflict"]
    assert not logs[leader].configuration.committed


async def test_a_change_that_another_leader_overrules_is_rolled_back_and_says_so(logs: Any) -> None:
    old = await logs.three()
    others = [name for name in "abc" if name != old]
    logs.network.cut([old], others)
    outcomes: list[str] = []

    async def change() -> None:
        try:
            await logs[old].change_configuration("abc", ["x"], timeout_s=50)
        except PlatformError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        await logs.until(lambda: logs[old].configuration.observers == ("x",))
        await logs.until(lambda: any(logs[name].leadership for name in others))
        new = next(name for name in others if logs[name].leadership)
        await logs[new].propose(Note(word="decided otherwise"))
        logs.network.heal()
        await logs.equal(["decided otherwise"])
        await logs.until(lambda: bool(outcomes))
    assert outcomes == ["conflict"]
    assert logs[old].configuration.observers == ()


async def test_what_is_so_already_needs_no_entry(logs: Any) -> None:
    leader = await logs.three()
    before = logs[leader].status()["last_index"]
    await logs[leader].change_configuration("abc", [])
    assert logs[leader].status()["last_index"] == before


async def test_other_members_need_a_transport() -> None:
    log = ReplicatedLog.open(
        files=SimDisk(),
        clock=SystemClock(),
        entropy=SimEntropy(1),
        machine=Machine([Words()]),
        node="a",
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        with pytest.raises(LocalError):
            await log.change_configuration(["a"], ["b"])
        await log.close()


# -- handing over ----------------------------------------------------------------------------------


async def test_a_planned_transfer_fails_no_command(logs: Any) -> None:
    leader = await logs.three()
    stop, done = trio.Event(), [0]

    async def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            await logs[name].propose(Note(word=f"{name}{number}"))
            number, done[0] = number + 1, done[0] + 1

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(write, name)
        for _ in range(6):
            target = next(name for name in "abc" if name != leader)
            assert await logs[leader].transfer_leadership(target) == target
            before = done[0]
            await logs.until(lambda: done[0] > before + 5)  # noqa: B023
            leader = await logs.leader()
            assert leader == target
        stop.set()
    words = logs.words[leader].words
    assert len(words) == len(set(words)) == done[0]
    await logs.equal(words)


async def test_without_a_name_the_leadership_goes_to_a_voter(logs: Any) -> None:
    leader = await logs.three()
    assert await logs[leader].transfer_leadership() in set("abc") - {leader}


async def test_a_transfer_is_refused_to_who_does_not_vote_and_by_who_does_not_lead(
    logs: Any,
) -> None:
    leader = await logs.three()
    await logs.boot("o", join=True)
    await logs[leader].change_configuration("abc", ["o"])
    follower = next(name for name in "abc" if name != leader)
    for name, to in ((leader, "o"), (leader, leader), (leader, "stranger"), (follower, leader)):
        with pytest.raises(PlatformError) as caught:
            await logs[name].transfer_leadership(to)
        assert caught.value.code == "conflict"


async def test_a_transfer_to_who_does_not_answer_is_given_up_and_commands_go_on(logs: Any) -> None:
    leader = await logs.three()
    target, other = (name for name in "abc" if name != leader)
    deafen(logs[target])
    results: list[int] = []

    async def write(name: str) -> None:
        results.append(await logs[name].propose(Note(word=name)))

    async with trio.open_nursery() as nursery:

        async def transfer() -> None:
            with pytest.raises(PlatformError) as caught:
                await logs[leader].transfer_leadership(target, timeout_s=0.5)
            assert caught.value.code == "timeout"

        nursery.start_soon(transfer)
        await logs.until(lambda: logs[leader]._leading.holding)
        nursery.start_soon(write, leader)
        nursery.start_soon(write, other)
        await logs.until(lambda: bool(logs[leader]._inbox._held))
        assert results == []
    assert sorted(results) == [1, 2]


def deafen(log: ReplicatedLog) -> None:
    """Messages of others do not reach it any more."""
    log._inbox.note = lambda *args, **more: None  # type: ignore[method-assign]


async def test_a_leader_whose_disk_is_full_hands_over_and_follows(logs: Any) -> None:
    leader = await logs.three()
    disk = logs.disks[leader]
    disk.capacity_bytes = 3 << 20
    with pytest.raises(PlatformError) as caught:  # noqa: PT012
        while True:
            await logs[leader].propose(Note(word=str(trio.current_time()), filler="x" * 30_000))
    assert caught.value.code == "storage-full"
    await logs.until(lambda: logs[leader].leadership is None)
    other = await logs.leader()
    assert other != leader
    await logs[other].propose(Note(word="the others have room"))
    assert logs[leader].status()["storage"] == "full"
    disk.capacity_bytes = 1 << 30
    await logs.equal(list(logs.words[other].words))


# -- what is true now ------------------------------------------------------------------------------


async def test_a_read_index_on_any_replica_shows_what_was_acknowledged_elsewhere(logs: Any) -> None:
    await logs.three()
    for number in range(5):
        for writer in "abc":
            await logs[writer].propose(Note(word=f"{writer}{number}"))
            for reader in "abc":
                index = await logs[reader].read_index()
                assert logs[reader].status()["applied"] >= index
                assert f"{writer}{number}" in logs.words[reader].words


async def test_many_readers_share_rounds(logs: Any) -> None:
    leader = await logs.three()
    sent: list[str] = []
    transport = logs[leader]._transport
    send = transport.send

    def counted(peer: str, data: bytes) -> None:
        sent.append(peer)
        send(peer, data)

    transport.send = counted
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(logs[leader].read_index)
    assert len(sent) < 40


async def test_a_leader_that_was_cut_off_answers_no_reads(logs: Any) -> None:
    old = await logs.three()
    others = [name for name in "abc" if name != old]
    logs.network.cut([old], others)
    for question in (logs[old].read_index, logs[old].confirm):
        with pytest.raises(PlatformError) as caught:
            await question(timeout_s=0.2)
        assert caught.value.code == "unavailable"
    await logs.until(lambda: any(logs[name].leadership for name in others))
    for name in others:
        await logs[name].read_index()


async def test_only_the_leader_confirms_and_with_its_term(logs: Any) -> None:
    leader = await logs.three()
    assert await logs[leader].confirm() == logs[leader].leadership.term
    assert logs[leader].leadership.since_s <= SystemClock().monotonic_s()
    follower = next(name for name in "abc" if name != leader)
    assert logs[follower].leadership is None
    assert logs[follower].followers() == {}
    with pytest.raises(PlatformError) as caught:
        await logs[follower].confirm()
    assert (caught.value.code, caught.value.data["leader"]) == ("unavailable", leader)


async def test_the_leader_knows_its_followers_and_how_old_its_news_are(logs: Any) -> None:
    leader = await logs.three()
    alive, dead = (name for name in "abc" if name != leader)
    await logs[leader].propose(Note(word="x"))
    await logs.kill(dead)
    await trio.sleep(0.5)
    followers = logs[leader].followers()
    assert followers[alive].match_index == logs[leader].status()["last_index"]
    assert followers[alive].voter
    assert followers[alive].connected
    assert not followers[dead].connected
    assert followers[alive].heard_s < 0.4 < followers[dead].heard_s
    assert logs[leader].last_contact_s < 0.4
    assert logs[alive].last_contact_s < 0.4


async def test_a_log_that_is_not_running_answers_no_questions(logs: Any) -> None:
    log = await logs.boot("a")
    await log.close()
    for question in (
        log.read_index(),
        log.confirm(),
        log.transfer_leadership(),
        log.change_configuration(["a"], []),
    ):
        with pytest.raises(PlatformError) as caught:
            await question
        assert caught.value.code == "unavailable"


async def test_questions_that_wait_are_answered_when_the_log_ends(logs: Any) -> None:
    leader = await logs.three()
    logs.network.cut([leader], [name for name in "abc" if name != leader])
    codes: list[str] = []

    async def ask(question: Any) -> None:
        try:
            await question
        except PlatformError as error:
            codes.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, logs[leader].read_index(timeout_s=50))
        nursery.start_soon(ask, logs[leader].confirm(timeout_s=50))
        nursery.start_soon(ask, logs[leader].change_configuration("abc", ["x"], timeout_s=50))
        await logs.until(lambda: logs[leader].configuration.observers == ("x",))
        await logs[leader].close()
    assert sorted(codes) == ["unavailable", "unavailable", "unknown-outcome"]


# -- commands that hold in one term only -----------------------------------------------------------


async def test_a_command_bound_to_a_term_is_appended_by_its_leader_or_not_at_all(logs: Any) -> None:
    leader = await logs.three()
    term = await logs[leader].confirm()
    assert await logs[leader].propose(Note(word="x"), only_term=term) == 1
    follower = next(name for name in "abc" if name != leader)
    for name, bound in ((leader, term - 1), (leader, term + 1), (follower, term)):
        with pytest.raises(PlatformError) as caught:
            await logs[name].propose(Note(word="never"), only_term=bound)
        assert caught.value.code == "conflict"
    await logs.equal(["x"])


async def test_a_bound_command_of_a_deposed_leader_is_never_proposed_again(logs: Any) -> None:
    old = await logs.three()
    term = await logs[old].confirm()
    others = [name for name in "abc" if name != old]
    logs.network.cut([old], others)
    codes: list[str] = []

    async def bound() -> None:
        try:
            await logs[old].propose(Note(word="bound"), only_term=term, timeout_s=50)
        except PlatformError as error:
            codes.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bound)
        await logs.until(lambda: any(logs[name].leadership for name in others))
        new = next(name for name in others if logs[name].leadership)
        for number in range(3):
            await logs[new].propose(Note(word=f"w{number}"))
        logs.network.heal()
        await logs.until(lambda: bool(codes))
    assert codes == ["conflict"]
    await logs.equal(["w0", "w1", "w2"])


async def test_commands_handed_to_a_dead_leader_go_to_the_next_at_once(logs: Any) -> None:
    leader = await logs.three()
    follower = next(name for name in "abc" if name != leader)
    deafen(logs[leader])  # it takes the command, and is never heard of again
    results: list[int] = []

    async def write() -> None:
        results.append(await logs[follower].propose(Note(word="kept")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await logs.until(lambda: logs[follower]._replica.outbox == [])
        await logs.kill(leader)
        began_s = trio.current_time()
        await logs.until(lambda: bool(results))
    assert results == [1]
    assert trio.current_time() - began_s < 30
