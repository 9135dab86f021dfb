"""WebSockets through the gateway: relayed to members, as messages to operations, and abused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest
import trio
import trio.lowlevel
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)

from paas.gateway.backends import Member, OperationFailed
from paas.gateway.messages import HttpAnswer, HttpRequest, HttpSend, Route
from paas.gateway.router import Router
from paas.gateway.websocket import handshake
from paas.gateway.websocket.frames import frame
from paas.testing.edge_world import Browser, TestMember, World, gateway, until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "GET /live HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n"
    f"sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n"
)
ROUTE = Route(name="live", group="web", websocket=True, drain_s=5.0, drain_notice="moving")


async def echo(member: TestMember, stream: trio.SocketStream) -> None:
    """A member whose WebSockets say everything back."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += await stream.receive_some(65_536)
    answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    answer += f"sec-websocket-accept: {handshake.accept(KEY)}\r\n\r\n"
    await stream.send_all(answer.encode())
    socket = Connection(ConnectionType.SERVER)
    while data := await stream.receive_some(65_536):
        socket.receive_data(data)
        for event in socket.events():
            if isinstance(event, TextMessage | BytesMessage):
                await stream.send_all(socket.send(event))
            elif isinstance(event, CloseConnection):
                member.faults.append(f"closed {int(event.code)}")
                await stream.send_all(socket.send(event.response()))
                return
            elif isinstance(event, Ping):
                await stream.send_all(socket.send(event.response()))
    member.faults.append("cut off")


