"""The data path between real sockets: ordinary requests, bodies, retries, what members do wrong."""

from __future__ import annotations

import gzip
import json

import pytest
import trio

from paas.gateway.config import EdgeFile, MemberRow
from paas.gateway.messages import Route
from paas.gateway.static import StaticBackends
from paas.testing.edge_world import Answer, TestMember, World, gateway

POST = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx"
SITE = Route(name="site", group="web", timeout_s=1.0)


def detail(answer: Answer) -> str:
    assert answer.header("content-type") == "application/problem+json"
    told = json.loads(answer.body)
    assert told["status"] == answer.status
    assert told["instance"] == f"urn:request:{answer.header('x-request-id')}"
    return str(told["detail"])


async def test_a_request_and_its_answer_pass() -> None:
    member = TestMember(name="m1")
    async with gateway(members=[member]) as world:
        answer = await world.get("/a/b?c=%20d", "cookie: a=1\r\nx-own: yes\r\n")
        assert (answer.status, answer.body) == (200, b"m1 GET /a/b?c=%20d")
        seen = member.seen[0]
        assert seen.header("host") == "x"
        assert seen.header("x-own") == "yes"
        assert seen.header("cookie") == "a=1"
        assert seen.header("x-forwarded-for") == "127.0.0.1"
        assert seen.header("x-forwarded-proto") == "http"
        assert seen.header("forwarded") == 'for=127.0.0.1;host="x";proto=http'
        assert seen.header("x-request-id") == answer.header("x-request-id")
        assert seen.header("via") == "1.1 paas-gateway"


async def test_requests_follow_each_other_and_may_be_pipelined() -> None:
    member = TestMember()
    async with gateway(members=[member]) as world:
        browser = await world.connect()
        await browser.send("".join(f"GET /{n} HTTP/1.1\r\nhost: x\r\n\r\n" for n in range(50)))
        for number in range(50):
            assert (await browser.answer()).body == f" GET /{number}".encode()
        assert member.connections == 1


async def test_what_a_browser_says_about_itself_is_not_believed() -> None:
    member = TestMember()
    async with gateway(members=[member]) as world:
        await world.get(
            "/",
            "x-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\n"
            "x-real-ip: 6.6.6.6\r\nx-request-id: mine\r\nconnection: x-secret\r\nx-secret: 1\r\n",
        )
        seen = member.seen[0]
        assert seen.header("x-forwarded-for") == "127.0.0.1"
        assert seen.header("forwarded") == 'for=127.0.0.1;host="x";proto=http'
        for gone in ("x_forwarded_for", "x-real-ip", "x-secret"):
            assert seen.header(gone) is None
        assert seen.header("x-request-id") != "mine"


