"""The keeper: carries out change after change where it leads, looks at nothing when alone."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.node import limits
from paas.node.membership_keeper import MembershipKeeper
from paas.node.state import (
    AddNode,
    ChangeNode,
    DrainNode,
    LoseNode,
    NodeRegister,
    RemoveNode,
    ReportNode,
    WantVoters,
)
from paas.raft.command import Stamp, encode
from paas.raft.configuration import Configuration, check_change, make
from paas.raft.machine import Machine
from paas.raft.syncobj import Follower, Leadership


class FakeLog:
    """Members as the log has them: one voter at a time, and never without the leader."""

    def __init__(self) -> None:
        self.register = NodeRegister()
        self.machine = Machine([self.register])
        self.configuration: Configuration = make(["n1"])
        self.leadership: Leadership | None = Leadership(1, 0.0)
        self.transfers: list[str | None] = []
        self.trouble: PlatformError | None = None
        self.index = 0
        self.subscribers: list[Callable[[int, Sequence[Any]], None]] = []

    def followers(self) -> dict[str, Follower]:
        return {
            name: Follower(self.index, 0.0, name in self.configuration.voters, True)
            for name in self.configuration.members
            if name != "n1"
        }

    def status(self) -> dict[str, Any]:
        return {"last_index": self.index}

    async def change_configuration(self, voters: Iterable[str], observers: Iterable[str]) -> object:
        await trio.sleep(0.01)
        if self.trouble is not None:
            raise self.trouble
        made = make(voters, observers)
        check_change(self.configuration, made, "n1")
        self.configuration = made
        return made

    async def transfer_leadership(self, to: str | None = None) -> str:
        await trio.sleep(0.01)
        self.transfers.append(to)
        self.leadership = None
        return to or ""

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def apply(self, command: msgspec.Struct) -> None:
        self.index += 1
        stamp = Stamp(time_ms=self.index, seed=bytes(16), proposer="t", sequence=self.index)
        applied = self.machine.apply(self.index, encode(command, stamp))
        assert applied.error is None, applied.error
        for callback in self.subscribers:
            callback(self.index, applied.events)

    def join(self, name: str, *, leased: bool = True) -> None:
        self.apply(ReportNode(node=name, memory_bytes=1, cpu=1.0, leased=leased, cleared=True))
        self.apply(ChangeNode(node=name, event="ready"))


@asynccontextmanager
async def keeping(log: FakeLog) -> AsyncIterator[tuple[MembershipKeeper, list[str], list[str]]]:
    done: list[str] = []
    troubles: list[str] = []
    keeper = MembershipKeeper(
        node="n1",
        log=log,
        register=log.register,
        on_change=done.append,
        on_trouble=lambda _name, exc: troubles.append(exc.code),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        await trio.testing.wait_all_tasks_blocked()
        yield keeper, done, troubles
        nursery.cancel_scope.cancel()
    assert log.subscribers == []


async def test_a_node_alone_has_nothing_to_look_at(autojump_clock: MockClock) -> None:
    log = FakeLog()
    log.join("n1", leased=False)
    async with keeping(log) as (keeper, done, _):
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        assert (keeper.change, done) == ("", [])


async def test_nodes_that_come_become_voters_as_soon_as_three_are_there(
    autojump_clock: MockClock,
) -> None:
    log = FakeLog()
    log.join("n1")
    async with keeping(log) as (_, done, _troubles):
        log.apply(AddNode(node="n2", address="n2:7000"))
        await trio.sleep(0.1)
        assert log.configuration.observers == ("n2",)
        log.join("n2")
        log.join("n3")
        await trio.sleep(0.1)
        assert log.configuration.voters == ("n1", "n2", "n3")
        assert done == ["n2 is new", "n3 is new", "n2 has caught up", "n3 has caught up"]


async def test_members_follow_the_number_of_voters_that_is_wanted(
    autojump_clock: MockClock,
) -> None:
    log = FakeLog()
    log.join("n1")
    async with keeping(log):
        for name in ("n2", "n3", "n4", "n5"):
            log.join(name)
        await trio.sleep(0.1)
        assert len(log.configuration.voters) == 5
        log.apply(WantVoters(voters=3))
        await trio.sleep(limits.MEMBERSHIP_CHECK_S + 0.1)
        assert len(log.configuration.voters) == 3
        assert "n1" in log.configuration.voters
        log.apply(WantVoters(voters=5))
        await trio.sleep(limits.MEMBERSHIP_CHECK_S + 0.1)
        assert len(log.configuration.voters) == 5


async def test_a_lost_voter_is_replaced_and_a_removed_one_is_out(
    autojump_clock: MockClock,
) -> None:
    log = FakeLog()
    for name in ("n1", "n2", "n3", "n4"):
        log.join(name)
    async with keeping(log):
        await trio.sleep(1)
        assert log.configuration.voters == ("n1", "n2", "n3")
        lost = log.register.get("n3")
        assert lost is not None
        log.apply(LoseNode(node="n3", epoch=lost.epoch, term=1))
        await trio.sleep(1)
        assert log.configuration.voters == ("n1", "n2", "n4")
        assert log.configuration.observers == ("n3",)
        log.apply(RemoveNode(node="n3"))
        log.apply(ChangeNode(node="n3", event="cleared"))
        await trio.sleep(0.9 * limits.FAREWELL_S)
        assert log.configuration.observers == ("n3",), "it is still to hear that it was removed"
        await trio.sleep(0.2 * limits.FAREWELL_S)
        assert log.configuration.observers == ()


async def test_nobody_else_votes_before_the_leaders_node_is_under_lease(
    autojump_clock: MockClock,
) -> None:
    log = FakeLog()
    log.join("n1", leased=False)
    log.join("n2")
    log.join("n3")
    async with keeping(log):
        await trio.sleep(10)
        assert log.configuration.voters == ("n1",)
        log.join("n1")
        await trio.sleep(1)
        assert log.configuration.voters == ("n1", "n2", "n3")


async def test_who_does_not_lead_changes_nothing_and_a_leader_that_is_drained_hands_over(
    autojump_clock: MockClock,
) -> None:
    log = FakeLog()
    for name in ("n1", "n2", "n3"):
        log.join(name)
    log.leadership = None
    async with keeping(log) as (_, done, _troubles):
        await trio.sleep(10)
        assert done == []
        log.leadership = Leadership(2, 0.0)
        await trio.sleep(2)
        log.apply(DrainNode(node="n1", draining=True))
        await trio.sleep(2)
        assert log.transfers == ["n2"]


async def test_what_fails_is_told_once_and_tried_again(autojump_clock: MockClock) -> None:
    log = FakeLog()
    for name in ("n1", "n2"):
        log.join(name)
    log.trouble = PlatformError("conflict")
    async with keeping(log) as (keeper, done, troubles):
        await trio.sleep(10 * limits.MEMBERSHIP_CHECK_S)
        assert troubles == ["conflict"]
        assert keeper.change == "n2 is new; not done: conflict"
        log.trouble = None
        await trio.sleep(2 * limits.MEMBERSHIP_CHECK_S)
        assert done == ["n2 is new"]
        assert keeper.change == ""
        assert keeper.refusal("n2") == ""
        assert "only voter" in keeper.refusal("n1")
