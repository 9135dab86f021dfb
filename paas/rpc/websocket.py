"""WebSockets: the server's side of RFC 6455 on a stream that an HTTP request asked to upgrade.

    text message  = one JSON value = one line for the connection core above
    line written  = one text message

`WebSocketLink` is a Link (rpc.link), so a Peer works over it as over any socket: writing never
waits, and who does not read is cut off.  Whole messages only go up.  A message is bounded in size,
in frames and in time; all unfinished ones share the server's budget.  Of several pings that came
together the last is answered (RFC 6455 §5.5.3), so a flood costs its sender more than us.  A peer
that is silent is asked, then given up.  What breaks the protocol is answered with the close code
that the RFC names, and nothing after it is looked at:

    1002 grammar, unmasked    1003 binary    1007 not UTF-8    1008 too slow    1009 too large

No extensions are spoken, so no compressed message can grow when it is read.
Source: RFC 6455; wsproto for the grammar.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, generate_accept_token

from paas.base.limits import FRAME_BYTES_MAX
from paas.rpc.http_answers import ByteBudget, Headers, HttpProblem
from paas.rpc.http_limits import (
    CLOSE_S,
    FRAGMENTS_MAX,
    MESSAGE_S,
    PIECE_BYTES,
    PING_S,
    SILENCE_S,
)
from paas.rpc.http_server import Exchange
from paas.rpc.link import _Gathering

VERSION = "13"
_KEY_BYTES = 16


def asks(exchange: Exchange) -> bool:
    """Does this request want a WebSocket?"""
    return "websocket" in exchange.words("upgrade") and "upgrade" in exchange.words("connection")


def accepted(exchange: Exchange, protocols: Sequence[str]) -> Headers:
    """The headers that accept the handshake; raises HttpProblem 400, 405 or 426 (RFC 6455 §4.2)."""
    if exchange.method != "GET":
        raise HttpProblem(405, "a WebSocket begins with GET", [("allow", "GET")])
    if exchange.header("sec-websocket-version") != VERSION:
        headers = [("sec-websocket-version", VERSION)]
        raise HttpProblem(426, "only version 13 of WebSocket is spoken", headers)
    key = exchange.header("sec-websocket-key") or ""
    try:
        sound = len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        sound = False
    if not sound:
        raise HttpProblem(400, "Sec-WebSocket-Key: expected 16 bytes in base64")
    headers = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-accept", generate_accept_token(key.encode()).decode()),
    ]
    offered = exchange.words("sec-websocket-protocol")
    chosen = next((name for name in protocols if name in offered), None)
    return headers if chosen is None else [*headers, ("sec-websocket-protocol", chosen)]


class WebSocketLink(_Gathering):
    """A link of text messages on an upgraded stream.  `run` beside it writes and keeps it alive."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        trailing: bytes = b"",
        budget: ByteBudget | None = None,
        message_bytes_max: int = FRAME_BYTES_MAX,
        ping_s: float = PING_S,
        silence_s: float = SILENCE_S,
        message_s: float = MESSAGE_S,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._trailing = trailing
        self._protocol = Connection(ConnectionType.SERVER)
        self._budget = budget or ByteBudget(2 * message_bytes_max)
        self._message_bytes_max = message_bytes_max
        self._ping_s, self._silence_s, self._message_s = ping_s, silence_s, message_s
        self._wake = trio.Event()
        self._writing = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._pieces: list[str] = []
        self._held = 0
        self._frames = 0
        self._begun_s = 0.0
        self._heard_s = trio.current_time()

    # -- reading ---------------------------------------------------------------------------------

    async def read(self) -> bytes:
        """The next messages, a line each; empty at the end."""
        while not self._closed:
            data = await self._receive()
            if self.closed:
                break
            if not data:
                self.abandon()
                break
            self._heard_s = trio.current_time()
            lines = self._digest(data)
            if lines:
                return b"".join(lines)
        return b""

    async def _receive(self) -> bytes:
        if self._trailing:
            data, self._trailing = self._trailing, b""
            await trio.lowlevel.checkpoint()
            return data
        with trio.CancelScope() as self._reading:
            return bytes(await self._stream.receive_some(PIECE_BYTES))
        return b""

    def _digest(self, data: bytes) -> list[bytes]:
        lines: list[bytes] = []
        ping: Ping | None = None
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            if isinstance(event, TextMessage):
                line = self._text(event)
                if line is not None:
                    lines.append(line)
            elif isinstance(event, BytesMessage):
                self.end(CloseReason.UNSUPPORTED_DATA, "messages are text")
            elif isinstance(event, Ping):
                ping = event
            elif isinstance(event, CloseConnection):
                self.end(_answer_to(event.code), "")
            if self._closed:
                return lines
        if ping is not None:
            self._queue(self._protocol.send(ping.response()))
        return lines

    def _text(self, event: TextMessage) -> bytes | None:
        """The line of a message that is whole now."""
        if not self._pieces:
            self._begun_s = trio.current_time()
        size = len(event.data.encode())
        self._frames += event.frame_finished
        if self._held + size > self._message_bytes_max or self._frames > FRAGMENTS_MAX:
            text = f"a message has at most {self._message_bytes_max} bytes"
            self.end(CloseReason.MESSAGE_TOO_BIG, text)
            return None
        try:
            self._budget.take(size)
        except HttpProblem as exc:
            self.end(CloseReason.TRY_AGAIN_LATER, exc.detail)
            return None
        self._held += size
        self._pieces.append(event.data)
        if not event.message_finished:
            return None
        text = "".join(self._pieces)
        self._forget_message()
        return as_line(text.encode())

    def _forget_message(self) -> None:
        self._budget.give_back(self._held)
        self._held = self._frames = 0
        self._pieces.clear()

    # -- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Lines, each of which becomes a message."""
        if self._closed:
            return
        for line in data.split(b"\n"):
            if line and not self._closed:
                self._queue(self._protocol.send(TextMessage(data=line.decode())))

    def _queue(self, frame: bytes) -> None:
        super().write(frame)

    def flush(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Write what is queued, ask the silent, end what takes too long; returns at the end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            try:
                with self._writing:
                    while not self._closed or self._outbox:
                        if not self._outbox:
                            await self._wake.wait()
                            self._wake = trio.Event()
                        while self._outbox:
                            await self._stream.send_all(self._take())
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                pass
            finally:
                self.abandon()
                nursery.cancel_scope.cancel()

    async def _keep_time(self) -> None:
        asked_s = trio.current_time()
        while not self._closed:
            await trio.sleep(min(self._ping_s, self._message_s) / 4)
            now = trio.current_time()
            if self._pieces and now - self._begun_s > self._message_s:
                self.end(CloseReason.POLICY_VIOLATION, "a message took too long")
            elif now - self._heard_s > self._silence_s:
                self.end(CloseReason.GOING_AWAY, "silence")
            elif now - max(self._heard_s, asked_s) > self._ping_s and not self._closed:
                asked_s = now
                self._queue(self._protocol.send(Ping()))

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        self.end(CloseReason.NORMAL_CLOSURE, "")

    def end(self, code: int, reason: str) -> None:
        """Say why, and that it is over; what is queued may still leave, in bounded time."""
        if self._closed:
            return
        if self.overflowed:
            self._drop_outbox()
            code, reason = CloseReason.POLICY_VIOLATION, "the receiver is too slow"
        try:
            frame = self._protocol.send(CloseConnection(code=code, reason=reason or None))
        except LocalProtocolError:  # the close frames have been exchanged already
            frame = b""
        if frame:
            self._outbox.append(frame)
            self._outbox_bytes += len(frame)
        self._closed = True
        self._forget_message()
        self._writing.deadline = trio.current_time() + CLOSE_S
        self._reading.cancel()
        self._wake.set()

    def abandon(self) -> None:
        """The stream is of no use any more."""
        self._closed = True
        self._forget_message()
        self._drop_outbox()
        self._writing.cancel()
        self._reading.cancel()
        self._wake.set()


def as_line(text: bytes) -> bytes:
    """One JSON text as one line.

    A line feed may stand between tokens, where a carriage return means the same; inside a string
    neither may stand, so what was wrong stays wrong.  Nothing is no JSON text either.
    """
    return (text.replace(b"\n", b"\r") if text.strip() else b"?") + b"\n"


def _answer_to(code: int) -> int:
    """The close code that answers one (RFC 6455 §7.1.5, §7.4.1: some codes are never sent)."""
    sendable = code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000
    return code if sendable else CloseReason.NORMAL_CLOSURE
