"""An HTTP/1.1 server for our own interfaces: one handler, every bound stated, nothing believed.

    socket ─ open_stream (TLS, or plain) ─> serve_stream ─ h11 ─> Exchange ─> handler ─> Response
                                                 └── upgrade(): the handler owns the stream

A connection carries one request after the other; pipelined ones wait in the kernel, for at most one
piece is read ahead.  While a handler works, the end of the connection is noticed and cancels it.

What decides that a request is refused before the handler sees it: the library's grammar, and here
what allows two readings of where a body ends (Content-Length beside Transfer-Encoding: RFC 9112
§6.1 lets a server refuse it), sizes, counts and times of `http_limits`.  A refusal is a problem
document (RFC 9457) and the end of the connection; the refused sender is listened to for a moment,
or the reset of its unread bytes would overtake the answer.

Bodies of all connections together have one budget.  A handler that refuses by the headers alone
never has the body read.  It knows nothing of JSON-RPC, of TLS or of who may do what.

Source: RFC 9110, RFC 9112, RFC 9457; h11 for the grammar.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import trio

from paas.rpc.http_answers import ByteBudget, Headers, HttpProblem, Response
from paas.rpc.http_limits import LINGER_BYTES, PIECE_BYTES, HttpLimits
from paas.rpc.server import Callers

logger = logging.getLogger(__name__)

OpenStream = Callable[[socket.socket], Awaitable[tuple[trio.abc.Stream, dict[str, Any]]]]
"""Makes a stream of an accepted socket, and says what is known about the peer; raises OSError or
trio.BrokenResourceError when that fails.  It bounds its own time."""

_ENDS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Exchange:
    """One request on its way: what its head says, its body when asked for, the connection."""

    def __init__(self, connection: _HttpConnection, request: h11.Request) -> None:
        self._connection = connection
        self.info = connection.info
        """What is known about the peer; `open_stream` filled it."""
        self.method = request.method.decode("ascii")
        self.target = request.target.decode("latin-1")
        self.path, _, self.query = self.target.partition("?")
        self.headers: Headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers
        ]
        self.has_body = any(n in ("content-length", "transfer-encoding") for n, _ in self.headers)

    def header(self, name: str) -> str | None:
        """The value of a header that may appear once; raises 400 when it appears again."""
        found = [value for known, value in self.headers if known == name]
        if len(found) > 1:
            raise HttpProblem(400, f"the header {name} appears {len(found)} times")
        return found[0] if found else None

    def words(self, name: str) -> list[str]:
        """The lower-case words of a list header, wherever they stand."""
        values = [value for known, value in self.headers if known == name]
        return [word.strip().lower() for v in values for word in v.split(",") if word.strip()]

    async def body(self) -> bytes:
        """The whole body.  Raises HttpProblem: 408, 413, 503, 400."""
        return await self._connection.read_body()

    async def upgrade(self, headers: Headers) -> trio.abc.Stream:
        """Leave HTTP (101).  Then `trailing` are the bytes that came with the request."""
        return await self._connection.upgrade(headers)

    @property
    def trailing(self) -> bytes:
        return self._connection.trailing

    @property
    def server(self) -> HttpServer:
        return self._connection.server


Handler = Callable[[Exchange], Awaitable[Response | None]]
"""Answers one request; None after an upgrade.  An exception that is no HttpProblem is our bug."""


class HttpServer:
    """See the module's text."""

    def __init__(self, handler: Handler, limits: HttpLimits | None = None) -> None:
        self.handler = handler
        self.limits = limits or HttpLimits()
        self.budget = ByteBudget(self.limits.bodies_bytes_max)
        self.draining = False
        self.connections = 0
        self.statistics = {"http_requests": 0, "http_refused": 0, "http_hung_up": 0}
        self._waiting: dict[trio.CancelScope, None] = {}
        self._all_gone = trio.Event()

    async def serve(
        self,
        listener: socket.socket,
        open_stream: OpenStream,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and answer until cancelled or drained; closes the listener."""
        callers = Callers(listener)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                with self.droppable():
                    while not self.draining:
                        for sock in await callers.accept():
                            if self.connections >= self.limits.connections_max or self.draining:
                                self.statistics["http_hung_up"] += 1
                                sock.close()
                                continue
                            self.connections += 1
                            nursery.start_soon(self._one, sock, open_stream)
                callers.close()
        finally:
            callers.close()

    async def drain(self) -> None:
        """Take no more requests, let those under way end, in bounded time."""
        self.draining = True
        for scope in list(self._waiting):
            scope.cancel()
        if self.connections:
            with trio.move_on_after(self.limits.drain_s):
                await self._all_gone.wait()

    @contextmanager
    def droppable(self) -> Iterator[trio.CancelScope]:
        """A wait that ends when the server drains."""
        with trio.CancelScope() as scope:
            if self.draining:
                scope.cancel()
            self._waiting[scope] = None
            try:
                yield scope
            finally:
                self._waiting.pop(scope, None)

    async def _one(self, sock: socket.socket, open_stream: OpenStream) -> None:
        try:
            stream, info = await open_stream(sock)
            await self.serve_stream(stream, info)
        except _ENDS:
            pass
        except Exception:
            logger.exception("a connection failed")
        finally:
            sock.close()
            self.connections -= 1
            if not self.connections:
                self._all_gone.set()
                self._all_gone = trio.Event()

    async def serve_stream(self, stream: trio.abc.Stream, info: dict[str, Any]) -> None:
        """Answer the requests on one stream until it ends; closes it."""
        connection = _HttpConnection(self, stream, info)
        try:
            await connection.run()
        except* _ENDS:
            pass
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


class _HttpConnection:
    """One connection."""

    def __init__(self, server: HttpServer, stream: trio.abc.Stream, info: dict[str, Any]) -> None:
        self.server = server
        self.limits = server.limits
        self.info = info
        self._stream = stream
        self._h11 = h11.Connection(
            h11.SERVER, max_incomplete_event_size=self.limits.header_bytes_max
        )
        self._served = 0
        self._body_read = trio.Event()
        self._stated_length: int | None = None
        self._bodiless = False
        """The request is a HEAD: its answer has no body."""
        self._held = 0
        self._upgraded = False
        self._ended = False
        self.trailing = b""

    async def run(self) -> None:
        """Requests one after the other, until one is the last."""
        while await self._next():
            self._served += 1
            await trio.lowlevel.checkpoint()
            if self._upgraded:
                return
            if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
                self._h11.start_next_cycle()
                continue
            await self._linger()
            return
        await self._say_goodbye()

    async def _next(self) -> bool:
        """One request and its answer; False when there is none."""
        try:
            request = await self._head()
            if request is None:
                return False
            response = await self._handle(Exchange(self, request))
        except HttpProblem as exc:
            self.server.statistics["http_refused"] += 1
            response = exc.response()
        finally:
            self.server.budget.give_back(self._held)
            self._held = 0
        if response is not None:
            await self._respond(response)
        return True

    # -- reading ---------------------------------------------------------------------------------

    async def _head(self) -> h11.Request | None:
        """The next request's head; None at the end, or when nobody has asked in time."""
        self._bodiless = False
        event = self._event()
        if event is h11.NEED_DATA and not self._h11.trailing_data[0]:
            arrived = False
            wait_s = self.limits.idle_s if self._served else self.limits.first_s
            with self.server.droppable(), trio.move_on_after(wait_s):
                arrived = await self._receive()
            if not arrived:
                return None
            event = self._event()
        with trio.move_on_after(self.limits.header_s):
            while event is h11.NEED_DATA:
                await self._receive()
                event = self._event()
            if not isinstance(event, h11.Request):
                return None
            self._check(event)
            self._bodiless = event.method == b"HEAD"
            return event
        raise HttpProblem(408, f"the headers took more than {self.limits.header_s:g} seconds")

    def _event(self) -> Any:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as exc:
            raise HttpProblem(exc.error_status_hint, str(exc)) from None

    async def _receive(self) -> bool:
        data = await self._stream.receive_some(PIECE_BYTES)
        if not data:
            self._ended = True
        self._h11.receive_data(bytes(data))
        return bool(data)

    def _check(self, request: h11.Request) -> None:
        """What the grammar allows and we do not."""
        self.server.statistics["http_requests"] += 1
        if request.http_version not in (b"1.0", b"1.1"):
            raise HttpProblem(505, "HTTP/1.1 is spoken here")
        size = len(request.target) + sum(len(n) + len(v) + 4 for n, v in request.headers)
        if size > self.limits.header_bytes_max or len(request.headers) > self.limits.headers_max:
            raise HttpProblem(431, f"headers have at most {self.limits.header_bytes_max} bytes")
        if len(request.target) > self.limits.target_bytes_max:
            raise HttpProblem(414, f"a target has at most {self.limits.target_bytes_max} bytes")
        names = [name for name, _ in request.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            raise HttpProblem(400, "Content-Length and Transfer-Encoding contradict each other")
        if b"transfer-encoding" in names and request.http_version != b"1.1":
            raise HttpProblem(400, "Transfer-Encoding needs HTTP/1.1")
        if names.count(b"host") > 1:
            raise HttpProblem(400, "the header host appears more than once")

    async def read_body(self) -> bytes:
        """See `Exchange.body`."""
        limit = self.limits.body_bytes_max
        if self._stated_length is not None and self._stated_length > limit:
            raise HttpProblem(413, f"a body has at most {limit} bytes")
        pieces: list[bytes] = []
        size = 0
        begun_s = trio.current_time()
        with trio.CancelScope() as scope:
            scope.deadline = begun_s + self.limits.body_s
            if self._h11.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            while not isinstance(event := self._event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    await self._receive()
                    continue
                size += len(event.data)
                if size > limit:
                    raise HttpProblem(413, f"a body has at most {limit} bytes")
                self._hold(len(event.data))
                pieces.append(bytes(event.data))
                allowed_s = self.limits.body_s + size / self.limits.body_bytes_per_s
                scope.deadline = begun_s + allowed_s
            self._body_read.set()
            return b"".join(pieces)
        raise HttpProblem(408, "the body did not come in time")

    def _hold(self, count: int) -> None:
        self.server.budget.take(count)
        self._held += count

    # -- handling --------------------------------------------------------------------------------

    async def _handle(self, exchange: Exchange) -> Response | None:
        self._body_read = trio.Event()
        length = exchange.header("content-length")
        self._stated_length = int(length) if length else None
        if not exchange.has_body:
            self._event()  # the end of the message
            if self._h11.their_state is h11.DONE:
                self._body_read.set()
        answers: list[Response | None] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_end, nursery.cancel_scope)
            answers.append(await self._answer(exchange))
            nursery.cancel_scope.cancel()
        if not answers:
            raise trio.BrokenResourceError("the caller has gone")
        return answers[0]

    async def _answer(self, exchange: Exchange) -> Response | None:
        try:
            return await self.server.handler(exchange)
        except HttpProblem as exc:
            self.server.statistics["http_refused"] += 1
            return exc.response()
        except _ENDS:
            raise
        except Exception:
            logger.exception("%s %s failed", exchange.method, exchange.path[:64])
            return HttpProblem(500, "the server failed at this request").response()

    async def _watch_for_end(self, handling: trio.CancelScope) -> None:
        """Once the body is there: if the caller goes, its request is pointless.

        What it sends ahead waits its turn, in memory as far as one piece goes; who sends more
        than that ahead is looked at again when it is that request's turn.
        """
        await self._body_read.wait()
        try:
            while len(self._h11.trailing_data[0]) < PIECE_BYTES:
                if not await self._receive():
                    break
            else:
                return
        except _ENDS:
            pass
        handling.cancel()

    # -- writing ---------------------------------------------------------------------------------

    async def _send(self, event: Any) -> None:
        await self._write(self._h11.send(event) or b"")

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            with trio.move_on_after(self.limits.write_s) as scope:
                await self._stream.send_all(view[start : start + PIECE_BYTES])
            if scope.cancelled_caught:
                raise trio.BrokenResourceError("the caller does not take its answer")

    async def _respond(self, response: Response) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise trio.BrokenResourceError("nothing can be said any more")
        headers = [(name, value) for name, value in response.headers]
        if response.close or self.server.draining:
            headers.append(("connection", "close"))
        body = response.body
        if isinstance(body, bytes) and response.status not in (204, 304):
            headers.append(("content-length", str(len(body))))
        data = self._h11.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if isinstance(body, bytes):
            if body and not self._bodiless:
                data += self._h11.send(h11.Data(data=body)) or b""
            await self._write(data + (self._h11.send(h11.EndOfMessage()) or b""))
            return
        await self._write(data)
        async for piece in body:
            await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def upgrade(self, headers: Headers) -> trio.abc.Stream:
        """See `Exchange.upgrade`."""
        await self._send(h11.InformationalResponse(status_code=101, headers=headers))
        self._upgraded = True
        self.trailing = self._h11.trailing_data[0]
        return self._stream

    async def _linger(self) -> None:
        """Throw away what a refused sender still sends, so that it reads the refusal."""
        thrown = 0
        with trio.move_on_after(self.limits.linger_s):
            while not self._ended and thrown < LINGER_BYTES:
                data = await self._stream.receive_some(PIECE_BYTES)
                if not data:
                    break
                thrown += len(data)
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        """The closing alert of TLS, if it leaves soon."""
        with trio.move_on_after(self.limits.linger_s):
            await self._stream.aclose()
