"""Messages to a group whose ring is not finished wait for it, and everybody else is served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import Invoke, InvokeResult
from paas.hub import limits
from paas.hub.consistent import RingUnfinished
from paas.hub.messages import CALL, CAST, Call, Cast
from paas.hub.router import Router
from paas.hub.selection import parse
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire.registry import decode

MEMBERS = [f"{number:040x}" for number in range(2_000)]


class Large:
    """A group of 2,000, all on one connection, and a component beside it."""

    def __init__(self, nursery: trio.Nursery, maker: Pairs) -> None:
        self.router = Router(self, SystemClock())
        self.members_now = list(MEMBERS)
        self.bugs: list[Exception] = []
        self.told: list[str] = []
        self.dispatcher = Dispatcher(
            nursery, SystemClock(), on_bug=lambda _where, bug: self.bugs.append(bug)
        )
        self.dispatcher.raw(CALL, self.router.call)
        self.dispatcher.raw(CAST, self.router.cast)
        ours, _ = maker.join(self.dispatcher, self.answer)
        for member in [*MEMBERS, "beside"]:
            self.router.attach(member, ours, ready=True)
        self.maker = maker

    def answer(self, peer: Peer, request: Request) -> None:
        invoke = decode(request.params, Invoke)
        if invoke.oneway:
            self.told.append(invoke.operation)
        else:
            peer.reply(request, InvokeResult())

    def caller(self) -> Peer:
        there, here = self.maker.join(self.dispatcher, self.dispatcher)
        there.info["component"] = "the-caller"
        return here

    def resolve(self, target: str) -> str:
        return target

    def members(self, group: str) -> list[str]:
        return self.members_now

    def state(self, component: str) -> str:
        return "available"

    def node(self, component: str) -> str:
        return ""


@pytest.fixture
async def large() -> AsyncIterator[Large]:
    async with pairs() as maker, trio.open_nursery() as nursery:
        yield Large(nursery, maker)
        nursery.cancel_scope.cancel()


def hashed(key: str = "k", **more: Any) -> Call:
    return Call(target="group:g", operation="x", selector=f"hash:{key}", **more)


async def test_calls_and_casts_wait_for_the_ring_and_others_do_not(large: Large) -> None:
    caller = large.caller()
    owners: dict[str, str] = {}

    async def ask(key: str) -> None:
        owners[key] = str((await caller.call(CALL, hashed(key))).component)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for key in "abc":
                nursery.start_soon(ask, key)
            cast = Cast(target="group:g", operation="told", selector="hash:d")
            nursery.start_soon(caller.call, CAST, cast)
            await trio.testing.wait_all_tasks_blocked()
            assert owners == {}
            assert large.router.ring_builder._count == 4
            beside = await caller.call(CALL, Call(target="beside", operation="x"))
            assert beside.component == "beside"
            large.members_now = MEMBERS[1:]  # one has gone meanwhile
            nursery.start_soon(large.router.ring_builder.run)
            while len(owners) < 3 or not large.told:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    rings = large.router.chooser.rings
    assert owners == {k: next(rings.owners("g", MEMBERS[1:], k)) for k in "abc"}
    assert large.told == ["told"]
    assert (large.router.ring_builder._count, large.bugs) == (0, [])


async def test_what_has_waited_too_long_or_is_abandoned_goes_to_nobody(large: Large) -> None:
    caller = large.caller()
    with pytest.raises(PlatformError) as caught:
        await caller.call(CALL, hashed(timeout=0.01), timeout_s=0.05)
    assert caught.value.code == "timeout"
    with trio.move_on_after(0.05):
        await caller.call(CALL, hashed())
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(large.router.ring_builder.run)
            while large.router.ring_builder._count:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert sum(a.delivered for a in large.router.attachments()) == 0
    assert large.bugs == []


async def test_what_waits_is_bounded(large: Large, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PARKED_MAX", 3)
    caller = large.caller()
    codes: list[str] = []

    async def ask() -> None:
        try:
            await caller.call(CALL, hashed(), timeout_s=1)
        except PlatformError as exc:
            codes.append(exc.code)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert sorted(codes) == ["limit-exceeded"] * 2 + ["timeout"] * 3


async def test_who_only_looks_is_told_to_look_again(large: Large) -> None:
    with pytest.raises(RingUnfinished) as caught:
        large.router.pick("g", parse("hash:k"))
    assert caught.value.code == "unavailable"
    while large.router.chooser.rings.advance("g"):
        pass
    assert len(large.router.pick("g", parse("hash:k"))) == 1