async def test_a_trusted_proxy_is_continued() -> None:
    member = TestMember()
    async with gateway(members=[member], trusted_proxies=["127.0.0.0/8"]) as world:
        more = "x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\nforwarded: for=9.9.9.9\r\n"
        await world.get("/", more)
        seen = member.seen[0]
        assert seen.header("x-forwarded-for") == "9.9.9.9, 127.0.0.1"
        assert seen.header("x-forwarded-proto") == "https"
        assert seen.header("forwarded") == 'for=9.9.9.9, for=127.0.0.1;host="x";proto=https'


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
@pytest.mark.parametrize("chunks", [False, True])
async def test_bodies_of_any_size_pass_in_both_framings(size: int, chunks: bool) -> None:
    body = bytes(i * 7 & 0xFF for i in range(1000)) * (size // 1000) + b"x" * (size % 1000)
    member = TestMember(answer=body)
    async with gateway(members=[member]) as world:
        browser = await world.connect()
        head = "POST /in HTTP/1.1\r\nhost: x\r\n"
        if chunks:
            pieces = [body[i : i + 10_007] for i in range(0, len(body), 10_007)]
            framed = b"".join(b"%x;a=b\r\n%b\r\n" % (len(p), p) for p in pieces)
            sent = f"{head}transfer-encoding: chunked\r\n\r\n".encode() + framed
            sent += b"0\r\nx-trailer: 1\r\n\r\n"
        else:
            sent = f"{head}content-length: {size}\r\n\r\n".encode() + body
        async with trio.open_nursery() as nursery:
            nursery.start_soon(browser.send, sent)
            answer = await browser.answer("POST")
        assert answer.body == body
        assert member.seen[0].body == body
        assert member.seen[0].header("x-trailer") is None
        await browser.send("GET /after HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await browser.answer()).status == 200


async def test_a_browser_that_waits_for_100_continue_is_told_to_go_on() -> None:
    member = TestMember()
    async with gateway(members=[member]) as world:
        browser = await world.connect()
        head = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        await browser.send(head)
        assert (await browser.receive()).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        await browser.send("hello")
        assert (await browser.answer("POST")).status == 200
        assert member.seen[0].body == b"hello"
        assert member.seen[0].header("expect") is None


async def test_a_body_that_is_too_long_is_refused_before_it_is_sent() -> None:
    member = TestMember()
    route = Route(name="site", group="web", body_max=1000)
    async with gateway(routes=[route], members=[member]) as world:
        head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n"
        answer = await world.ask(head)
        assert (answer.status, detail(answer)) == (413, "a body has at most 1000 bytes here")
        chunks = "transfer-encoding: chunked\r\n\r\n" + "100\r\n" + "x" * 256 + "\r\n"
        long = f"POST / HTTP/1.1\r\nhost: x\r\n{chunks}" + ("100\r\n" + "x" * 256 + "\r\n") * 5
        assert (await world.ask(long)).status == 413
        assert member.seen == []


async def test_head_204_304_and_http_1_0() -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some(65_536)
        path = request.split()[1]
        answers = {
            b"/204": b"HTTP/1.1 204 No Content\r\n\r\n",
            b"/304": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: x\r\n\r\n",
            b"/head": b"HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n",
            b"/close": b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        }
        await stream.send_all(answers[path])

    async with gateway(members=[TestMember(talk=talk)]) as world:
        assert (await world.get("/204")).status == 204
        unchanged = await world.get("/304")
        assert (unchanged.status, unchanged.header("content-length")) == (304, "99")
        head = await world.ask("HEAD /head HTTP/1.1\r\nhost: x\r\n\r\n", "HEAD")
        assert (head.header("content-length"), head.body) == ("123", b"")
        assert (await world.get("/close")).body == b"until the end"
        browser = await world.connect()
        await browser.send("GET /close HTTP/1.0\r\nhost: x\r\n\r\n")
        raw = await browser.everything()
        assert raw.endswith(b"\r\n\r\nuntil the end")
        assert b"chunked" not in raw


async def test_events_arrive_as_they_are_sent() -> None:
    go = trio.Event()

    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        await go.wait()
        await stream.send_all(b"data: 1\n\n")
        await trio.sleep_forever()

    async with gateway(members=[TestMember(talk=talk)], routes=[SITE]) as world:
        browser = await world.connect()
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await browser.receive()).startswith(b"HTTP/1.1 200 OK")
        go.set()
        assert b"data: 1\n\n" in await browser.receive()
        await trio.sleep(1.3)  # longer than the route's time to the first byte
        await browser.close()


async def test_an_answer_may_begin_before_the_request_ends() -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            data = await stream.receive_some(65_536)
            if not data:
                return
            await stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))
            if data.endswith(b"0\r\n\r\n"):
                await stream.send_all(b"0\r\n\r\n")

    async with gateway(members=[TestMember(talk=talk)]) as world:
        browser = await world.connect()
        await browser.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert b"200 OK" in await browser.receive()
        for word in (b"one", b"two"):
            await browser.send(b"3\r\n%b\r\n" % word)
            assert word in await browser.receive()
        await browser.send("0\r\n\r\n")
        assert b"0\r\n\r\n" in await browser.receive()


async def test_a_member_that_refuses_a_body_early_is_heard() -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await trio.sleep(0.2)

    async with gateway(members=[TestMember(talk=talk)]) as world:
        browser = await world.connect()
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n"
        await browser.send(head + b"x" * 70_000)
        answer = await browser.answer("POST")
        assert (answer.status, answer.body) == (413, b"no")
        assert answer.header("connection") == "close"


async def test_what_no_route_leads_to() -> None:
    routes = [
        Route(name="a", group="web", host="a.example"),
        Route(name="ro", group="web", host="ro.example", methods=("GET", "HEAD")),
    ]
    async with gateway(members=[TestMember()], routes=routes) as world:
        answer = await world.get(host="b.example")
        assert (answer.status, detail(answer)) == (404, "no route leads there")
        answer = await world.ask("PUT / HTTP/1.1\r\nhost: ro.example\r\n\r\n")
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")
        answer = await world.ask("TRACE / HTTP/1.1\r\nhost: a.example\r\n\r\n")
        assert answer.status == 501


