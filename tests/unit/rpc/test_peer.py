"""Peers: one outcome for every request, and no failure of one side or callback harms another."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.base.limits import FRAME_BYTES_MAX
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.rpc.link import StreamLink
from paas.rpc.peer import Peer, Sweeper
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.frame import frame

EMPTY = codec.pack({})
Outcome = bytes | PlatformError


@pytest.fixture
async def maker() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


def echo(peer: Peer, request: Request) -> None:
    if request.method == "t.close":
        peer.close()
    elif request.method != "t.silent":
        peer.reply(request, request.params)


def codes(outcomes: list[Outcome]) -> list[str]:
    return [o.code if isinstance(o, PlatformError) else "ok" for o in outcomes]


def ask(peer: Peer, method: str, into: list[Outcome], timeout_s: float = 30.0) -> None:
    peer.send_request(method, EMPTY, into.append, timeout_s=timeout_s)


async def test_both_sides_ask_and_answer(maker: Pairs) -> None:
    one, other = maker.join(echo, echo)
    body = codec.pack({"n": 1})
    assert await one.call_raw("t.echo", body, 5.0) == body
    assert await other.call_raw("t.echo", body, 5.0) == body


async def test_every_request_has_one_outcome_however_it_ends(
    maker: Pairs, autojump_clock: trio.testing.MockClock
) -> None:
    one, _ = maker.join(echo, echo)
    outcomes: list[Outcome] = []
    ask(one, "t.echo", outcomes)
    ask(one, "t.silent", outcomes, timeout_s=1.0)
    await trio.sleep(2)
    ask(one, "t.silent", outcomes)
    ask(one, "t.close", outcomes)
    await trio.sleep(1)
    ask(one, "t.echo", outcomes)
    await trio.sleep(60)
    assert codes(outcomes) == [
        "ok",
        "timeout",
        "unknown-outcome",
        "unknown-outcome",
        "not-available",
    ]


async def test_an_answer_callback_that_raises_harms_nobody(
    maker: Pairs, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    one, _ = maker.join(echo, echo)
    outcomes: list[Outcome] = []

    def fails(_value: Outcome) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        for method, timeout_s in (("t.echo", 9.0), ("t.silent", 1.0), ("t.silent", 99.0)):
            one.send_request(method, EMPTY, fails, timeout_s=timeout_s)
            ask(one, method, outcomes, timeout_s)
        await trio.sleep(2)
        assert codes(outcomes) == ["ok", "timeout"]
        assert await one.call_raw("t.echo", EMPTY, 5.0) == EMPTY
        ask(one, "t.close", outcomes)
        await trio.sleep(2)
    assert codes(outcomes[2:]) == ["unknown-outcome"] * 2
    assert len([r for r in caplog.records if r.exc_info]) == 3


async def test_a_handler_that_raises_is_internal_and_the_connection_lives(
    maker: Pairs, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_peer: Peer, _request: Request) -> None:
        raise ZeroDivisionError

    one, _ = maker.join(echo, fails)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            with pytest.raises(PlatformError) as caught:
                await one.call_raw("t.any", EMPTY, 5.0)
            assert caught.value.code == "internal"
        one.notify_raw("t.any", EMPTY)
        await trio.testing.wait_all_tasks_blocked()
    assert not one.closed


async def test_an_end_that_is_not_digested_harms_nobody(
    maker: Pairs, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_peer: Peer) -> None:
        raise ZeroDivisionError

    one, other = maker.join(echo, echo)
    other.on_close = fails
    outcomes: list[Outcome] = []
    ask(other, "t.silent", outcomes)
    await trio.testing.wait_all_tasks_blocked()
    with caplog.at_level(logging.ERROR):
        one.close()
        await trio.testing.wait_all_tasks_blocked()
    assert codes(outcomes) == ["unknown-outcome"]
    assert other.closed


async def test_a_cancelled_call_is_forgotten(maker: Pairs) -> None:
    one, _ = maker.join(echo, echo)
    with trio.move_on_after(0.01):
        await one.call_raw("t.silent", EMPTY, 60.0)
    assert one.connection.waiting == 0


async def test_what_is_too_large_never_leaves(maker: Pairs) -> None:
    one, other = maker.join(echo, echo)
    body = codec.pack({"x": b"\0" * FRAME_BYTES_MAX})
    with pytest.raises(PlatformError) as caught:
        await one.call_raw("t.echo", body, 5.0)
    assert caught.value.code == "limit-exceeded"
    with pytest.raises(PlatformError) as caught:
        one.notify_raw("t.echo", body)
    assert caught.value.code == "limit-exceeded"
    assert one.connection.waiting == 0
    assert await one.call_raw("t.echo", EMPTY, 5.0) == EMPTY
    assert not other.closed


async def test_an_answer_that_is_too_large_is_an_error_for_its_caller_only(maker: Pairs) -> None:
    body = codec.pack({"x": b"\0" * FRAME_BYTES_MAX})

    def large(peer: Peer, request: Request) -> None:
        peer.reply(request, body if request.method == "t.large" else EMPTY)

    one, _ = maker.join(echo, large)
    with pytest.raises(PlatformError) as caught:
        await one.call_raw("t.large", EMPTY, 5.0)
    assert caught.value.code == "limit-exceeded"
    assert await one.call_raw("t.small", EMPTY, 5.0) == EMPTY


async def test_garbage_ends_its_connection_and_is_told_to_the_owner() -> None:
    closed: list[Peer] = []
    async with trio.open_nursery() as nursery:
        near, far = trio.testing.memory_stream_pair()
        peer = Peer(
            StreamLink(near, nursery),
            Connection(Form.COMPACT),
            Sweeper(),
            echo,
            on_close=closed.append,
        )
        nursery.start_soon(peer.run)
        await far.send_all(frame(b"\xc1garbage"))
        assert await far.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert closed == [peer]
    assert peer.closed


async def test_an_oversized_frame_is_answered_before_the_end() -> None:
    """On a link that sends at once; the last words of others may be lost."""
    import socket

    from paas.rpc.link import SocketLink

    near, far = socket.socketpair()
    async with trio.open_nursery() as nursery:
        peer = Peer(SocketLink(near, nursery), Connection(None), Sweeper(), echo)
        nursery.start_soon(peer.run)
        far.send(b"\xff\xff\xff\xff")
        await trio.testing.wait_all_tasks_blocked()
        assert b"limit-exceeded" in far.recv(10_000)
        nursery.cancel_scope.cancel()
    far.close()


async def test_the_sweeper_sleeps_while_nobody_waits(
    maker: Pairs, autojump_clock: trio.testing.MockClock
) -> None:
    one, _ = maker.join(echo, echo)
    outcomes: list[Outcome] = []
    for _ in range(3):
        await trio.sleep(100)
        ask(one, "t.silent", outcomes, timeout_s=5.0)
        await trio.sleep(4.9)
        assert one.connection.waiting == 1
        await trio.sleep(0.3)
        assert one.connection.waiting == 0
    assert codes(outcomes) == ["timeout"] * 3
