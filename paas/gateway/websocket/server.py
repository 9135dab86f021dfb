"""What stays open towards a browser after an operation was called: streams and WebSockets.

    browser ─ message ─> OperationSocket ─> backends.message (a cast to the member)
    browser <─ frames ── OperationSocket <─ edge.deliver (gateway.send, from any component)
    browser <─ pieces ── OperationStream <─ edge.deliver

A delivery waits until the browser has taken what came before it: that is the back-pressure.  One
that does not wait (a cast) may queue up to a limit, then the connection is cut off.

Messages of browsers are put together by wsproto, without extensions: nothing is inflated.

Source: RFC 6455; docs/internals/world/gateway.md.
"""

from __future__ import annotations

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Ping,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from paas.gateway.backends import Backends
from paas.gateway.http.exchange import NEVER, Exchange
from paas.gateway.http.head import UNKNOWN, Headers
from paas.gateway.http.limits import LINGER_BYTES, PIECE_BYTES, EdgeLimits
from paas.gateway.messages import HttpSend
from paas.gateway.transport import ENDS, Wire
from paas.gateway.websocket.frames import PROTOCOL_ERROR, TOO_BIG, FrameRefused, FrameWatch

WAITING_BYTES_MAX = 1 << 20
"""Of deliveries that do not wait, for one browser."""

ABNORMAL = 1006


class Open:
    """One connection that is open, by its name."""

    def __init__(self, limits: EdgeLimits) -> None:
        self._limits = limits
        self._saying = trio.Lock()
        self._waiting = 0
        self._scope = trio.CancelScope()
        self.ready = trio.Event()
        """The answer's head was said."""
        self.over = False

    async def deliver(self, send: HttpSend, data: bytes, wait: bool) -> bool:
        """Say it to the browser; False when that is gone, or too slow for who does not wait."""
        await self.ready.wait()
        if not wait and self._waiting + len(data) > WAITING_BYTES_MAX:
            self._scope.cancel()
            return False
        self._waiting += len(data)
        try:
            async with self._saying:
                if self.over:
                    return False
                return await self._say(send, data)
        except (*ENDS, LocalProtocolError):
            self.give_up()
            return False
        finally:
            self._waiting -= len(data)

    def give_up(self) -> None:
        """It is over: whoever waits for it is told."""
        self.over = True
        self.ready.set()
        self._scope.cancel()

    async def _say(self, send: HttpSend, data: bytes) -> bool:
        raise AssertionError


class OperationStream(Open):
    """An answer that goes on (`stream`)."""

    def __init__(self, exchange: Exchange, limits: EdgeLimits) -> None:
        super().__init__(limits)
        self._exchange = exchange
        self._complete = trio.Event()

    async def run(self, status: int, headers: Headers, first: bytes) -> bool:
        """Until the member has ended it (True), or the browser went."""
        with self._scope:
            await self._exchange.start(status, headers, UNKNOWN)
            if first:
                await self._exchange.write(first)
            await self._exchange.flush()
            self.ready.set()
            await self._complete.wait()
        if self._complete.is_set():
            self.over = True
            await self._exchange.end()
        return self._complete.is_set()

    async def _say(self, send: HttpSend, data: bytes) -> bool:
        if send.kind == "body":
            if data and self._exchange.head.method != "HEAD":
                await self._exchange.write(data)
                await self._exchange.flush()
            return True
        self._complete.set()
        return True