async def test_a_rate_is_kept_and_says_when_to_come_again() -> None:
    route = Route(name="site", group="web", rate=2.0)
    async with gateway(members=[TestMember()], routes=[route]) as world:
        statuses = [(await world.get()).status for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert (await world.get()).header("retry-after") == "1"


# -- members that fail ---------------------------------------------------------------------------


async def dies(member: TestMember, stream: trio.SocketStream) -> None:
    await stream.receive_some(65_536)


async def test_an_unanswered_request_goes_to_another_member_only_if_that_is_safe() -> None:
    bad, good = TestMember(talk=dies), TestMember(name="good")
    async with gateway(members=[bad, good], routes=[SITE]) as world:
        for _ in range(8):
            assert (await world.get()).body == b"good GET /"
        statuses = set()
        for _ in range(20):
            world.backends.members(SITE)[0].breaker.succeeded()
            answer = await world.ask(POST, "POST")
            statuses.add(answer.status)
            if answer.status == 502:
                assert detail(answer) == (
                    "the member closed the connection without an answer; it may have begun this "
                    "POST, which is not safe to repeat"
                )
        assert statuses == {200, 502}


async def test_a_kept_connection_that_ends_as_the_request_comes_is_no_failure() -> None:
    async def once(member: TestMember, stream: trio.SocketStream) -> None:
        """Answers one request, and hangs up on the next as it comes."""
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some(65_536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await stream.receive_some(65_536)

    async with gateway(members=[TestMember(talk=once)], routes=[SITE]) as world:
        for _ in range(20):
            assert (await world.get()).body == b"ok"
        assert world.backends.members(SITE)[0].breaker.failures == 0
        assert world.edge.figures()["members_failed"] == 0
        statuses = [(await world.ask(POST, "POST")).status for _ in range(4)]
        assert 502 in statuses  # a POST may have been begun


async def test_a_route_may_declare_its_posts_idempotent() -> None:
    route = Route(name="site", group="web", idempotent=True)
    bad, good = TestMember(talk=dies), TestMember(name="good")
    async with gateway(members=[bad, good], routes=[route]) as world:
        for _ in range(8):
            answer = await world.ask(POST, "POST")
            assert answer.body == b"good POST /"
        assert {s.body for s in good.seen} == {b"x"}


async def test_a_member_that_does_not_listen_is_passed_over_for_any_method() -> None:
    away, good = TestMember(name="away"), TestMember(name="good")
    async with gateway(members=[good], routes=[SITE]) as world:
        away.port = await _free_port()
        rows = [away.row(), good.row()]
        replace(world, rows)
        for _ in range(10):
            answer = await world.ask(POST, "POST")
            assert answer.status == 200
        replace(world, rows[:1])
        answer = await world.get()
        assert answer.status in (502, 503)
        assert "member" in detail(answer)


async def test_a_member_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    bad = TestMember(talk=dies)
    async with gateway(members=[bad], routes=[SITE]) as world:
        statuses = [(await world.get()).status for _ in range(10)]
        assert statuses == [502] * 5 + [503] * 5
        bad.talk = None
        await trio.sleep(0.6)
        assert (await world.get()).status == 200


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
            "more than once",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "and transfer",
        ),
        (b"HTTP/1.1 200 OK\ncontent-length: 0\n\n\r\n\r\n", "is no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nx: a\r\n b: c\r\n\r\n", "is no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nx : a\r\n\r\n", "is no HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n", "is no HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "is no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc", "is not one plain number"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "not chunked"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "without being asked"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", "too long a head"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n", "more than 100 headers"),
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nx: ", "within its answer's head"),
    ],
)
async def test_a_member_that_speaks_badly_is_a_502_that_says_so(said: bytes, told: str) -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(said)

    async with gateway(members=[TestMember(talk=talk)], routes=[SITE]) as world:
        answer = await world.get()
        assert answer.status == 502
        assert told in detail(answer)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n20\r\nab",
    ],
)
async def test_an_answer_that_breaks_off_is_seen_to_break_off(said: bytes) -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(said)

    async with gateway(members=[TestMember(talk=talk)], routes=[SITE]) as world:
        browser = await world.connect()
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        raw = await browser.everything()
        assert b"abc" in raw
        assert not raw.endswith(b"0\r\n\r\n")


