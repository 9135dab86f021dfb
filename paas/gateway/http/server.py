"""HTTP/1.1 with one browser: requests one after the other, each as an Exchange.

    wire ─ head (fast or strict) ─> judge ─> H1Exchange ─> serve ─> answer ─┐
      ^                                                                     │
      └───────────────── the next one, if the connection goes on ───────────┘

Pipelined requests wait in `pending` and the kernel: one piece is read ahead at most.  A refusal of
a head is a problem document and the end of the connection, since what follows may be the rest of
what was refused.  A refused sender is listened to for a moment, or the reset of its unread bytes
would overtake the answer.

Source: RFC 9112; RFC 9110 §10.1.1 (100-continue).
"""

from __future__ import annotations

import trio

from paas.gateway.http import fast, strict
from paas.gateway.http.chunked import LAST, Chunks, chunk
from paas.gateway.http.connection import Abandoned, Connection, late_answer
from paas.gateway.http.exchange import NEVER, Exchange
from paas.gateway.http.head import UNKNOWN, Headers, Refused, RequestHead, judge, unread
from paas.gateway.http.limits import LINGER_BYTES, PIECE_BYTES
from paas.gateway.http.problem import Problem, phrase
from paas.gateway.transport import ENDS, Wire

_STATUS_LINES: dict[int, str] = {}


def status_line(status: int) -> str:
    line = _STATUS_LINES.get(status)
    if line is None:
        line = _STATUS_LINES[status] = f"HTTP/1.1 {status} {phrase(status)}\r\n"
    return line


class H1Exchange(Exchange):
    """One request on an HTTP/1.1 connection."""

    __slots__ = ("_chunked", "_chunks", "_connection", "_continued", "_held", "_waited", "close")

    def __init__(self, connection: H1Connection, head: RequestHead, request_id: str) -> None:
        wire = connection.wire
        super().__init__(
            head, connection.limits, connection.peer, "https" if wire.secure else "http", request_id
        )
        self._connection = connection
        self.names = wire.names
        self._chunks = Chunks() if head.length == UNKNOWN else None
        self._continued = not head.expects_continue
        self._waited = 0.0
        self._held = b""
        self._chunked = False
        self.close = self._last

    @property
    def _last(self) -> bool:
        """Does nothing follow?  After a WebSocket neither, also one that is refused: who asked for
        it without looking at the answer would wait on the connection, and hear nothing."""
        return not self.head.keep_alive or bool(self.head.upgrade)

    def cut(self, reason: str) -> None:
        self._connection.cut(reason)

    async def body(self) -> bytes:
        wire = self._connection.wire
        while not self.body_done:
            data, wire.pending = wire.pending, b""
            if not data:
                data = await self._more()
            if self._chunks is not None:
                try:
                    data = b"".join(self._chunks.feed(data))
                except Refused as exc:
                    self.close = True
                    raise Problem(exc.status, exc.detail) from None
                if self._chunks.done:
                    self.body_done, wire.pending = True, self._chunks.rest
            else:
                left = self.head.length - self.received
                if len(data) >= left:
                    self.body_done = True
                    data, wire.pending = data[:left], data[left:]
            self.count_body(len(data))
            if data:
                return data
        return b""

    async def _more(self) -> bytes:
        wire = self._connection.wire
        if not self._continued:
            self._continued = True
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        since = trio.current_time()
        allowed_s = self.limits.body_s + self.received / self.limits.body_bytes_per_s
        self.by_browser = since + allowed_s - self._waited
        data = await wire.receive()
        self.by_browser = NEVER
        self._waited += trio.current_time() - since
        if not data:
            raise Abandoned("the browser went in the middle of its request")
        return data

    async def start(self, status: int, headers: Headers, length: int) -> None:
        self.started = True
        self.status = status
        lines = [status_line(status)]
        lines += [f"{name}: {value}\r\n" for name, value in headers]
        if length == UNKNOWN:
            if self.head.version == "1.0":
                self.close = True
            elif self.head.method != "HEAD":
                self._chunked = True
                lines.append("transfer-encoding: chunked\r\n")
        elif status >= 200 and status != 204 and (length or status != 304):
            lines.append(f"content-length: {length}\r\n")
        if not self.body_done or self._connection.ending:
            self.close = True
        if self.close:
            lines.append("connection: close\r\n")
        elif self.head.version == "1.0":
            lines.append("connection: keep-alive\r\n")
        lines.append("\r\n")
        self._held = "".join(lines).encode("latin-1")

    def unsay(self) -> bool:
        if not self._held or self.sent:
            return False
        self._held = b""
        self._chunked = self.started = False
        self.close = self._last
        return True

    async def write(self, data: bytes) -> None:
        self.sent += len(data)
        if self._chunked:
            data = chunk(data)
        if self._held:
            data, self._held = self._held + data, b""
        await self._send(data)

    async def _send(self, data: bytes) -> None:
        """Whoever takes it slowly has so long for each piece."""
        wire = self._connection.wire
        sent = wire.send_now(data)
        while sent < len(data):
            self.by_reader = trio.current_time() + self.limits.write_s
            piece = data[sent : sent + PIECE_BYTES]
            await wire.send(piece)
            sent += len(piece)
            self.by_reader = NEVER

    async def flush(self) -> None:
        if self._held:
            data, self._held = self._held, b""
            await self._send(data)

    async def end(self) -> None:
        data = self._held + LAST if self._chunked else self._held
        self._held = b""
        if data:
            await self._send(data)

    async def upgrade(self, headers: Headers) -> Wire:
        self.started = True
        self.status = 101
        self.close = True
        lines = [status_line(101), *(f"{name}: {value}\r\n" for name, value in headers)]
        wire = self._connection.wire
        await wire.send("".join([*lines, "\r\n"]).encode("latin-1"))
        return wire