class OperationSocket(Open):
    """A WebSocket whose messages go to an operation."""

    def __init__(
        self, name: str, exchange: Exchange, backends: Backends, limits: EdgeLimits
    ) -> None:
        super().__init__(limits)
        self.name = name
        self.code = ABNORMAL
        self.reason = ""
        self._exchange = exchange
        self._backends = backends
        self._frames = Connection(ConnectionType.SERVER)
        self._watch = FrameWatch(masked=True, compressed=False, bytes_max=limits.message_bytes_max)
        """The same rules as for sockets that are relayed, before anything is kept."""
        self._wire: Wire | None = None
        self._closing = False

    async def run(self, wire: Wire) -> None:
        """Until it is closed; `code` and `reason` say how."""
        self._wire = wire
        self.ready.set()
        with self._scope:
            try:
                await self._messages(wire)
            except FrameRefused as exc:
                self._exchange.outcome = f"websocket: {exc.detail}"
                await self._close(exc.code, exc.detail)
                await self._listen_on(wire)
            except RemoteProtocolError as exc:
                self._exchange.outcome = f"websocket: {exc}"
                hint = exc.event_hint
                code = hint.code if isinstance(hint, CloseConnection) else PROTOCOL_ERROR
                await self._close(int(code), "refused")
                await self._listen_on(wire)
            except LocalProtocolError:
                pass  # a frame to somebody who closed meanwhile
        self.over = True

    async def _messages(self, wire: Wire) -> None:
        pieces: list[str | bytes] = []
        size = 0
        while data := await self._receive(wire):
            self._exchange.received += len(data)
            self._watch.feed(data)
            self._frames.receive_data(data)
            for event in self._frames.events():
                if isinstance(event, TextMessage | BytesMessage):
                    size += len(event.data)
                    if size > self._limits.message_bytes_max:
                        await self._close(TOO_BIG, "the message is too long")
                        return await self._listen_on(wire)
                    data_of = event.data
                    pieces.append(data_of if isinstance(data_of, str) else bytes(data_of))
                    if event.message_finished:
                        await self._message(pieces)
                        pieces, size = [], 0
                elif isinstance(event, Ping):
                    await self._send(self._frames.send(event.response()))
                elif isinstance(event, CloseConnection):
                    if not self._closing:
                        self.code, self.reason = int(event.code), event.reason or ""
                        await self._send(self._frames.send(event.response()))
                    await wire.end()
                    return None
        return None

    async def _message(self, pieces: list[str | bytes]) -> None:
        if self._closing:
            return
        if isinstance(pieces[0], str):
            text = "".join(piece for piece in pieces if isinstance(piece, str))
            await self._backends.message(self.name, "text", text.encode())
        else:
            data = b"".join(piece for piece in pieces if isinstance(piece, bytes))
            await self._backends.message(self.name, "binary", data)

    async def _receive(self, wire: Wire) -> bytes:
        """Some bytes; nothing at the end, or when a ping is not answered."""
        if wire.pending:
            data, wire.pending = wire.pending, b""
            return data
        quiet_s = self._limits.closing_s if self._closing else self._limits.socket_quiet_s
        with trio.move_on_after(quiet_s):
            return await wire.receive()
        if not self._closing:
            await self._send(self._frames.send(Ping(payload=b"gateway")))
            with trio.move_on_after(quiet_s):
                return await wire.receive()
        return b""

    async def _send(self, data: bytes) -> None:
        async with self._saying:
            await self._put(data)

    async def _put(self, data: bytes) -> None:
        assert self._wire is not None
        self._exchange.sent += len(data)
        for at in range(0, len(data), PIECE_BYTES):
            self._exchange.by_reader = trio.current_time() + self._limits.write_s
            await self._wire.send(data[at : at + PIECE_BYTES])
            self._exchange.by_reader = NEVER

    async def _say(self, send: HttpSend, data: bytes) -> bool:
        if self._closing:
            return False
        if send.kind == "close":
            self._closing = True
            self.code, self.reason = send.code, send.reason
            event = CloseConnection(code=send.code, reason=send.reason[:100] or None)
            await self._put(self._frames.send(event))
        elif send.kind == "text":
            await self._put(self._frames.send(TextMessage(data=data.decode(errors="replace"))))
        else:
            await self._put(self._frames.send(BytesMessage(data=data)))
        return True

    async def _close(self, code: int, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        self.code, self.reason = code, reason
        await self._send(self._frames.send(CloseConnection(code=code, reason=reason)))

    async def _listen_on(self, wire: Wire) -> None:
        """Throw away what a refused browser still sends, or it would not hear why."""
        await wire.end()
        taken = 0
        with trio.move_on_after(self._limits.refused_linger_s):
            while taken < LINGER_BYTES and (data := await wire.receive()):
                taken += len(data)