async def test_an_answer_of_which_nothing_was_passed_on_is_taken_back() -> None:
    said = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n"

    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(said)

    async with gateway(members=[TestMember(talk=talk)], routes=[SITE]) as world:
        answer = await world.get()
        assert answer.status == 502
        assert "a chunk's size is no hexadecimal number" in detail(answer)


async def test_a_member_that_does_not_answer_in_time_is_a_504() -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    route = Route(name="site", group="web", timeout_s=0.2)
    async with gateway(members=[TestMember(talk=talk)], routes=[route]) as world:
        answer = await world.get()
        assert (answer.status, detail(answer)) == (504, "the member did not answer in time")


async def test_interim_answers_and_more_than_was_asked_for_do_not_poison_the_next() -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
        )
        await trio.sleep_forever()

    member = TestMember(talk=talk)
    async with gateway(members=[member], routes=[SITE]) as world:
        browser = await world.connect()
        for _ in range(3):
            await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await browser.answer()).body == b"ok"
        assert member.connections == 3


async def test_a_browser_that_goes_ends_the_work_for_it() -> None:
    ended = trio.Event()

    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        assert await stream.receive_some(1) == b""
        ended.set()

    async with gateway(members=[TestMember(talk=talk)]) as world:
        browser = await world.connect()
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await trio.sleep(0.1)
        await browser.close()
        with trio.fail_after(3):
            await ended.wait()


async def test_a_slow_reader_slows_the_member_down() -> None:
    sent = 0

    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.receive_some(65_536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65_536)
            sent += 65_536

    async with gateway(members=[TestMember(talk=talk)]) as world:
        browser = await world.connect()
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await browser.receive()
        before = -1
        while sent != before:  # until the kernel's buffers are full, and nothing else is
            assert sent < 64 << 20
            before = sent
            await trio.sleep(0.4)
        for _ in range(200):
            await browser.receive()
        assert sent > before
        await browser.close()


async def test_what_is_compressed_passes_unopened() -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    member = TestMember(answer=bomb)
    async with gateway(members=[member]) as world:
        head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\n"
        head += f"content-length: {len(bomb)}\r\n\r\n"
        answer = await world.ask(head.encode() + bomb, "POST")
        assert answer.body == bomb
        assert member.seen[0].body == bomb


# -- which member ----------------------------------------------------------------------------------


async def test_a_cookie_keeps_a_browser_with_its_member() -> None:
    members = [TestMember(name=f"m{n}") for n in range(4)]
    route = Route(name="site", group="web", sticky="cookie", path="/")
    async with gateway(members=members, routes=[route]) as world:
        first = await world.get()
        cookie = (first.header("set-cookie") or "").partition(";")[0]
        mine = first.header("x-member")
        for _ in range(10):
            answer = await world.get("/", f"cookie: other=1; {cookie}\r\n")
            assert answer.header("x-member") == mine
            assert answer.header("set-cookie") is None
        others = {(await world.get()).header("x-member") for _ in range(40)}
        assert len(others) == 4


async def test_weights_are_kept_exactly_and_who_leaves_gets_nothing_new() -> None:
    members = [TestMember(name="old", weight=90), TestMember(name="new", weight=10)]
    async with gateway(members=members, routes=[SITE]) as world:
        names = [(await world.get()).header("x-member") for _ in range(100)]
        assert names.count("new") == 10
        replace(world, [members[1].row()])
        assert {(await world.get()).header("x-member") for _ in range(10)} == {"new"}


async def test_a_prefix_is_stripped_and_headers_are_added() -> None:
    route = Route(
        name="api", group="web", path="/api", strip_prefix=True, headers={"X-Frame-Options": "DENY"}
    )
    member = TestMember()
    async with gateway(members=[member], routes=[route]) as world:
        answer = await world.get("/api/v1?x=1")
        assert answer.header("x-frame-options") == "DENY"
        assert str(member.seen[0]) == "GET /v1?x=1"
        await world.get("/%61pi")
        assert str(member.seen[1]) == "GET /"
        assert (await world.get("/apix")).status == 404


def replace(world: World, rows: list[MemberRow]) -> None:
    assert isinstance(world.backends, StaticBackends)
    file = EdgeFile(gateway=world.edge.config, route=[SITE], member=rows)
    world.backends.replace(file, trio.current_time())


async def _free_port() -> int:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listeners[0].socket.getsockname()[1]
    for listener in listeners:
        await listener.aclose()
    return port