class Socket:
    """The browser's end of one WebSocket."""

    def __init__(self, browser: Browser, rest: bytes) -> None:
        self.browser = browser
        self._ws = Connection(ConnectionType.CLIENT)
        self._ws.receive_data(rest) if rest else None
        self._events: list[Event] = list(self._ws.events()) if rest else []

    async def say(self, event: Event) -> None:
        await self.browser.send(self._ws.send(event))

    async def hear(self) -> Event:
        """The next event that is not part of a message under way."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, Ping):
                    await self.say(event.response())
                return event
            data = await self.browser.receive()
            if not data:
                return CloseConnection(code=1006)
            self._ws.receive_data(data)
            self._events += list(self._ws.events())

    async def whole_or_end(self) -> str | bytes | CloseConnection:
        """The next message, or the end."""
        pieces: list[Any] = []
        while True:
            event = await self.hear()
            if isinstance(event, CloseConnection):
                return event
            assert isinstance(event, TextMessage | BytesMessage), event
            pieces.append(event.data)
            if event.message_finished:
                whole: str | bytes = type(pieces[0])().join(pieces)
                return whole

    async def whole(self) -> str | bytes:
        """The next message."""
        heard = await self.whole_or_end()
        assert not isinstance(heard, CloseConnection), heard
        return heard


async def open_socket(world: World, more: str = "") -> Socket:
    browser = await world.connect()
    await browser.send(f"{UPGRADE}{more}\r\n")
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = await browser.receive()
        assert piece, raw
        raw += piece
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), raw
    assert handshake.accept(KEY).encode() in head
    return Socket(browser, rest)


async def test_messages_pass_in_both_directions() -> None:
    async with gateway(routes=[ROUTE], members=[TestMember(talk=echo)]) as world:
        socket = await open_socket(world)
        for message in ("hello", "x" * 200_000, b"\0" * 70_000, ""):
            event = TextMessage if isinstance(message, str) else BytesMessage
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.say, event(data=message))  # type: ignore[arg-type]
                assert await socket.whole() == message
        await socket.say(Ping(payload=b"are you there"))
        assert isinstance(await socket.hear(), Pong)
        await socket.say(CloseConnection(code=1000, reason="done"))
        closed = await socket.hear()
        assert isinstance(closed, CloseConnection)
        assert (int(closed.code), closed.reason) == (1000, "done")
        assert world.members[0].faults == ["closed 1000"]


async def test_a_route_that_takes_no_sockets_and_bad_handshakes_are_refused() -> None:
    plain = Route(name="site", group="web", host="plain")
    routes = [plain, Route(name="live", group="web", host="x", websocket=True)]
    async with gateway(routes=routes, members=[TestMember(talk=echo)]) as world:
        for request, status in (
            (UPGRADE.replace("host: x", "host: plain"), 400),
            (UPGRADE.replace("version: 13", "version: 8"), 426),
            (UPGRADE.replace(KEY, "short"), 400),
            (UPGRADE.replace("GET", "POST"), 400),
            (UPGRADE + f"sec-websocket-key: {KEY}\r\n", 400),
            (UPGRADE + "content-length: 3\r\n", 400),
        ):
            assert (await world.ask(f"{request}\r\n")).status == status
        assert world.members[0].connections == 0


async def test_a_member_may_refuse_a_socket() -> None:
    member = TestMember(name="m")
    async with gateway(routes=[ROUTE], members=[member]) as world:
        answer = await world.ask(f"{UPGRADE}\r\n")
        assert (answer.status, answer.body) == (200, b"m GET /live")
        assert member.seen[0].header("sec-websocket-key") == KEY


M = b"\1\2\3\4"
BAD_FRAMES: list[tuple[str, bytes, int]] = [
    ("not masked", frame(1, b"hello"), 1002),
    ("reserved opcode", frame(3, b"x", M), 1002),
    ("reserved control opcode", frame(0xB, b"x", M), 1002),
    ("reserved bit", b"\xc1\x81" + M + b"x", 1002),
    ("second reserved bit", b"\xa1\x81" + M + b"x", 1002),
    ("control in fragments", b"\x09\x81" + M + b"x", 1002),
    ("long control", b"\x89\xfe\x00\x7e" + M + b"x" * 126, 1002),
    ("continuation of nothing", b"\x80\x81" + M + b"x", 1002),
    ("message within a message", b"\x01\x81" + M + b"x" + b"\x81\x81" + M + b"x", 1002),
    ("length of the wrong size", b"\x81\xfe\x00\x05" + M + b"xxxxx", 1002),
    ("long length of the wrong size", b"\x81\xff" + b"\0" * 7 + b"\x05" + M + b"xxxxx", 1002),
    ("negative length", b"\x82\xff\xff" + b"\xff" * 7 + M, 1002),
    ("huge frame", b"\x82\xff\x00\x00\x00\x7f" + b"\0" * 4 + M, 1009),
    ("half a close code", b"\x88\x81" + M + b"x", 1002),
    ("after the end", frame(8, b"\x03\xe8", M) + frame(1, b"x", M), 1002),
    ("no frames at all", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 1002),
]


@pytest.mark.parametrize(("name", "sent", "code"), BAD_FRAMES, ids=[row[0] for row in BAD_FRAMES])
@pytest.mark.parametrize("kind", ["endpoint", "operation"])
async def test_what_is_no_frame_ends_the_socket(
    name: str, sent: bytes, code: int, kind: Literal["endpoint", "operation"]
) -> None:
    operations = Operations(ROUTE if kind == "endpoint" else OPERATION)
    member = TestMember(talk=echo)
    limits = {"refused_linger_s": 0.2}
    if kind == "endpoint":
        world_of = gateway(routes=[ROUTE], members=[member], limits=limits)
    else:
        world_of = gateway(backends=operations, limits=limits)
    async with world_of as world:
        socket = await open_socket(world)
        await socket.browser.send(sent)
        event = await socket.hear()
        while isinstance(event, TextMessage):
            event = await socket.hear()
        assert isinstance(event, CloseConnection)
        allowed = {code, 1000, 1005} if name == "after the end" else {code, 1009, 1002}
        assert int(event.code) in allowed
        while await socket.browser.receive():
            pass
        await until(lambda: member.faults if kind == "endpoint" else operations.closed)


async def test_a_member_that_leaves_says_so_and_closes_its_sockets_at_the_end_of_the_drain() -> (
    None
):
    member = TestMember(talk=echo)
    async with gateway(routes=[ROUTE], members=[member]) as world:
        sockets = [await open_socket(world) for _ in range(3)]
        left = world.backends.members(ROUTE)[0]
        left.drain_until = trio.current_time() + 1.0
        left.state = "leaving"
        for socket in sockets:
            assert await socket.whole() == "moving"
            await socket.say(TextMessage(data="still here"))
            assert await socket.whole() == "still here"
        assert left.in_flight == 3
        for socket in sockets:
            closed = await socket.hear()
            assert isinstance(closed, CloseConnection)
            assert int(closed.code) == 1001
            assert trio.current_time() >= left.drain_until
            await socket.say(closed.response())
        await until(lambda: not left.in_flight)
        assert member.faults == ["closed 1001"] * 3


async def test_notices_and_the_end_come_between_messages_of_a_busy_member() -> None:
    async def busy(member: TestMember, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some(65_536)
        answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        answer += f"sec-websocket-accept: {handshake.accept(KEY)}\r\n\r\n"
        await stream.send_all(answer.encode())
        while True:
            await stream.send_all(
                b"\x01\x7e\x20\x00" + b"a" * 8192 + b"\x80\x7e\x20\x00" + b"b" * 8192
            )

    async with gateway(routes=[ROUTE], members=[TestMember(talk=busy)]) as world:
        socket = await open_socket(world)
        left = world.backends.members(ROUTE)[0]
        left.drain_until = trio.current_time() + 1.0
        left.state = "leaving"
        messages = set()
        with trio.fail_after(20):
            while not isinstance(heard := await socket.whole_or_end(), CloseConnection):
                messages.add(heard)
        assert int(heard.code) == 1001
        assert messages == {"a" * 8192 + "b" * 8192, "moving"}


async def test_the_end_comes_in_time_also_when_neither_side_reads() -> None:
    async def deaf(member: TestMember, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some(1)
        answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        answer += f"sec-websocket-accept: {handshake.accept(KEY)}\r\n\r\n"
        await stream.send_all(answer.encode())
        while True:
            await stream.send_all(frame(2, b"x" * 60_000))

    limits = {"closing_s": 0.5}
    async with gateway(routes=[ROUTE], members=[TestMember(talk=deaf)], limits=limits) as world:
        socket = await open_socket(world)
        left = world.backends.members(ROUTE)[0]

        async def push() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await socket.say(BytesMessage(data=b"x" * 60_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            await trio.sleep(0.3)
            left.drain_until = trio.current_time()
            left.state = "leaving"
            await until(lambda: not left.in_flight)
            nursery.cancel_scope.cancel()


async def test_a_socket_that_neither_reads_nor_leaves_is_cut_off() -> None:
    async def busy(member: TestMember, stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        )
        await stream.send_all(answer + f"sec-websocket-accept: {handshake.accept(KEY)}".encode())
        await stream.send_all(b"\r\n\r\n")
        while True:
            await stream.send_all(frame(2, b"x" * 60_000))

    limits = {"write_s": 0.3}
    async with gateway(routes=[ROUTE], members=[TestMember(talk=busy)], limits=limits) as world:
        socket = await open_socket(world)
        left = world.backends.members(ROUTE)[0]
        await until(lambda: not left.in_flight)
        assert world.edge.statistics["late_reader"] == 1
        await socket.browser.close()


async def test_a_member_that_breaks_off_is_told_of_with_a_code() -> None:
    async def dies(member: TestMember, stream: trio.SocketStream) -> None:
        with suppress(trio.Cancelled):
            with trio.move_on_after(0.2):
                await echo(member, stream)

    async with gateway(routes=[ROUTE], members=[TestMember(talk=dies)]) as world:
        socket = await open_socket(world)
        closed = await socket.hear()
        assert isinstance(closed, CloseConnection)
        assert int(closed.code) == 1011


async def test_a_browser_that_breaks_off_is_told_of_with_a_code() -> None:
    member = TestMember(talk=echo)
    async with gateway(routes=[ROUTE], members=[member]) as world:
        socket = await open_socket(world)
        await socket.browser.close()
        await until(lambda: member.faults)
        assert member.faults == ["closed 1001"]


async def test_a_silent_browser_is_asked_and_then_given_up() -> None:
    member = TestMember(talk=echo)
    limits = {"socket_quiet_s": 0.3}
    async with gateway(routes=[ROUTE], members=[member], limits=limits) as world:
        socket = await open_socket(world)
        assert isinstance(await socket.hear(), Ping)  # which it answers
        assert isinstance(await socket.hear(), Ping)
        silent = await open_socket(world)
        assert (await silent.browser.receive())[:1] == b"\x89"
        assert await silent.browser.receive() == b""


# -- operations ------------------------------------------------------------------------------------

OPERATION = Route(name="live", group="web", kind="operation", websocket=True)


class Operations:
    """Backends whose operations are functions of the test."""

    def __init__(
        self,
        route: Route = OPERATION,
        call: Callable[[HttpRequest, bytes], tuple[HttpAnswer, bytes]] | None = None,
    ) -> None:
        self.router = Router([route])
        self.asked: list[tuple[HttpRequest, bytes]] = []
        self.opened: list[HttpRequest] = []
        self.said: list[tuple[str, str, bytes]] = []
        self.closed: list[tuple[str, int]] = []
        self.accept = HttpAnswer(status=101)
        self._call = call or (lambda request, body: (HttpAnswer(), body))

    def members(self, route: Route) -> list[Member]:
        return []

    def begin(self, member: Member) -> None:
        return

    def end(self, member: Member) -> None:
        return

    async def call(
        self, route: Route, request: HttpRequest, body: bytes
    ) -> tuple[HttpAnswer, bytes]:
        self.asked.append((request, body))
        await trio.lowlevel.checkpoint()
        return self._call(request, body)

    async def open(self, route: Route, request: HttpRequest) -> HttpAnswer:
        self.opened.append(request)
        return self.accept

    async def message(self, connection: str, kind: Literal["text", "binary"], data: bytes) -> None:
        self.said.append((connection, kind, data))

    async def close(self, connection: str, code: int, reason: str) -> None:
        self.closed.append((connection, code))


async def test_a_request_becomes_a_call() -> None:
    def call(request: HttpRequest, body: bytes) -> tuple[HttpAnswer, bytes]:
        headers = [
            ("Content-Type", "text/plain"),
            ("content-length", "9999"),
            ("set-cookie", "a=1"),
        ]
        return HttpAnswer(status=201, headers=headers), b"made " + body

    backends = Operations(call=call)
    async with gateway(backends=backends) as world:
        head = "POST /a/b?c=d HTTP/1.1\r\nhost: X:80\r\nx-own: 1\r\ncontent-length: 5\r\n\r\nhello"
        answer = await world.ask(head, "POST")
        assert (answer.status, answer.body) == (201, b"made hello")
        assert answer.header("set-cookie") == "a=1"
        request, body = backends.asked[0]
        assert (request.method, request.path, request.query) == ("POST", "/a/b", "c=d")
        assert (request.host, request.remote, request.scheme) == ("X:80", "127.0.0.1", "http")
        assert request.headers == [("x-own", "1")]
        assert request.request_id == answer.header("x-request-id")
        assert body == b"hello"


@pytest.mark.parametrize(
    "bad",
    [
        HttpAnswer(headers=[("a", "b\r\nset-cookie: evil=1")]),
        HttpAnswer(headers=[("a", "b\nc: d")]),
        HttpAnswer(headers=[("a\r\nb", "c")]),
        HttpAnswer(headers=[("a: b", "c")]),
        HttpAnswer(headers=[("a", "\0")]),
        HttpAnswer(headers=[("", "c")]),
        HttpAnswer(headers=[("a", "€")]),
        HttpAnswer(headers=[("a", "b")] * 500),
        HttpAnswer(status=101),
        HttpAnswer(status=99),
        HttpAnswer(status=1000),
    ],
)
async def test_an_operation_cannot_write_a_second_answer_into_its_own(bad: HttpAnswer) -> None:
    async with gateway(backends=Operations(call=lambda request, body: (bad, b"x"))) as world:
        assert (await world.get()).status == 502


async def test_an_operation_that_fails_is_told_of() -> None:
    def fails(request: HttpRequest, body: bytes) -> tuple[HttpAnswer, bytes]:
        raise OperationFailed(504, "the operation did not answer in time")

    async with gateway(backends=Operations(call=fails)) as world:
        answer = await world.get()
        assert answer.status == 504
        assert b"the operation did not answer in time" in answer.body


async def test_a_stream_goes_on_by_deliveries_and_its_end_is_told() -> None:
    backends = Operations(call=lambda request, body: (HttpAnswer(stream=True), b"first "))
    async with gateway(backends=backends) as world:
        browser = await world.connect()
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"first " in await browser.receive()
        name = backends.asked[0][0].connection
        assert await world.edge.deliver(HttpSend(connection=name, kind="body"), b"second")
        assert b"second" in await browser.receive()
        assert not await world.edge.deliver(HttpSend(connection=name, kind="text"), b"no")
        assert await world.edge.deliver(HttpSend(connection=name, kind="end"), b"")
        assert await browser.receive() == b"0\r\n\r\n"
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await browser.receive()
        await browser.close()
        await until(lambda: backends.closed)
        assert backends.closed == [(backends.asked[1][0].connection, 1006)]
        assert not await world.edge.deliver(HttpSend(connection=name, kind="body"), b"late")


async def test_a_stream_whose_member_is_gone_is_seen_to_break_off() -> None:
    backends = Operations(call=lambda request, body: (HttpAnswer(stream=True), b"first "))
    async with gateway(backends=backends) as world:
        browser = await world.connect()
        await browser.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"first " in await browser.receive()
        name = backends.asked[0][0].connection
        world.edge.cut("another")
        world.edge.cut(name)
        assert await browser.everything() == b"", "without the last chunk"
        await until(lambda: backends.closed)
        assert backends.closed == [(name, 1006)]


async def test_a_socket_of_an_operation() -> None:
    backends = Operations()
    backends.accept = HttpAnswer(status=101, protocol="b")
    async with gateway(backends=backends) as world:
        socket = await open_socket(world, "sec-websocket-protocol: a, b\r\n")
        name = backends.opened[0].connection
        await socket.say(TextMessage(data="hello"))
        await socket.say(BytesMessage(data=b"\0\1"))
        assert await world.edge.deliver(HttpSend(connection=name, kind="text"), "grüß".encode())
        assert await socket.whole() == "grüß"
        assert await world.edge.deliver(HttpSend(connection=name, kind="binary"), b"\2")
        assert await socket.whole() == b"\2"
        assert backends.said == [(name, "text", b"hello"), (name, "binary", b"\0\1")]
        assert await world.edge.deliver(HttpSend(connection=name, kind="close", code=1001), b"")
        closed = await socket.hear()
        assert isinstance(closed, CloseConnection)
        assert int(closed.code) == 1001
        await socket.say(closed.response())
        await until(lambda: backends.closed)
        assert backends.closed == [(name, 1001)]


async def test_a_message_that_is_too_long_ends_the_socket_without_being_kept() -> None:
    async with gateway(backends=Operations(), limits={"message_bytes_max": 10_000}) as world:
        socket = await open_socket(world)
        with suppress(trio.BrokenResourceError):
            for _ in range(20):
                await socket.say(TextMessage(data="x" * 1000, message_finished=False))
        closed = await socket.hear()
        assert isinstance(closed, CloseConnection)
        assert int(closed.code) == 1009


async def test_a_browser_that_does_not_read_is_cut_off_from_who_does_not_wait() -> None:
    backends = Operations()
    async with gateway(backends=backends) as world:
        await open_socket(world)
        name = backends.opened[0].connection
        send = HttpSend(connection=name, kind="binary")
        results: list[bool] = []

        async def push() -> None:
            results.append(await world.edge.deliver(send, b"x" * 500_000, wait=False))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(push)
                    await trio.lowlevel.checkpoint()
        assert False in results
        assert [code for _, code in backends.closed] == [1006]


async def test_the_end_of_the_gateway_is_told_to_sockets() -> None:
    backends = Operations()
    async with gateway(backends=backends) as world:
        socket = await open_socket(world)
        world.edge.finish()
        closed = await socket.hear()
        assert isinstance(closed, CloseConnection)
        assert int(closed.code) == 1001
        await socket.say(closed.response())
        with trio.fail_after(5):
            await world.edge.wait_ended()
