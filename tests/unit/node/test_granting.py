"""Renewals on virtual time: they share rounds of the log, and never one that began before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.node import limits
from paas.node.granting import Granting
from paas.node.messages import Renew, Renewed
from paas.node.state import LoseNode, NodeRegister, NodeStorage, RemoveNode, ReportNode
from paas.raft.command import Stamp, encode
from paas.raft.configuration import make as make_members
from paas.raft.machine import Machine
from paas.wire.registry import decode

ROUND_S = 0.1


class TrioClock:
    def now_ms(self) -> int:
        return int(trio.current_time() * 1000)

    def monotonic_s(self) -> float:
        return trio.current_time()


@dataclass
class Term:
    term: int = 1


@dataclass
class Log:
    """A log whose rounds take a while, and are counted."""

    leadership: Term | None = field(default_factory=Term)
    rounds: list[float] = field(default_factory=list)
    fails: bool = False
    refuses: PlatformError | None = None

    def __post_init__(self) -> None:
        self.register = NodeRegister()
        self.machine = Machine([self.register])
        self.commands: list[msgspec.Struct] = []
        self.configuration = make_members(["n1"])

    def status(self) -> dict[str, Any]:
        return {"leader": "n1", "storage": "ok"}

    async def barrier(self, *, timeout_s: float) -> None:
        self.rounds.append(trio.current_time())
        await trio.sleep(ROUND_S)
        if self.fails:
            raise PlatformError("unavailable")

    async def propose(
        self, command: msgspec.Struct, *, timeout_s: float = 10.0, only_term: int | None = None
    ) -> Any:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        self.commands.append(command)
        index = len(self.commands)
        stamp = Stamp(time_ms=index, seed=bytes(16), proposer="t", sequence=index)
        applied = self.machine.apply(index, encode(command, stamp))
        if applied.error is not None:
            raise applied.error
        return applied.result

    def said(self) -> list[tuple[str, bool]]:
        return [(c.node, c.full) for c in self.commands if isinstance(c, NodeStorage)]


NAMES = ("n1", "n2", "n3", "n4", "n5")


@asynccontextmanager
async def granting(log: Log) -> AsyncIterator[Granting]:
    """A leader with five leased nodes."""
    for name in NAMES:
        await log.propose(ReportNode(node=name, memory_bytes=1, cpu=1.0, leased=True, cleared=True))
    troubles: list[Any] = []
    one = Granting(
        node="n1",
        log=log,
        register=log.register,
        clock=TrioClock(),
        on_trouble=lambda *trouble: troubles.append(trouble),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await trio.testing.wait_all_tasks_blocked()
        yield one
        nursery.cancel_scope.cancel()


def renewal(log: Log, node: str, **more: Any) -> Renew:
    known = log.register.get(node)
    return Renew(node=node, epoch=0 if known is None else known.epoch, number=1, **more)


@dataclass
class Asking:
    """Renewals, each of a task of its own, and what became of them."""

    granting: Granting
    log: Log
    answers: dict[str, Renewed] = field(default_factory=dict)
    answered_s: dict[str, float] = field(default_factory=dict)

    async def ask(self, node: str, scope: trio.CancelScope | None = None) -> None:
        with scope or trio.CancelScope():
            self.answers[node] = await self.granting.answer(renewal(self.log, node))
            self.answered_s[node] = trio.current_time()


async def test_renewals_that_come_together_share_one_round(autojump_clock: MockClock) -> None:
    log = Log()
    async with granting(log) as one, trio.open_nursery() as nursery:
        asking = Asking(one, log)
        for name in NAMES:
            nursery.start_soon(asking.ask, name)
            await trio.sleep(limits.SHARE_S / 10)
        await trio.sleep(1)
        assert [asking.answers[name].granted for name in NAMES] == [True] * 5
        assert len(log.rounds) == 1
        assert all(one.lease_age_s(name) is not None for name in NAMES)


async def test_who_comes_during_a_round_is_answered_by_the_next_only(
    autojump_clock: MockClock,
) -> None:
    log = Log()
    async with granting(log) as one, trio.open_nursery() as nursery:
        asking = Asking(one, log)
        nursery.start_soon(asking.ask, "n1")
        await trio.sleep(limits.SHARE_S + ROUND_S / 2)
        assert len(log.rounds) == 1
        for name in NAMES[1:]:
            nursery.start_soon(asking.ask, name)
        await trio.sleep(1)
        assert len(log.rounds) == 2
        first_s, second_s = log.rounds
        assert asking.answered_s["n1"] == second_s == first_s + ROUND_S
        for name in NAMES[1:]:
            assert asking.answered_s[name] >= second_s + ROUND_S
            assert asking.answers[name].granted


async def test_a_round_that_fails_refuses_all_who_waited_for_it_and_nobody_else(
    autojump_clock: MockClock,
) -> None:
    log = Log(fails=True)
    async with granting(log) as one, trio.open_nursery() as nursery:
        asking = Asking(one, log)
        for name in ("n1", "n2"):
            nursery.start_soon(asking.ask, name)
        await trio.sleep(limits.SHARE_S + ROUND_S / 2)
        nursery.start_soon(asking.ask, "n3")
        await trio.sleep(ROUND_S / 2 + 0.001)
        log.fails = False
        await trio.sleep(1)
        refused = {asking.answers[name].reason for name in ("n1", "n2")}
        assert refused == {"not-leader"}
        assert asking.answers["n3"].granted
        assert one.lease_age_s("n1") is None
        assert one.lease_age_s("n3") is not None


async def test_a_leader_of_another_term_at_the_end_of_the_round_grants_nothing(
    autojump_clock: MockClock,
) -> None:
    log = Log()
    async with granting(log) as one, trio.open_nursery() as nursery:
        asking = Asking(one, log)
        for after in (Term(2), None):
            log.leadership = Term(1)
            nursery.start_soon(asking.ask, "n2")
            await trio.sleep(limits.SHARE_S + ROUND_S / 2)
            log.leadership = after
            await trio.sleep(1)
            assert asking.answers.pop("n2").reason == "not-leader"
        rounds = len(log.rounds)
        await asking.ask("n2")
        assert asking.answers["n2"].reason == "not-leader"
        assert len(log.rounds) == rounds, "who does not lead asks nobody"


async def test_who_gives_up_harms_nobody_who_waits_with_it(autojump_clock: MockClock) -> None:
    log = Log()
    async with granting(log) as one, trio.open_nursery() as nursery:
        asking = Asking(one, log)
        early, late = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(asking.ask, "n1", early)
        nursery.start_soon(asking.ask, "n2", late)
        nursery.start_soon(asking.ask, "n3")
        await trio.sleep(limits.SHARE_S / 2)
        early.cancel()
        await trio.sleep(limits.SHARE_S / 2 + ROUND_S / 2)
        late.cancel()
        await trio.sleep(1)
        assert list(asking.answers) == ["n3"]
        assert asking.answers["n3"].granted
        assert len(log.rounds) == 1
        await asking.ask("n1")
        assert asking.answers["n1"].granted


async def test_nobody_waits_for_rounds_that_are_not_made_any_more(
    autojump_clock: MockClock,
) -> None:
    log = Log()
    asking = None
    async with trio.open_nursery() as nursery:
        async with granting(log) as one:
            asking = Asking(one, log)
            nursery.start_soon(asking.ask, "n1")
            await trio.sleep(limits.SHARE_S + ROUND_S / 2)
            nursery.start_soon(asking.ask, "n2")
            await trio.sleep(0.001)
        await trio.sleep(1)
        await asking.ask("n3")
    assert {name: a.reason for name, a in asking.answers.items()} == dict.fromkeys(
        ("n1", "n2", "n3"), "not-leader"
    )


async def test_the_answers_bring_renewals_of_different_moments_together(
    autojump_clock: MockClock,
) -> None:
    log = Log()

    async def renew_for_ever(one: Granting, name: str, first_s: float) -> None:
        await trio.sleep(first_s)
        while True:
            answer = await one.answer(renewal(log, name))
            assert answer.again is not None
            assert 0 < answer.again <= limits.RENEW_S
            await trio.sleep(answer.again)

    async with granting(log) as one, trio.open_nursery() as nursery:
        for number, name in enumerate(NAMES):
            nursery.start_soon(renew_for_ever, one, name, number * 0.13)
        await trio.sleep(2)
        log.rounds.clear()
        await trio.sleep(limits.RENEW_S * 20)
        assert 19 <= len(log.rounds) <= 21
        nursery.cancel_scope.cancel()


# -- storage -------------------------------------------------------------------------------------


async def test_what_a_node_says_of_its_storage_is_told_to_all_once(
    autojump_clock: MockClock,
) -> None:
    log = Log()
    async with granting(log) as one:
        assert (await one.answer(renewal(log, "n2", storage="full"))).granted
        assert log.said() == [], "the grant waits for nothing"
        for _ in range(3):
            await one.look()
        assert log.said() == [("n2", True)]
        known = log.register.get("n2")
        assert known is not None
        assert known.storage_full
        assert (await one.answer(renewal(log, "n2"))).granted
        for _ in range(3):
            await one.look()
        assert log.said() == [("n2", True), ("n2", False)]


async def test_what_the_log_does_not_take_is_told_later(autojump_clock: MockClock) -> None:
    log = Log()
    async with granting(log) as one:
        await one.answer(renewal(log, "n2", storage="full"))
        log.refuses = PlatformError("storage-full")
        await one.look()
        log.refuses = None
        await one.look()
        assert log.said() == [("n2", True)]


async def test_what_an_earlier_life_said_is_not_told(autojump_clock: MockClock) -> None:
    log = Log()
    async with granting(log) as one:
        await one.answer(renewal(log, "n2", storage="full"))
        await log.propose(ReportNode(node="n2", memory_bytes=1, cpu=1.0, leased=True))
        await one.look()
        assert log.said() == []


def test_a_renewal_of_an_older_hub_says_that_there_is_room() -> None:
    fields: Sequence[tuple[str, Any]] = (("node", "n2"), ("epoch", 3), ("number", 1))
    assert decode(msgspec.msgpack.encode(dict(fields)), Renew).storage == "ok"
    assert msgspec.msgpack.decode(
        msgspec.msgpack.encode(Renew(node="n2", epoch=3, number=1))
    ) == dict(fields), "what is as it was before looks as it did before"


# -- removal -------------------------------------------------------------------------------------


async def test_a_removed_node_without_a_lease_is_gone_when_it_votes_no_more(
    autojump_clock: MockClock,
) -> None:
    log = Log()
    async with granting(log) as one:
        log.configuration = make_members(["n1", "n2", "n3"])
        node = log.register.get("n2")
        assert node is not None
        await log.propose(LoseNode(node="n2", epoch=node.epoch, term=1))
        await log.propose(RemoveNode(node="n2"))
        for _ in range(3):
            await one.look()
        assert not log.register.removed("n2"), "who hears of it may switch the machine off"
        log.configuration = make_members(["n1", "n3"])
        await one.look()
        assert log.register.removed("n2")


async def test_what_the_log_does_not_take_is_cleared_later(autojump_clock: MockClock) -> None:
    log = Log()
    async with granting(log) as one:
        await log.propose(ReportNode(node="n6", memory_bytes=1, cpu=1.0))
        await log.propose(RemoveNode(node="n6", force=True))
        log.refuses = PlatformError("unavailable")
        await one.look()
        assert not log.register.removed("n6")
        log.refuses = None
        await one.look()
        assert log.register.removed("n6")
