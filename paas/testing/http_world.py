"""A server over streams in memory, and the far end of them, for the tests of HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio
import trio.testing
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Pong, TextMessage

from paas.base.errors import PlatformError
from paas.rpc.envelope import Request
from paas.rpc.http_limits import HttpLimits
from paas.rpc.http_rpc import Admitted, RpcOverHttp, unauthorised
from paas.rpc.http_server import HttpServer
from paas.rpc.peer import Peer, Sweeper
from paas.wire import codec

TOKEN = "right"
HEAD = "host: x\r\nauthorization: Bearer right\r\n"
UPGRADE = (
    f"GET /rpc HTTP/1.1\r\n{HEAD}upgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@dataclass
class Answer:
    """An HTTP answer as it arrived."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def post(text: str | bytes, more: str = "", path: str = "/rpc") -> bytes:
    body = text if isinstance(text, bytes) else text.encode()
    head = f"POST {path} HTTP/1.1\r\n{HEAD}content-type: application/json\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def ask(method: str, identity: Any = 1, **params: Any) -> str:
    value = {"jsonrpc": "2.0", "method": method, "params": params, "id": identity}
    return msgspec.json.encode(value).decode()


class Caller:
    """The far end of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes | str) -> None:
        await self.stream.send_all(data.encode("latin-1") if isinstance(data, str) else data)

    async def more(self) -> bool:
        try:
            data = bytes(await self.stream.receive_some(65_536))
        except trio.BrokenResourceError:
            data = b""
        self.buffer += data
        return bool(data)

    async def answer(self) -> Answer:
        """The next answer; raises EOFError when there is none."""
        while b"\r\n\r\n" not in self.buffer:
            if not await self.more():
                raise EOFError(self.buffer[:200])
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        size = int(headers.get("content-length", 0))
        while len(self.buffer) < size:
            if not await self.more():
                raise EOFError("in the middle of a body")
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Answer(int(first.split()[1]), headers, body)

    async def ask(self, data: bytes | str) -> Answer:
        await self.send(data)
        return await self.answer()

    async def ended(self) -> bool:
        """Does the server end the connection without another word?"""
        return not self.buffer and not await self.more()


class Talker:
    """The far end of a WebSocket."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.protocol = Connection(ConnectionType.CLIENT, trailing_data=caller.buffer)
        self.arrived: list[Event] = []
        self.pongs = 0

    async def say(self, *events: Event) -> None:
        await self.caller.send(b"".join(self.protocol.send(event) for event in events))

    async def event(self) -> Event:
        """What comes next; raises EOFError at the end."""
        while not self.arrived:
            self.caller.buffer = b""
            if not await self.caller.more():
                raise EOFError
            self.protocol.receive_data(self.caller.buffer)
            self.arrived.extend(self.protocol.events())
        return self.arrived.pop(0)

    async def ask(self, text: str) -> Any:
        """A text message, and the value of the next one that comes."""
        await self.say(TextMessage(data=text))
        return await self.value()

    async def ask_after_pongs(self, text: str) -> Any:
        """The same, counting the pongs that come before."""
        await self.say(TextMessage(data=text))
        while isinstance(event := await self.event(), Pong):
            self.pongs += 1
        self.arrived.insert(0, event)
        return await self.value()

    async def value(self) -> Any:
        text = ""
        while True:
            event = await self.event()
            assert isinstance(event, TextMessage), event
            text += event.data
            if event.message_finished:
                return json.loads(text)

    async def code(self) -> int:
        """The close code, after whatever comes before it."""
        while not isinstance(event := await self.event(), CloseConnection):
            pass
        return int(event.code)


class World:
    """A server with a few methods."""

    def __init__(self, nursery: trio.Nursery, limits: HttpLimits) -> None:
        self.nursery = nursery
        self.sweeper = Sweeper()
        self.told: list[str] = []
        self.waiting: dict[int, tuple[Peer, Request]] = {}
        self.peers: list[Peer] = []
        self.closed: list[Peer] = []
        self.until_s = float("inf")
        self.rpc = RpcOverHttp(
            self.on_request,
            self.sweeper,
            self.admit,
            lambda: {"openrpc": "1.3.2"},
            on_open=self.peers.append,
            on_close=self.closed.append,
        )
        self.server = HttpServer(self.rpc, limits)

    def admit(self, info: dict[str, Any], token: str | None) -> Admitted:
        if token != TOKEN:
            raise unauthorised("who are you?")
        return Admitted({"roles": frozenset({"operator"})}, self.until_s)

    def on_request(self, peer: Peer, request: Request) -> None:
        params = codec.unpack_own(request.params)
        if request.notification:
            self.told.append(request.method)
        if request.method == "echo":
            peer.reply(request, codec.pack(params.get("value")))
        elif request.method == "subtract":
            try:
                peer.reply(request, codec.pack(params["minuend"] - params["subtrahend"]))
            except (KeyError, TypeError):
                peer.fail(request, PlatformError("invalid", "expected numbers", param="minuend"))
        elif request.method == "wait":
            self.waiting[len(self.waiting)] = (peer, request)
        elif request.method == "tell":
            peer.notify_raw("component.event", codec.pack({"n": 1}))
            peer.reply(request, codec.pack({}))
        elif request.method in ("update", "notify_sum", "notify_hello", "get_data"):
            peer.reply(request, codec.pack(["hello", 5]))
        else:
            peer.fail(request, PlatformError("no-such-method"))

    def connect(self) -> Caller:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.server.serve_stream, ours, {})
        return Caller(theirs)

    async def talk(self) -> Talker:
        """The far end of a WebSocket that speaks the protocol well."""
        return Talker(await self.websocket())

    async def websocket(self, more: str = "sec-websocket-protocol: jsonrpc\r\n") -> Caller:
        caller = self.connect()
        answer = await caller.ask(f"{UPGRADE}{more}\r\n")
        assert answer.status == 101, answer
        return caller


@asynccontextmanager
async def http_world(**limits: Any) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery, HttpLimits(**limits))
        nursery.start_soon(world.sweeper.run)
        yield world
        nursery.cancel_scope.cancel()
