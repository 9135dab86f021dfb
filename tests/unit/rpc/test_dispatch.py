"""Dispatch: the way of a request to its handler, and one answer whatever happens on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from paas.base.errors import LocalError, PlatformError
from paas.base.limits import (
    CALL_TIMEOUT_S_DEFAULT,
    CALL_TIMEOUT_S_MAX,
    OUTSTANDING_REQUESTS_MAX,
)
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Context, Dispatcher, Rule, check_policy, remaining_s
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import pairs
from paas.wire import codec, registry
from paas.wire.registry import Message, Method, Nothing, Params


class Ask(Params, frozen=True, kw_only=True):
    """Test parameters."""

    text: str = ""


class Said(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Test result."""

    text: str
    more: Any = None


class FixedClock:
    """It is always one thousand seconds since the epoch."""

    def now_ms(self) -> int:
        return 1_000_000

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture
def methods() -> Iterator[list[Method[Ask, Said]]]:
    """Three declared methods, for the length of a test."""
    made = [registry.method(9_970 + n, f"test.m{n}", Ask, Said) for n in range(3)]
    yield made
    for declared in made:
        del registry.BY_NAME[declared.name], registry.BY_NUMBER[declared.number]


class World:
    """A dispatcher and a client of it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.bugs: list[str] = []
        self.denied: set[str] = set()
        self.nursery = nursery
        self.dispatcher = Dispatcher(
            nursery,
            SystemClock(),
            authorise=self._authorise,
            on_bug=lambda method, _exc: self.bugs.append(method),
        )
        self.client: Peer
        self.server: Peer

    def _authorise(self, _peer: Peer, method: str) -> None:
        if method in self.denied:
            raise PlatformError("denied")

    async def code(self, method: Method[Any, Any] | str, params: object = None) -> str:
        name = method if isinstance(method, str) else method.name
        with pytest.raises(PlatformError) as caught:
            await self.client.call_raw(name, codec.pack({} if params is None else params), 60.0)
        return caught.value.code


def nobody(_peer: Peer, _request: Request) -> None:
    raise AssertionError


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery, pairs() as maker:
        made = World(nursery)
        made.server, made.client = maker.join(made.dispatcher, nobody)
        yield made
        nursery.cancel_scope.cancel()


M = list[Method[Ask, Said]]


async def test_plain_task_and_raw_handlers_answer(world: World, methods: M) -> None:
    async def task(params: Ask, context: Context) -> Said:
        await trio.lowlevel.checkpoint()
        return Said(text=f"task {params.text} {context.timeout_s:.0f}")

    world.dispatcher.plain(methods[0], lambda params, _context: Said(text=f"plain {params.text}"))
    world.dispatcher.task(methods[1], task)
    world.dispatcher.raw(methods[2], lambda peer, request: peer.reply(request, Said(text="raw")))
    assert (await world.client.call(methods[0], Ask(text="x"))).text == "plain x"
    assert (await world.client.call(methods[1], Ask(text="x", timeout=7))).text == "task x 7"
    assert (await world.client.call(methods[2], Ask())).text == "raw"
    assert world.dispatcher.methods() == {m.name for m in methods}
    assert world.bugs == []


async def test_a_method_has_one_handler(world: World, methods: M) -> None:
    world.dispatcher.plain(methods[0], lambda *_: None)
    for declare in (world.dispatcher.plain, world.dispatcher.task, world.dispatcher.raw):
        with pytest.raises(LocalError):
            declare(methods[0], lambda *_: None)  # type: ignore[operator]


async def test_bad_params_are_named_and_unknown_methods_refused(world: World, methods: M) -> None:
    world.dispatcher.plain(methods[0], lambda *_: Said(text=""))
    world.dispatcher.task(methods[1], lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]
    for method in methods[:2]:
        assert await world.code(method, {"text": 5}) == "invalid"
        assert await world.code(method, {"timeout": -1}) == "invalid"
        assert await world.code(method, {"deadline": 1}) == "timeout"
    assert await world.code(methods[2]) == "no-such-method"
    assert await world.code("no.such.method") == "no-such-method"
    assert await world.code("x" * 5_000) == "no-such-method"
    assert world.bugs == []


async def test_who_is_not_allowed_hears_so_before_anything_else(world: World, methods: M) -> None:
    world.dispatcher.plain(methods[0], lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]
    world.denied.update({methods[0].name, "no.such.method"})
    assert await world.code(methods[0], {"text": 5}) == "denied"
    assert await world.code("no.such.method") == "denied"
    assert world.bugs == []


class Unsayable:
    """Nothing can encode this."""


@pytest.mark.parametrize("problem", ["raises", "unsayable", "group"])
async def test_a_bug_is_internal_is_reported_and_nothing_else_ends(
    world: World, methods: M, problem: str
) -> None:
    def bug() -> Said:
        if problem == "raises":
            raise ZeroDivisionError
        if problem == "group":
            raise ExceptionGroup("several", [ZeroDivisionError()])
        return Said(text="", more=Unsayable())

    async def task(_params: Ask, _context: Context) -> Said:
        await trio.lowlevel.checkpoint()
        return bug()

    world.dispatcher.plain(methods[0], lambda *_: bug())
    world.dispatcher.task(methods[1], task)
    world.dispatcher.raw(methods[2], lambda peer, request: peer.reply(request, bug()))
    for method in methods:
        assert await world.code(method) == "internal"
    assert world.bugs == [m.name for m in methods]
    assert not world.client.closed


async def test_a_handler_s_own_error_is_the_answer(world: World, methods: M) -> None:
    def refuse(*_: object) -> Said:
        raise PlatformError("conflict")

    async def refuse_later(*_: object) -> Said:
        raise PlatformError("refused")

    world.dispatcher.plain(methods[0], refuse)
    world.dispatcher.task(methods[1], refuse_later)
    assert [await world.code(m) for m in methods[:2]] == ["conflict", "refused"]


async def test_a_task_ends_at_its_deadline(
    world: World, methods: M, autojump_clock: trio.testing.MockClock
) -> None:
    ended: list[float] = []

    async def sleeper(_params: Ask, _context: Context) -> Said:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())
        raise AssertionError

    world.dispatcher.task(methods[0], sleeper)
    begin = trio.current_time()
    assert await world.code(methods[0], {"timeout": 3}) == "timeout"
    assert await world.code(methods[0]) == "timeout"
    assert [round(t - begin) for t in ended] == [3, 3 + int(CALL_TIMEOUT_S_DEFAULT)]


async def test_a_task_goes_on_without_its_asker_unless_it_only_waits(
    world: World, methods: M
) -> None:
    cancelled: list[str] = []

    async def wait(params: Ask, _context: Context) -> Said:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(params.text)
        raise AssertionError

    world.dispatcher.task(methods[0], wait)
    world.dispatcher.task(methods[1], wait, while_connected=True)
    for method, text in ((methods[0], "works"), (methods[1], "waits")):
        world.client.send_request(
            method.name, codec.pack(Ask(text=text)), lambda _: None, timeout_s=9.0
        )
    await trio.testing.wait_all_tasks_blocked()
    world.client.close()
    await trio.testing.wait_all_tasks_blocked()
    assert cancelled == ["waits"]
    assert len(world.nursery.child_tasks) == 1


async def test_notifications_cannot_start_tasks_without_end(world: World, methods: M) -> None:
    go, done = trio.Event(), 0

    async def wait(_params: Ask, _context: Context) -> None:
        nonlocal done
        await go.wait()
        done += 1

    world.dispatcher.task(methods[0], wait)
    for _ in range(OUTSTANDING_REQUESTS_MAX + 7):
        world.client.notify(methods[0], Ask())
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.nursery.child_tasks) == OUTSTANDING_REQUESTS_MAX
    assert world.dispatcher.dropped_notifications == 7
    go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert done == OUTSTANDING_REQUESTS_MAX
    world.client.notify(methods[0], Ask())
    await trio.testing.wait_all_tasks_blocked()
    assert done == OUTSTANDING_REQUESTS_MAX + 1


# -- policy and deadlines ----


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    rule = Rule(frozenset({"operator"}))
    check_policy({"a", "b"}, {"a": rule, "b": rule})
    with pytest.raises(LocalError, match=r"missing \['b'\], stale \['c'\]"):
        check_policy({"a", "b"}, {"a": rule, "c": rule})


@pytest.mark.parametrize(
    ("params", "left"),
    [
        (Ask(), CALL_TIMEOUT_S_DEFAULT),
        (Ask(timeout=0.5), 0.5),
        (Ask(timeout=CALL_TIMEOUT_S_MAX), CALL_TIMEOUT_S_MAX),
        (Ask(deadline=1_002.5), 2.5),
        (Ask(deadline=9e9), CALL_TIMEOUT_S_MAX),
        (Ask(deadline=float("inf")), CALL_TIMEOUT_S_MAX),
        (Ask(deadline=1_001.0, timeout=9.0), 1.0),
    ],
)
def test_what_is_left_of_the_time(params: Ask, left: float) -> None:
    assert remaining_s(params, FixedClock()) == left


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("timeout", 0.0, "invalid"),
        ("timeout", -5.0, "invalid"),
        ("timeout", CALL_TIMEOUT_S_MAX + 1, "invalid"),
        ("timeout", float("nan"), "invalid"),
        ("timeout", float("inf"), "invalid"),
        ("deadline", 1_000.0, "timeout"),
        ("deadline", -1.0, "timeout"),
        ("deadline", float("nan"), "timeout"),
        ("deadline", float("-inf"), "timeout"),
    ],
)
def test_times_that_cannot_be(field: str, value: float, code: str) -> None:
    params = msgspec.msgpack.decode(msgspec.msgpack.encode({field: value}), type=Ask)
    with pytest.raises(PlatformError) as caught:
        remaining_s(params, FixedClock())
    assert caught.value.code == code


def test_nothing_is_the_empty_result() -> None:
    assert codec.pack(Nothing()) == codec.pack({})
