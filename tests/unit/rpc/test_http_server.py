"""The HTTP server: every bound and every status, and what hostile senders get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from paas.rpc.http_answers import ByteBudget, HttpProblem, Response
from paas.rpc.http_limits import HttpLimits
from paas.rpc.http_server import Exchange, HttpServer
from paas.testing.http_world import HEAD, Caller, ask, http_world, post

ECHO = ask("echo", value=1)
HEALTH = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def request(more: str, body: str = "", method: str = "POST") -> str:
    return f"{method} /rpc HTTP/1.1\r\n{HEAD}content-type: application/json\r\n{more}\r\n{body}"


async def test_requests_follow_each_other_on_one_connection() -> None:
    async with http_world() as world:
        caller = world.connect()
        for number in range(5):
            answer = await caller.ask(post(ask("echo", value=number)))
            assert (answer.status, answer.json["result"]) == (200, number)
        assert world.server.statistics["http_requests"] == 5


async def test_ten_thousand_pipelined_requests_are_answered_in_order() -> None:
    async with http_world() as world:
        caller = world.connect()
        count = 10_000

        async def send() -> None:
            for number in range(count):
                await caller.send(post(ask("echo", number, value=number)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for number in range(count):
                assert (await caller.answer()).json["id"] == number


async def test_a_body_may_come_in_chunks_and_in_pieces() -> None:
    async with http_world() as world:
        caller = world.connect()
        half = len(ECHO) // 2
        parts = [ECHO[:half], ECHO[half:]]
        chunks = "".join(f"{len(p):x}\r\n{p}\r\n" for p in parts) + "0\r\n\r\n"
        whole = request("transfer-encoding: chunked\r\n", chunks)
        for character in whole:
            await caller.send(character)
        assert (await caller.answer()).json["result"] == 1


async def test_who_waits_for_100_continue_is_told_to_go_on() -> None:
    async with http_world() as world:
        caller = world.connect()
        head = request(f"expect: 100-continue\r\ncontent-length: {len(ECHO)}\r\n")
        assert (await caller.ask(head)).status == 100
        assert (await caller.ask(ECHO)).status == 200


async def test_who_is_refused_by_its_headers_is_not_told_to_go_on() -> None:
    async with http_world() as world:
        caller = world.connect()
        head = "POST /rpc HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        assert (await caller.ask(head)).status == 401


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (request("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), 400),
        (request("content-length: 5\r\ncontent-length: 6\r\n", "hello!"), 400),
        (request("content-length: -5\r\n"), 400),
        (request("content-length: 0x5\r\n"), 400),
        (request("content-length: +5\r\n"), 400),
        (request("transfer-encoding: gzip, chunked\r\n"), 501),
        (request("transfer-encoding: chunked, chunked\r\n"), 501),
        (request("transfer-encoding: xchunked\r\n"), 501),
        (request("transfer-encoding: chunked\r\n", "zz\r\n"), 400),
        (request("transfer-encoding: chunked\r\n", "5\r\nhelloXX0\r\n\r\n"), 400),
        (request("content-length : 5\r\n", "hello"), 400),
        (request("a\0b: c\r\n"), 400),
        (request("a: b\0c\r\n"), 400),
        (request("no colon\r\n"), 400),
        (request("authorization: Bearer right\r\n", "x"), 400),
        (f"POST /rpc HTTP/1.0\r\n{HEAD}transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET  /healthz HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("\x16\x03\x01 hello\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\na: " + "b" * 40_000 + "\r\n\r\n", 431),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\n" + "a: b\r\n" * 200 + "\r\n", 431),
        ("GET /" + "a" * 9_000 + " HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (request(f"content-length: {(4 << 20) + 1}\r\n"), 413),
        (request(f"content-length: {10**18}\r\n"), 413),
        (request("", ""), 411),
        ("GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (f"PUT /rpc HTTP/1.1\r\n{HEAD}\r\n", 405),
        (f"OPTIONS /rpc HTTP/1.1\r\n{HEAD}\r\n", 405),
        ("POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 405),
    ],
)
async def test_a_refusal_is_a_problem_document_and_the_end(text: str, status: int) -> None:
    async with http_world(linger_s=0.05) as world:
        caller = world.connect()
        answer = await caller.ask(text)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == status
        assert answer.headers["connection"] == "close"
        assert await caller.ended()


async def test_nothing_after_a_refused_request_is_looked_at() -> None:
    """A second request hidden in what one reader takes for a body is not answered."""
    async with http_world(linger_s=0.05) as world:
        caller = world.connect()
        hidden = post(ask("echo", value="hidden")).decode()
        text = request(f"content-length: {len(hidden)}\r\ntransfer-encoding: chunked\r\n", hidden)
        assert (await caller.ask(text)).status == 400
        assert await caller.ended()
        assert not world.told


async def test_a_chunked_body_that_grows_too_large_is_refused_while_it_comes() -> None:
    async with http_world(body_bytes_max=1_000, linger_s=0.05) as world:
        caller = world.connect()
        chunk = "190\r\n" + "x" * 400 + "\r\n"
        answer = await caller.ask(request("transfer-encoding: chunked\r\n", chunk * 3))
        assert answer.status == 413


async def test_bodies_of_all_connections_share_a_budget(autojump_clock: Any) -> None:
    async with http_world(bodies_bytes_max=1_500) as world:
        first, second = world.connect(), world.connect()
        await first.send(request("content-length: 1000\r\n", "x" * 900))
        await trio.testing.wait_all_tasks_blocked()
        refused = await second.ask(request("content-length: 1000\r\n", "x" * 900))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        await first.send("x" * 100)
        assert (await first.answer()).status == 200
        assert world.server.budget.held == 0


def test_a_budget_counts_what_is_given_back() -> None:
    budget = ByteBudget(10)
    budget.take(10)
    with pytest.raises(HttpProblem):
        budget.take(1)
    budget.give_back(10)
    budget.take(10)


# -- time ----


async def trickle(caller: Caller, text: str, pause_s: float) -> None:
    for character in text:
        try:
            await caller.send(character)
        except trio.BrokenResourceError:
            return
        await trio.sleep(pause_s)


async def test_headers_that_trickle_are_given_up(autojump_clock: Any) -> None:
    async with http_world() as world:
        caller = world.connect()
        world.nursery.start_soon(trickle, caller, HEALTH + " " * 100, 1.0)
        began = trio.current_time()
        assert (await caller.answer()).status == 408
        assert trio.current_time() - began < 15


async def test_a_body_that_trickles_is_given_up(autojump_clock: Any) -> None:
    async with http_world() as world:
        caller = world.connect()
        await caller.send(request("content-length: 1000\r\n"))
        world.nursery.start_soon(trickle, caller, "x" * 1_000, 0.5)
        began = trio.current_time()
        assert (await caller.answer()).status == 408
        assert trio.current_time() - began < 15
        assert world.server.budget.held == 0


async def test_a_large_body_may_take_as_long_as_its_size_allows(autojump_clock: Any) -> None:
    async with http_world() as world:
        caller = world.connect()
        text = ask("echo", value="x" * (1 << 20))
        await caller.send(request(f"content-length: {len(text)}\r\n"))
        for start in range(0, len(text), 1 << 16):
            await caller.send(text[start : start + (1 << 16)])
            await trio.sleep(2)
        assert (await caller.answer()).status == 200


async def test_a_stranger_who_says_nothing_is_hung_up_on(autojump_clock: Any) -> None:
    async with http_world() as world:
        began = trio.current_time()
        assert await world.connect().ended()
        assert trio.current_time() - began == pytest.approx(10, abs=1)


async def test_an_idle_connection_ends_after_its_time(autojump_clock: Any) -> None:
    async with http_world() as world:
        caller = world.connect()
        assert (await caller.ask(HEALTH)).status == 200
        began = trio.current_time()
        assert await caller.ended()
        assert trio.current_time() - began == pytest.approx(60, abs=2)


async def test_who_does_not_read_its_answer_is_cut_off(autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        done: list[bool] = []

        async def handler(_exchange: Exchange) -> Response:
            return Response(200, b"x" * (1 << 20))

        server = HttpServer(handler, HttpLimits())
        ours, theirs = trio.testing.lockstep_stream_pair()

        async def serve() -> None:
            await server.serve_stream(ours, {})
            done.append(True)

        nursery.start_soon(serve)
        await theirs.send_all(HEALTH.encode())
        await trio.sleep(30)
        assert done


# -- the caller goes ----


async def test_a_caller_that_goes_cancels_its_request(autojump_clock: Any) -> None:
    async with http_world() as world:
        caller = world.connect()
        await caller.send(post(ask("wait")))
        await trio.testing.wait_all_tasks_blocked()
        (peer, _request) = world.waiting[0]
        assert not world.closed
        await caller.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert world.closed == [peer]
        assert peer.closed


@pytest.mark.parametrize("cut", [1, 20, 80, 150])
async def test_a_connection_may_end_anywhere(cut: int, autojump_clock: Any) -> None:
    async with http_world() as world:
        caller = world.connect()
        await caller.send(post(ECHO)[:cut])
        await caller.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert world.server.budget.held == 0


# -- for other servers than JSON-RPC ----


async def test_an_answer_may_come_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            await trio.lowlevel.checkpoint()
            yield b"%d" % number

    async def handler(exchange: Exchange) -> Response:
        assert exchange.query == "a=1"
        return Response(200, pieces())

    async with trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(HttpServer(handler).serve_stream, ours, {})
        caller = Caller(theirs)
        answer = await caller.ask("GET /x?a=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer.headers["transfer-encoding"] == "chunked"
        while not caller.buffer.endswith(b"0\r\n\r\n"):
            assert await caller.more()
        assert caller.buffer == b"1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n"
        nursery.cancel_scope.cancel()


async def test_a_bug_of_a_handler_is_500_and_the_text_stays_inside() -> None:
    async def handler(_exchange: Exchange) -> Response:
        raise RuntimeError("secret")

    async with trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(HttpServer(handler).serve_stream, ours, {})
        answer = await Caller(theirs).ask(HEALTH)
        assert answer.status == 500
        assert b"secret" not in answer.body
        nursery.cancel_scope.cancel()


async def test_head_has_no_body() -> None:
    async with http_world() as world:
        caller = world.connect()
        await caller.send(HEALTH.replace("GET", "HEAD"))
        await caller.more()
        assert caller.buffer.endswith(b"\r\n\r\n")
        caller.buffer = b""
        assert (await caller.ask(HEALTH)).status == 200


async def test_http_1_0_is_answered_and_closed() -> None:
    async with http_world(linger_s=0.05) as world:
        caller = world.connect()
        answer = await caller.ask("GET /healthz HTTP/1.0\r\n\r\n")
        assert answer.status == 200
        assert await caller.ended()


async def test_a_draining_server_ends_idle_connections_and_finishes_requests(
    autojump_clock: Any,
) -> None:
    async with http_world() as world:
        idle, busy = world.connect(), world.connect()
        assert (await idle.ask(HEALTH)).status == 200
        await busy.send(post(ask("wait")))
        await trio.testing.wait_all_tasks_blocked()
        world.nursery.start_soon(world.server.drain)
        assert await idle.ended()
        peer, waiting = world.waiting[0]
        peer.reply(waiting)
        answer = await busy.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await busy.ended()