class H1Connection(Connection):
    """One connection.  Owns the wire."""

    exchange: H1Exchange | None = None
    _served = 0

    def late(self, now: float) -> str:
        return self.exchange.late(now) if self.exchange is not None else super().late(now)

    # -- requests ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until one side has had enough.  Closes the wire."""
        try:
            with self._scope:
                try:
                    await self._requests()
                except Refused as exc:
                    await self._refuse_head(exc.status, exc.detail)
                return
            await self._after_cut()
        except (*ENDS, Abandoned):
            pass
        finally:
            self.wire.close()

    async def _requests(self) -> None:
        while True:
            head = await self._head()
            if head is None:
                return
            exchange = H1Exchange(self, head, self._next_id())
            exchange.began = trio.current_time()
            self.exchange = exchange
            self.by_browser = NEVER
            try:
                try:
                    await self._serve(exchange)
                except Problem as exc:
                    if exchange.started:
                        raise Abandoned(exc.detail) from None
                    await exchange.refuse(exc)
            except trio.Cancelled:
                raise  # after the cut there may be something to say: it is done then
            except BaseException:
                exchange.outcome = exchange.outcome or "cut off"
                self._done(exchange)
                raise
            self.exchange = None
            self._done(exchange)
            self._served += 1
            if exchange.close or not exchange.body_done:
                if exchange.status != 101:
                    await self._linger(exchange.body_done)
                return

    async def _head(self) -> RequestHead | None:
        wire, limits = self.wire, self.limits
        data = wire.pending
        now = trio.current_time()
        if not data:
            if self.ending:
                return None
            self.by_browser = now + (limits.idle_s if self._served else limits.first_s)
            data = await wire.receive()
            if not data:
                return None
        at = data.find(b"\r\n\r\n")
        if at < 0:
            if self._served:
                self.by_browser = now + limits.head_s
            data, at = await self._rest_of_head(data)
            if at < 0:
                return None
        if at > limits.head_bytes_max:
            raise Refused(431, f"a head has at most {limits.head_bytes_max} bytes")
        wire.pending = data[at + 4 :]
        split = fast.split(data[:at].decode("latin-1"))
        version = "1.1"
        if split is not None:
            method, target, headers = split
        else:
            method, target, headers, version = strict.split(data[:at])
        if len(headers) > limits.headers_max:
            raise Refused(431, f"a request has at most {limits.headers_max} headers")
        if len(target) > limits.target_bytes_max:
            raise Refused(414, f"a target has at most {limits.target_bytes_max} bytes")
        return judge(method, target, headers, version, scheme="https" if wire.secure else "http")

    async def _rest_of_head(self, data: bytes) -> tuple[bytes, int]:
        """Until the head is complete; its end is -1 when the browser went before."""
        looked = 0
        while True:
            self.wire.pending = data  # so that it is known, if time runs out, that there was a head
            first = data[:1]
            if not first.isalpha() and first != b"\r":
                raise Refused(400, "this is no HTTP")
            if strict.bare_line_end(data[max(looked - 1, 0) :]):
                raise Refused(400, "a line does not end with a carriage return and a line feed")
            if len(data) > self.limits.head_bytes_max:
                raise Refused(431, f"a head has at most {self.limits.head_bytes_max} bytes")
            looked = max(len(data) - 3, 0)
            more = await self.wire.receive()
            if not more:
                return data, -1
            data += more
            at = data.find(b"\r\n\r\n", looked)
            if at >= 0:
                return data, at

    # -- ends --------------------------------------------------------------------------------------

    async def _refuse_head(self, status: int, detail: str) -> None:
        self.refused += 1
        self.by_browser = NEVER
        exchange = H1Exchange(self, unread("1.1"), self._next_id())
        exchange.began = trio.current_time()
        exchange.outcome = detail
        try:
            await exchange.refuse(Problem(status, detail))
        finally:
            self._done(exchange)
        await self._linger(False)

    async def _linger(self, all_read: bool) -> None:
        """End the connection so that the answer arrives although not everything was read."""
        await self.wire.end()
        if all_read and not self.wire.pending:
            return
        taken = 0
        with trio.move_on_after(self.limits.refused_linger_s):
            while taken < LINGER_BYTES and (data := await self.wire.receive()):
                taken += len(data)

    async def _after_cut(self) -> None:
        """Say why, if something can still be said."""
        exchange, self.exchange = self.exchange, None
        late = late_answer(self.reason)
        with trio.move_on_after(self.limits.refused_linger_s):
            if exchange is None:
                if late is not None and self.wire.pending:
                    await self._refuse_head(late.status, late.detail)
                return
            if late is not None and not exchange.started:
                exchange.close = True
                exchange.outcome = late.detail
                await exchange.refuse(late)
                await self._linger(False)
            else:
                exchange.outcome = exchange.outcome or f"cut off ({self.reason})"
        if exchange is not None:
            self._done(exchange)
