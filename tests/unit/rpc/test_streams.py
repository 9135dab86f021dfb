"""Byte streams on peers: credit, ends, breaks, and peers that do not keep the rules."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from paas.base.errors import PlatformError
from paas.real.clock import SystemClock
from paas.rpc.connection import Connection
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.lifecycle import STREAM, StreamState
from paas.rpc.link import StreamLink
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.stream_flow import Fault, Flow
from paas.rpc.stream_limits import CREDIT_BYTES_MAX, PIECE_BYTES, STREAMS_MAX, WINDOW_BYTES
from paas.rpc.stream_messages import CREDIT, DATA, END, RESET, Credit, Data, End, Opened, Opening
from paas.rpc.stream_messages import Reset as ResetMessage
from paas.rpc.streams import Stream, Streams, relay
from paas.testing.pair import Pairs
from paas.wire.registry import Method

OPEN: Method[Opening, Opened] = Method(99_990, "test.open", Opening, Opened, True)
Serve = Callable[[Stream], Awaitable[None]]


def big(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


@dataclass
class Side:
    """One process: a dispatcher with streams; `serve` runs for each stream opened here."""

    streams: Streams
    dispatcher: Dispatcher


@asynccontextmanager
async def sides(serve: Serve) -> AsyncIterator[tuple[Peer, Side, Peer, Side]]:
    """Two sides of one connection; both answer `test.open`."""
    async with trio.open_nursery() as nursery:

        def make() -> Side:
            def bug(_name: str, exc: Exception) -> None:
                raise exc

            dispatcher = Dispatcher(nursery, SystemClock(), on_bug=bug)
            streams = Streams(nursery)
            streams.register(dispatcher)

            async def accept(params: Opening, context: Context) -> Opened:
                stream = streams.accept(context.peer, params)
                nursery.start_soon(serve, stream)
                return Opened(window=stream.window)

            dispatcher.task(OPEN, accept)
            return Side(streams, dispatcher)

        one, other = make(), make()
        left, right = Pairs(nursery).join(one.dispatcher, other.dispatcher)
        yield left, one, right, other
        nursery.cancel_scope.cancel()


async def read_all(stream: Stream) -> bytes:
    found = b""
    while (piece := await stream.receive()) is not None:
        found += piece[1]
    return found


async def echo(stream: Stream) -> None:
    async with stream:
        data = await read_all(stream)
        await stream.send(data)
        stream.end({"bytes": len(data)})


async def hold(stream: Stream) -> None:
    """Keep it open and read nothing."""
    async with stream:
        await trio.sleep_forever()


async def opened(peer: Peer, side: Side) -> Stream:
    stream, _ = await side.streams.open(peer, OPEN, Opening(stream=0), timeout_s=5.0)
    return stream


async def test_bytes_come_back_in_order_and_the_end_says_how_many() -> None:
    data = big(3 * WINDOW_BYTES + 17)

    async def swallow(stream: Stream) -> None:
        async with stream:
            found = await read_all(stream)
            stream.end({"same": found == data})

    async with sides(swallow) as (peer, side, _, far):
        stream = await opened(peer, side)
        await stream.send(data)
        stream.end()
        assert await stream.receive() is None
        assert stream.result == {"same": True}
        assert stream.over
        await wait_all_tasks_blocked()
        assert far.streams.statistics()["streams"] == side.streams.statistics()["streams"] == 0


async def test_both_sides_may_open_streams_with_the_same_number() -> None:
    async with sides(echo) as (left, one, right, other):
        here, there = await opened(left, one), await opened(right, other)
        assert here.number == there.number
        await here.send(b"from the left")
        await there.send(b"from the right")
        here.end()
        there.end()
        assert await read_all(here) == b"from the left"
        assert await read_all(there) == b"from the right"


async def test_channels_keep_their_order_and_none_starves() -> None:
    async def two(stream: Stream) -> None:
        async with stream:
            for number in range(20):
                await stream.send(b"%d out\n" % number, 1)
                await stream.send(b"%d err\n" % number, 2)
            stream.end()

    async with sides(two) as (peer, side, _, _far):
        stream = await opened(peer, side)
        found = {0: b"", 1: b"", 2: b""}
        while (piece := await stream.receive()) is not None:
            found[piece[0]] += piece[1]
        assert found[1] == b"".join(b"%d out\n" % n for n in range(20))
        assert found[2] == b"".join(b"%d err\n" % n for n in range(20))


async def test_a_reader_that_does_not_read_stops_the_sender_at_the_window() -> None:
    async with sides(hold) as (peer, side, _, far):
        stream = await opened(peer, side)
        sent = 0
        with trio.move_on_after(0.2):
            while True:
                await stream.send(bytes(1_024))
                sent += 1_024
        assert sent == WINDOW_BYTES
        (there,) = [s for p in far.streams._peers.values() for s in p.streams.values()]
        assert sum(map(len, there._flow._buffers)) == WINDOW_BYTES


async def test_one_stream_that_is_stuck_does_not_delay_another() -> None:
    async def serve(stream: Stream) -> None:
        await (hold if stream.number == 1 else echo)(stream)

    async with sides(serve) as (peer, side, _, _far):
        stuck, free = await opened(peer, side), await opened(peer, side)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck.send, big(2 * WINDOW_BYTES))
            await free.send(b"x" * 1_000)
            free.end()
            assert await read_all(free) == b"x" * 1_000
            nursery.cancel_scope.cancel()


async def test_a_break_reaches_both_sides_with_its_reason() -> None:
    async def refuse(stream: Stream) -> None:
        async with stream:
            raise_after = await stream.receive()
            assert raise_after is not None
            stream.reset(PlatformError("denied", "not you"))

    async with sides(refuse) as (peer, side, _, _far):
        stream = await opened(peer, side)
        await stream.send(b"hello")
        with pytest.raises(PlatformError, match="not you") as caught:
            await stream.receive()
        assert caught.value.code == "denied"
        with pytest.raises(PlatformError, match="not you"):
            await stream.send(b"more")


async def test_a_break_wakes_a_sender_without_credit() -> None:
    async def later(stream: Stream) -> None:
        await wait_all_tasks_blocked()
        stream.reset(PlatformError("failed", "enough"))

    async with sides(later) as (peer, side, _, _far):
        stream = await opened(peer, side)
        with pytest.raises(PlatformError, match="enough"):
            await stream.send(bytes(2 * WINDOW_BYTES))


async def test_leaving_the_block_breaks_the_stream_off_over_there() -> None:
    seen: list[str] = []

    async def watch(stream: Stream) -> None:
        try:
            await stream.receive()
        except PlatformError as exc:
            seen.append(exc.code)

    async with sides(watch) as (peer, side, _, far):
        async with await opened(peer, side):
            pass
        await wait_all_tasks_blocked()
        assert seen == ["cancelled"]
        assert far.streams.statistics()["streams"] == 0


async def test_the_end_of_the_connection_breaks_all_streams_off() -> None:
    seen: list[str] = []

    async def watch(stream: Stream) -> None:
        try:
            await stream.receive()
        except PlatformError as exc:
            seen.append(exc.code)

    async with sides(watch) as (peer, side, _, far):
        stream = await opened(peer, side)
        await opened(peer, side)
        peer.close()
        with pytest.raises(PlatformError) as caught:
            await stream.receive()
        assert caught.value.code == "unavailable"
        await wait_all_tasks_blocked()
        assert seen == ["unavailable"] * 2
        assert not far.streams._peers
        assert not side.streams._peers


async def test_a_caller_who_gives_up_leaves_no_stream_on_either_side() -> None:
    async with sides(hold) as (peer, side, right, far):
        far.dispatcher._tasks[OPEN.name] = (Opening, _slow(far), False)
        with trio.move_on_after(0.05):
            await opened(peer, side)
        await wait_all_tasks_blocked()
        assert side.streams.statistics()["streams"] == 0
        assert far.streams.statistics()["streams"] == 0
        assert not right.closed


def _slow(side: Side) -> Any:
    async def slow(params: Opening, context: Context) -> Opened:
        async with side.streams.accept(context.peer, params):
            await trio.sleep_forever()

    return slow


async def test_a_refused_request_leaves_no_stream() -> None:
    async with sides(hold) as (peer, side, _, far):

        async def refuse(_params: Opening, _context: Context) -> Opened:
            raise PlatformError("denied", "no streams today")

        far.dispatcher._tasks[OPEN.name] = (Opening, refuse, False)
        with pytest.raises(PlatformError, match="no streams today"):
            await opened(peer, side)
        assert side.streams.statistics()["streams"] == 0


# -- peers that do not keep the rules -------------------------------------------------------------


async def test_data_without_credit_breaks_only_that_stream() -> None:
    async with sides(hold) as (peer, side, _, far):
        stream, other = await opened(peer, side), await opened(peer, side)
        for _ in range(WINDOW_BYTES // PIECE_BYTES + 1):
            peer.notify(DATA, Data(stream=stream.number, data=bytes(PIECE_BYTES)))
        with pytest.raises(PlatformError) as caught:
            await stream.receive()
        assert caught.value.code == "limit-exceeded"
        await other.send(b"still fine")
        assert far.streams.statistics() == {"streams": 1, "ignored": 0, "faults": 1}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Data(stream=1, data=b"x", channel=3), "invalid"),
        (Data(stream=1, data=b"x", channel=-1), "invalid"),
        (Credit(stream=1, bytes=-1), "invalid"),
        (Data(stream=1, data=bytes(WINDOW_BYTES + 1)), "limit-exceeded"),
    ],
)
async def test_what_breaks_the_rules_breaks_the_stream(message: Any, code: str) -> None:
    async with sides(hold) as (peer, side, _, _far):
        stream = await opened(peer, side)
        peer.notify(CREDIT if isinstance(message, Credit) else DATA, message)
        with pytest.raises(PlatformError) as caught:
            await stream.receive()
        assert caught.value.code == code


async def test_data_after_the_end_breaks_the_stream() -> None:
    async with sides(hold) as (peer, side, _, far):
        stream = await opened(peer, side)
        peer.notify(END, End(stream=1))
        peer.notify(DATA, Data(stream=1, data=b"x"))
        with pytest.raises(PlatformError, match="after its end"):
            await stream.receive()
        assert far.streams.faults == 1


@pytest.mark.parametrize("number", [1, -1, 0, 7, -(1 << 60)])
async def test_messages_of_unknown_streams_are_counted_and_ignored(number: int) -> None:
    async with sides(hold) as (peer, side, right, far):
        peer.notify(DATA, Data(stream=number, data=b"x"))
        peer.notify(CREDIT, Credit(stream=number, bytes=5))
        peer.notify(END, End(stream=number))
        peer.notify(RESET, ResetMessage(stream=number, error={"code": "?"}))
        await opened(peer, side)
        assert far.streams.ignored == 4
        assert not right.closed


async def test_numbers_must_be_positive_and_free() -> None:
    async with sides(hold) as (peer, _, _right, _far):
        await peer.call(OPEN, Opening(stream=5))
        for number in (5, 0, -3, 1 << 53):
            with pytest.raises(PlatformError) as caught:
                await peer.call(OPEN, Opening(stream=number))
            assert caught.value.data["field"] == "stream"


async def test_a_stranger_has_a_bounded_number_of_streams() -> None:
    async with sides(hold) as (peer, _, _right, far):
        for number in range(1, STREAMS_MAX + 1):
            await peer.call(OPEN, Opening(stream=number))
        with pytest.raises(PlatformError) as caught:
            await peer.call(OPEN, Opening(stream=STREAMS_MAX + 1))
        assert caught.value.code == "limit-exceeded"
        assert far.streams.statistics()["streams"] == STREAMS_MAX


def test_many_tiny_pieces_cost_no_more_than_their_bytes() -> None:
    flow = Flow()
    for _ in range(WINDOW_BYTES):
        flow.received(0, b"x")
    with pytest.raises(Fault):
        flow.received(0, b"x")
    assert len(flow._buffers[0]) == WINDOW_BYTES


def test_credit_is_remembered_up_to_a_bound() -> None:
    flow = Flow()
    for _ in range(3):
        flow.granted(1 << 62)
    assert flow.credit == CREDIT_BYTES_MAX


def test_the_window_is_kept_by_any_order_of_moves() -> None:
    """Two ends, joined by hand: what is on its way and in buffers never exceeds the window."""
    draw = random.Random(7)
    for _ in range(50):
        sender, receiver = Flow(), Flow(window=draw.choice([1, 100, PIECE_BYTES, WINDOW_BYTES]))
        sender.granted(receiver.window)
        sent, got = bytearray(), bytearray()
        for _ in range(300):
            if draw.random() < 0.5:
                data = draw.randbytes(draw.randrange(1, 70_000))
                data = data[: sender.taken(len(data))]
                sent += data
                receiver.received(draw.randrange(1), data)
            elif (piece := receiver.consume()) is not None:
                got += piece[1]
                sender.granted(receiver.credit_to_give())
            assert len(sent) - len(got) <= receiver.window
        while (piece := receiver.consume()) is not None:
            got += piece[1]
        assert got == sent


def test_the_life_of_a_stream_ends_in_every_order() -> None:
    assert STREAM.final(StreamState.OVER)
    assert all(not STREAM.final(s) for s in StreamState if s is not StreamState.OVER)


# -- in JSON, and through a third party ----------------------------------------------------------


async def test_in_json_the_bytes_are_base64() -> None:
    async with trio.open_nursery() as nursery:
        dispatcher = Dispatcher(nursery, SystemClock(), on_bug=lambda _n, exc: None)
        streams = Streams(nursery)
        streams.register(dispatcher)

        async def accept(params: Opening, context: Context) -> Opened:
            stream = streams.accept(context.peer, params)
            nursery.start_soon(echo, stream)
            return Opened(window=stream.window)

        dispatcher.task(OPEN, accept)
        ours, theirs = memory_stream_pair()
        link = StreamLink(theirs, nursery)
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        nursery.start_soon(Peer(link, Connection(None), sweeper, dispatcher).run)
        await ours.send_all(
            b'{"jsonrpc":"2.0","id":1,"method":"test.open","params":{"stream":4}}\n'
        )
        said = bytes(await ours.receive_some())
        assert b'"result":{"window":' in said
        await ours.send_all(
            b'{"jsonrpc":"2.0","method":"stream.data","params":{"stream":4,"data":"/wD+"}}\n'
            b'{"jsonrpc":"2.0","method":"stream.end","params":{"stream":4}}\n'
        )
        while said.count(b"\n") < 3:
            said += await ours.receive_some()
        assert b'"method":"stream.data","params":{"stream":-4,"data":"/wD+"}' in said
        assert b'"method":"stream.end","params":{"stream":-4,"result":{"bytes":3}}' in said
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def through_a_third(serve: Serve) -> AsyncIterator[tuple[Peer, Side]]:
    """caller ── middle (relay) ── `serve`"""
    async with sides(serve) as (onward, middle, _, _far):

        async def pass_on(stream: Stream) -> None:
            async with stream, await opened(onward, middle) as second:
                await relay(stream, second)

        async with sides(pass_on) as (peer, side, _, _middle):
            yield peer, side


async def test_a_relay_passes_bytes_channels_and_the_result() -> None:
    async with through_a_third(echo) as (peer, side):
        data = big(2 * WINDOW_BYTES)
        stream = await opened(peer, side)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(_send_and_end, stream, data[: WINDOW_BYTES // 2]))
        assert await read_all(stream) == data[: WINDOW_BYTES // 2]
        assert stream.result == {"bytes": WINDOW_BYTES // 2}


async def _send_and_end(stream: Stream, data: bytes) -> None:
    await stream.send(data)
    stream.end()


async def test_a_relay_does_not_gather_what_nobody_reads() -> None:
    async with through_a_third(hold) as (peer, side):
        stream = await opened(peer, side)
        sent = 0
        with trio.move_on_after(0.3):
            while True:
                await stream.send(bytes(1_024))
                sent += 1_024
        assert sent <= 2 * WINDOW_BYTES + PIECE_BYTES


async def test_what_was_said_with_its_end_is_delivered_though_the_other_side_has_left() -> None:
    async def say(stream: Stream) -> None:
        async with stream:
            await stream.send(b"a" * 100_000)
            stream.end("done")

    async with sides(say) as (peer, side, _, _far):
        stream = await opened(peer, side)
        await wait_all_tasks_blocked()
        assert await read_all(stream) == b"a" * 100_000
        assert stream.result == "done"
        with pytest.raises(PlatformError):
            await stream.send(b"nobody listens")
    async with through_a_third(say) as (peer, side):
        stream = await opened(peer, side)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_in_vain, stream)
            assert await read_all(stream) == b"a" * 100_000
        assert stream.result == "done"


async def test_a_relay_ends_when_the_one_who_answers_has_left_though_the_caller_says_no_more() -> (
    None
):
    async def say(stream: Stream) -> None:
        async with stream:
            await stream.send(b"all")
            stream.end()

    async with sides(say) as (onward, middle, _, _far):
        relayed = trio.Event()

        async def pass_on(stream: Stream) -> None:
            async with stream, await opened(onward, middle) as second:
                await relay(stream, second)
            relayed.set()

        async with sides(pass_on) as (peer, side, _, _middle):
            stream = await opened(peer, side)
            assert await read_all(stream) == b"all"
            with trio.fail_after(10):
                await relayed.wait()


async def _send_in_vain(stream: Stream) -> None:
    with pytest.raises(PlatformError):
        await stream.send(bytes(20 * WINDOW_BYTES))


async def test_a_relay_passes_breaks_in_both_directions() -> None:
    seen: list[str] = []

    async def serve(stream: Stream) -> None:
        if stream.number == 1:
            stream.reset(PlatformError("failed", "it fell"))
            return
        try:
            await stream.receive()
        except PlatformError as exc:
            seen.append(exc.code)

    async with through_a_third(serve) as (peer, side):
        broken = await opened(peer, side)
        with pytest.raises(PlatformError, match="it fell"):
            await broken.receive()
        async with await opened(peer, side):
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert seen == ["cancelled"]
