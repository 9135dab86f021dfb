"""One exchange of HTTP/1.1 as a client: bytes in, events out; the only place that knows h11 here.

    request() ── bytes to send          receive(bytes) ── next() ── head, pieces, OVER, or NEED

Everything is bounded before it is believed: the head by bytes and count, interim answers by number,
chunks by a budget (a chunk of one byte costs the reader a thousand times what it carries, and its
extensions more).  What h11 calls an error of the other side is `protocol`; a connection that ends
before the answer does is `closed`.

Source: RFC 9112; h11 for the grammar.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import h11

from paas.fetcher import limits
from paas.fetcher.request import Headers
from paas.fetcher.trouble import trouble

State = h11.Connection
"""What is known about a connection between two exchanges."""


class Sign(enum.Enum):
    """What `next` says beside heads and pieces."""

    NEED = "need"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers as they came; names in lower case."""

    status: int
    headers: Headers


class Exchange:
    """One request and its answer on a connection that may have carried others."""

    def __init__(self, connection: State | None = None) -> None:
        self._h11 = connection or h11.Connection(
            h11.CLIENT, max_incomplete_event_size=limits.RESPONSE_HEAD_BYTES_MAX
        )
        self._interim = 0
        self._chunks = 0
        self._size = 0
        self._ambiguous = False
        self.heard = False
        """Has anything come back?"""

    def request(self, method: str, target: str, headers: Headers, body: bytes) -> bytes:
        """What to send."""
        pairs = [*headers]
        if body or method in ("POST", "PUT", "PATCH"):
            pairs.append(("content-length", str(len(body))))
        data = self._h11.send(h11.Request(method=method, target=target, headers=pairs)) or b""
        if body:
            data += self._h11.send(h11.Data(data=body)) or b""
        return data + (self._h11.send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> None:
        """What came from the socket; empty at its end."""
        self.heard = self.heard or bool(data)
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError as exc:
            raise trouble("protocol", f"the server breaks HTTP: {exc}") from None

    def next(self, elapsed_s: float = 0.0) -> ResponseHead | bytes | Sign:
        """The next event.  `elapsed_s`: since the body began, for the budget of chunks."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                raise self._broken(exc) from None
            if event is h11.NEED_DATA:
                return Sign.NEED
            if isinstance(event, h11.InformationalResponse):
                self._interim += 1
                if self._interim > limits.INFORMATIONAL_MAX:
                    raise trouble("protocol", "the server sends interim answers without end")
                continue
            if isinstance(event, h11.Response):
                return self._head(event)
            if isinstance(event, h11.Data):
                return self._piece(event, elapsed_s)
            if isinstance(event, h11.EndOfMessage):
                return Sign.OVER
            raise trouble("closed", "the server closed the connection without an answer")

    def reusable(self) -> State | None:
        """The connection for the next exchange, if there can be one (RFC 9112 §9.3)."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return None
        if self._h11.trailing_data[0] or self._ambiguous:
            return None  # an answer to nothing; or one whose end others would see elsewhere
        self._h11.start_next_cycle()
        return self._h11

    def _head(self, event: h11.Response) -> ResponseHead:
        if len(event.headers) > limits.RESPONSE_HEADERS_MAX:
            raise trouble(
                "head-too-long", f"the answer has more than {limits.RESPONSE_HEADERS_MAX} headers"
            )
        pairs = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers)
        names = {name for name, _ in pairs}
        self._ambiguous = {"content-length", "transfer-encoding"} <= names
        return ResponseHead(event.status_code, pairs)

    def _piece(self, event: h11.Data, elapsed_s: float) -> bytes:
        self._size += len(event.data)
        self._chunks += bool(event.chunk_start)
        allowed = limits.CHUNKS_FREE + self._size / limits.CHUNK_BYTES_MEAN
        if self._chunks > allowed + limits.CHUNKS_A_SECOND * elapsed_s:
            raise trouble("chunks", "the body comes in too many small chunks")
        return bytes(event.data)

    def _broken(self, exc: h11.RemoteProtocolError) -> Exception:
        if not self.heard:
            return trouble("closed", "the server closed the connection without an answer")
        if exc.error_status_hint == 431:
            return trouble(
                "head-too-long",
                f"headers or a chunk's line of more than {limits.RESPONSE_HEAD_BYTES_MAX} bytes",
            )
        if "closed" in str(exc):
            return trouble("closed", "the server closed the connection in the middle of its answer")
        return trouble("protocol", f"the server breaks HTTP: {exc}")
