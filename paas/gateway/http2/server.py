"""HTTP/2 with one browser: streams side by side, each an Exchange with a task of its own.

    wire ─ h2 ─ RequestReceived ─> fields.request ─> H2Exchange ─> serve (task of the stream)
                DataReceived ────> its pieces; acknowledged when somebody has used them
                StreamReset ─────> its task is cancelled, and it is counted
                WindowUpdated ───> who waits to send goes on

Back-pressure both ways is flow control: what comes is acknowledged when it was passed on, what goes
waits for the window.  What a browser may have waiting here is bounded by the window of its
connection.  Whoever opens and abandons streams, or sends frames that carry nothing, beyond a
number, is disconnected (counting.py).

WebSockets use connections of HTTP/1.1 (extended CONNECT, RFC 8441, is not offered, so browsers open
one).  Source: RFC 9113 §5, §6.8, §8; the h2 library for frames, states and HPACK.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from hyperframe.frame import GoAwayFrame

from paas.gateway.http.connection import Abandoned, Connection, Serve, late_answer
from paas.gateway.http.exchange import NEVER, Exchange
from paas.gateway.http.head import UNKNOWN, Headers, Refused, RequestHead, unread
from paas.gateway.http.limits import LINGER_BYTES, EdgeLimits
from paas.gateway.http.problem import Problem
from paas.gateway.http2.counting import Patience
from paas.gateway.http2.fields import request as read_fields
from paas.gateway.transport import ENDS, Wire

logger = logging.getLogger(__name__)

STREAM_WINDOW_BYTES = 128 << 10
CONNECTION_WINDOW_BYTES = 256 << 10
"""What a browser may send ahead on one stream, and on all streams of its connection."""

_DEFAULT_WINDOW_BYTES = 65_535
_Codes = h2.errors.ErrorCodes


class H2Exchange(Exchange):
    """One stream."""

    __slots__ = (
        "_connection",
        "_more",
        "_pieces",
        "_stated",
        "_waited",
        "number",
        "scope",
        "window",
    )

    def __init__(
        self, connection: H2Connection, number: int, head: RequestHead, request_id: str
    ) -> None:
        super().__init__(head, connection.limits, connection.peer, "https", request_id)
        self.number = number
        self.scope = trio.CancelScope()
        self.window = trio.Event()
        """The browser lets us send more."""
        self._connection = connection
        self.names = connection.wire.names
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._more = trio.Event()
        self._stated = False
        self._waited = 0.0

    def cut(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.scope.cancel()

    def received_piece(self, data: bytes, flow: int) -> None:
        self._pieces.append((data, flow))
        self._more.set()

    def received_end(self) -> None:
        self._stated = True
        self._more.set()

    @property
    def sent_whole(self) -> bool:
        """Has the browser sent all of its request?"""
        return self._stated or self.head.length == 0

    async def body(self) -> bytes:
        while not self.body_done:
            if self._pieces:
                data, flow = self._pieces.popleft()
                await self._connection.acknowledge(self.number, flow)
                if self._stated and not self._pieces:
                    self.body_done = True
                self.count_body(len(data))
                if data:
                    return data
                continue
            if self._stated:
                self.body_done = True
                break
            since = trio.current_time()
            allowed_s = self.limits.body_s + self.received / self.limits.body_bytes_per_s
            self.by_browser = since + allowed_s - self._waited
            self._more = trio.Event()
            await self._more.wait()
            self.by_browser = NEVER
            self._waited += trio.current_time() - since
        return b""

    async def start(self, status: int, headers: Headers, length: int) -> None:
        self.started = True
        self.status = status
        told = [(":status", str(status)), *headers]
        if length != UNKNOWN and status != 204 and (length or status != 304):
            told.append(("content-length", str(length)))
        ends = self.head.method == "HEAD" or status in (204, 304) or length == 0
        self._connection.say_headers(self.number, told, ends)

    async def write(self, data: bytes) -> None:
        self.sent += len(data)
        await self._connection.say_data(self, data)

    async def flush(self) -> None:
        await self._connection.flush()

    async def end(self) -> None:
        await self._connection.say_end(self.number)


class H2Connection(Connection):
    """One connection.  Owns the wire.

    Its end is noticed without the watch: it is read all the time.
    """

    def __init__(
        self,
        wire: Wire,
        peer: str,
        serve: Serve,
        limits: EdgeLimits,
        next_id: Callable[[], str],
        done: Callable[[Exchange], None],
    ) -> None:
        super().__init__(wire, peer, serve, limits, next_id, done)
        self._streams: dict[int, H2Exchange] = {}
        self._sending = trio.Lock()
        self._patience = Patience(limits.resets_max, limits.controls_max, limits.resets_window_s)
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )

    # -- how it is timed ---------------------------------------------------------------------------

    def late(self, now: float) -> str:
        for exchange in list(self._streams.values()):
            reason = exchange.late(now)
            if reason:
                exchange.cut(reason)
        return super().late(now)

    def busy(self) -> bool:
        return bool(self._streams)

    # -- reading -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until one side has had enough.  Closes the wire."""
        self._set_up()
        try:
            with self._scope:
                await self.flush()
                async with trio.open_nursery() as nursery:
                    await self._read(nursery)
                    nursery.cancel_scope.cancel()
            await self._say_goodbye()
        except* (*ENDS, h2.exceptions.ProtocolError):
            pass
        finally:
            self.wire.close()

    def _set_up(self) -> None:
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: self.limits.streams_max,
                codes.MAX_HEADER_LIST_SIZE: self.limits.head_bytes_max,
                codes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            },
        )
        self._h2.decoder.max_header_list_size = self.limits.head_bytes_max
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - _DEFAULT_WINDOW_BYTES)
        self.by_browser = trio.current_time() + self.limits.first_s

    async def _read(self, nursery: trio.Nursery) -> None:
        while data := await self.wire.receive():
            try:
                events = self._h2.receive_data(data)
            except h2.exceptions.ProtocolError:
                self.refused += 1
                await self._part()  # the library has said why
                return
            now = trio.current_time()
            for event in events:
                if not self._handle(event, nursery, now):
                    await self._too_much()
                    return
                if isinstance(event, h2.events.ConnectionTerminated):
                    return
            if not self._streams:
                self.by_browser = now + self.limits.idle_s
            await self.flush()

    def _handle(self, event: h2.events.Event, nursery: trio.Nursery, now: float) -> bool:
        """False: that was once too often."""
        match event:
            case h2.events.RequestReceived():
                self._request(event, nursery, now)
            case h2.events.DataReceived(stream_id=number, data=data):
                flow = event.flow_controlled_length or 0
                exchange = self._streams.get(number)
                if exchange is not None:
                    exchange.received_piece(data or b"", flow)
                elif flow:
                    self._h2.acknowledge_received_data(flow, number)
                return bool(data) or self._patience.control(now)
            case h2.events.StreamEnded(stream_id=number):
                exchange = self._streams.get(number)
                if exchange is not None:
                    exchange.received_end()
            case h2.events.StreamReset(stream_id=number):
                exchange = self._streams.get(number)
                if exchange is not None:
                    exchange.cut("gone")
                return self._patience.reset(now)
            case h2.events.WindowUpdated(stream_id=number):
                self._window_opened(number)
                return self._patience.control(now)
            case h2.events.RemoteSettingsChanged():
                self._window_opened(0)
                return self._patience.control(now)
            case h2.events.TrailersReceived() | h2.events.ConnectionTerminated():
                pass
            case _:
                return self._patience.control(now)
        return True

    def _request(self, event: h2.events.RequestReceived, nursery: trio.Nursery, now: float) -> None:
        number = event.stream_id
        if self.ending:
            self._h2.reset_stream(number, _Codes.REFUSED_STREAM)
            return
        refusal: Problem | None = None
        try:
            ended = event.stream_ended is not None
            head = read_fields(event.headers, "https", ended=ended)
            if len(head.headers) > self.limits.headers_max:
                raise Refused(431, f"a request has at most {self.limits.headers_max} headers")
            if len(head.target) > self.limits.target_bytes_max:
                raise Refused(414, f"a target has at most {self.limits.target_bytes_max} bytes")
        except Refused as exc:
            self.refused += 1
            refusal = Problem(exc.status, exc.detail)
            head = unread("2")
        exchange = H2Exchange(self, number, head, self._next_id())
        exchange.began = now
        self._streams[number] = exchange
        self.by_browser = NEVER
        nursery.start_soon(self._stream, exchange, refusal)

    # -- one stream --------------------------------------------------------------------------------

    async def _stream(self, exchange: H2Exchange, refusal: Problem | None) -> None:
        try:
            with exchange.scope:
                await self._answer(exchange, refusal)
            if exchange.scope.cancelled_caught and exchange.reason != "gone":
                await self._after_cut(exchange)
        except (*ENDS, h2.exceptions.ProtocolError):
            exchange.outcome = exchange.outcome or "cut off"
        finally:
            del self._streams[exchange.number]
            if exchange.reason == "gone":
                exchange.outcome = exchange.outcome or "the browser abandoned it"
            self._done(exchange)
        if not self._streams:
            self.by_browser = trio.current_time() + self.limits.idle_s
            if self.ending:
                self.cut("end")

    async def _answer(self, exchange: H2Exchange, refusal: Problem | None) -> None:
        try:
            if refusal is not None:
                raise refusal
            await self._serve(exchange)
        except Problem as exc:
            if exchange.started:
                return await self._reset(exchange, _Codes.INTERNAL_ERROR)
            await exchange.refuse(exc)
        except Abandoned:
            return await self._reset(exchange, _Codes.INTERNAL_ERROR)
        except (*ENDS, h2.exceptions.ProtocolError):
            raise
        except Exception:
            logger.exception("a request failed")
            return await self._reset(exchange, _Codes.INTERNAL_ERROR)
        if not exchange.sent_whole:
            # RFC 9113 §8.1: the answer is complete, the rest of the request is not wanted.
            await self._reset(exchange, _Codes.NO_ERROR)
        return None

    async def _after_cut(self, exchange: H2Exchange) -> None:
        late = late_answer(exchange.reason)
        exchange.outcome = exchange.outcome or f"cut off ({exchange.reason})"
        with trio.move_on_after(self.limits.refused_linger_s):
            if late is not None and not exchange.started:
                await exchange.refuse(late)
                if not exchange.sent_whole:
                    await self._reset(exchange, _Codes.NO_ERROR)
            else:
                await self._reset(exchange, _Codes.INTERNAL_ERROR)

    async def _reset(self, exchange: H2Exchange, code: h2.errors.ErrorCodes) -> None:
        exchange.outcome = exchange.outcome or ("" if code is _Codes.NO_ERROR else "cut off")
        try:
            self._h2.reset_stream(exchange.number, code)
        except h2.exceptions.ProtocolError:
            return  # it is closed already
        await self.flush()

    async def acknowledge(self, number: int, flow: int) -> None:
        """What came was used: the browser may send as much again."""
        if flow:
            # The connection's window is opened also when the stream is closed.
            with suppress(h2.exceptions.StreamClosedError):
                self._h2.acknowledge_received_data(flow, number)
            await self.flush()

    # -- writing -----------------------------------------------------------------------------------

    def say_headers(self, number: int, headers: Headers, ends: bool) -> None:
        try:
            fields = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers]
            self._h2.send_headers(number, fields, end_stream=ends)
        except h2.exceptions.ProtocolError as exc:
            raise trio.BrokenResourceError(str(exc)) from None  # the browser has closed it

    async def say_data(self, exchange: H2Exchange, data: bytes) -> None:
        """As the browser's windows allow; waits for them."""
        at = 0
        while at < len(data):
            try:
                room = self._h2.local_flow_control_window(exchange.number)
            except h2.exceptions.ProtocolError as exc:
                raise trio.BrokenResourceError(str(exc)) from None
            if room <= 0:
                exchange.window = trio.Event()  # first: it may open while we send
                await self.flush()
                await self.flush()
                exchange.by_reader = trio.current_time() + self.limits.write_s
                await exchange.window.wait()
                exchange.by_reader = NEVER
                continue
            piece = data[at : at + min(room, self._h2.max_outbound_frame_size)]
            try:
                self._h2.send_data(exchange.number, piece)
            except h2.exceptions.ProtocolError as exc:
                raise trio.BrokenResourceError(str(exc)) from None
            self._patience.sent(len(piece))
            at += len(piece)
            await self.flush()

    async def say_end(self, number: int) -> None:
        """The end of the stream, if the headers did not say it already."""
        with suppress(h2.exceptions.ProtocolError):
            self._h2.end_stream(number)
        await self.flush()

    def _window_opened(self, number: int) -> None:
        if number:
            exchange = self._streams.get(number)
            if exchange is not None:
                exchange.window.set()
            return
        for exchange in self._streams.values():
            exchange.window.set()

    async def flush(self) -> None:
        """Send what the library has gathered, in its order."""
        async with self._sending:
            data = self._h2.data_to_send()
            if data:
                self.by_reader = trio.current_time() + self.limits.write_s
                await self.wire.send(data)
                self.by_reader = NEVER

    # -- ends --------------------------------------------------------------------------------------

    async def _too_much(self) -> None:
        self.refused += 1
        self._h2.close_connection(_Codes.ENHANCE_YOUR_CALM)
        await self._part()

    async def _part(self) -> None:
        """Listen on for a moment, or the reset of what is unread would overtake the last word."""
        self._scope.deadline = trio.current_time() + self.limits.refused_linger_s
        await self.flush()
        await self.wire.end()
        taken = 0
        while taken < LINGER_BYTES and (data := await self.wire.receive()):
            taken += len(data)

    async def _say_goodbye(self) -> None:
        """In bounded time: why it ends, when it was us who ended it."""
        with trio.move_on_after(self.limits.refused_linger_s):
            if self.reason in ("end", "browser"):
                frame = GoAwayFrame(0)
                frame.last_stream_id = self._h2.highest_inbound_stream_id
                await self.wire.send(frame.serialize())
            await self.wire.end()
