"""JSON-RPC 2.0 over HTTP: `POST /rpc` and the WebSocket `/rpc`, on the cores of every channel.

    POST /rpc                a request or a batch -> 200; notifications only -> 204
    GET  /rpc, upgrade       WebSocket (subprotocol `jsonrpc`): both directions, watches
    GET  /rpc/openrpc.json   the description of the API
    GET  /healthz            nothing about the cluster, so nobody is asked who they are

Each POST is a short-lived Peer over the one request and its one answer, so limits, policy,
deadlines and cancellation (the caller hangs up) are those of a socket.  What JSON-RPC can say it
says with status 200 and an error object; a status tells what came before it: 401, 403, 404, 405,
411, 413, 415, 503 (problem documents, RFC 9457).

There are no cookies and no cross-origin sharing: a browser of another origin is refused by its
Origin header, also where a certificate that it shows by itself would let it in.

Who is there is decided by `Admit`; this module knows tokens and certificates only as what it hands
over.  Source: component API, "Transports"; JSON-RPC 2.0; RFC 6750 for bearer tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from wsproto.frame_protocol import CloseReason

from paas.base.limits import CALL_TIMEOUT_S_MAX
from paas.rpc import websocket
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.rpc.http_answers import Headers, HttpProblem, Response
from paas.rpc.http_server import Exchange, HttpServer
from paas.rpc.peer import OnRequest, Peer, Sweeper
from paas.rpc.websocket import WebSocketLink, as_line
from paas.wire import codec

RPC, DESCRIPTION, HEALTH = "/rpc", "/rpc/openrpc.json", "/healthz"
SUBPROTOCOL = "jsonrpc"
ANSWER_GRACE_S = 5.0
"""How much longer than the longest deadline an answer is waited for."""

_JSON = ("application/json", "application/json-rpc", "application/jsonrequest")
_CHALLENGE: Headers = [("www-authenticate", 'Bearer realm="paas"')]
_PRIVATE: Headers = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
]


@dataclass(slots=True)
class Admitted:
    """Who was let in: what a Peer's `info` gets, and until when (trio's clock)."""

    info: dict[str, Any]
    until_s: float = float("inf")


Admit = Callable[[dict[str, Any], str | None], Admitted]
"""Judges a caller by what is known about its stream and its bearer token (None: none was shown);
raises HttpProblem 401 or 403."""


def unauthorised(detail: str) -> HttpProblem:
    """Nobody we know; the same text for every reason that would help somebody who guesses."""
    return HttpProblem(401, detail, _CHALLENGE)


class OneAnswer:
    """The link under the Peer of a POST: its one text comes, its one answer is kept."""

    def __init__(self, text: bytes, connection: Connection) -> None:
        self._text: bytes | None = as_line(text)
        self._connection = connection
        self._written = trio.Event()
        self._closed = False
        self.answer = b""

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def queued_bytes(self) -> int:
        return len(self.answer)

    async def read(self) -> bytes:
        if self._text is not None:
            text, self._text = self._text, None
            await trio.lowlevel.checkpoint()
            return text
        with trio.move_on_after(CALL_TIMEOUT_S_MAX + ANSWER_GRACE_S):
            while self._connection.outstanding and not self._closed:
                await self._written.wait()
                self._written = trio.Event()
        return b""

    def write(self, data: bytes) -> None:
        if not self._closed:
            self.answer += data
            self._written.set()

    def close(self) -> None:
        self._closed = True
        self._written.set()


class PostPeer(Peer):
    """A peer that hears one answer and nothing else: what is told without being asked is lost."""

    def notify_raw(self, method: str, params: bytes) -> None:
        return


@dataclass(slots=True)
class RpcOverHttp:
    """The handler of an HttpServer (rpc.http_server)."""

    on_request: OnRequest
    sweeper: Sweeper
    admit: Admit
    describe: Callable[[], Any]
    """The OpenRPC document."""

    on_open: Callable[[Peer], None] | None = None
    on_close: Callable[[Peer], None] | None = None
    statistics: dict[str, int] = field(
        default_factory=lambda: {"http_posts": 0, "http_denied": 0, "websockets": 0}
    )

    async def __call__(self, exchange: Exchange) -> Response | None:
        if exchange.path == HEALTH:
            self._only(exchange, "GET", "HEAD")
            return _json({"status": "ok"})
        if exchange.path not in (RPC, DESCRIPTION):
            raise HttpProblem(404, f"there is {RPC}, {DESCRIPTION} and {HEALTH}")
        _same_origin(exchange)
        admitted = self._admitted(exchange)
        if exchange.path == DESCRIPTION:
            self._only(exchange, "GET", "HEAD")
            return _json(self.describe())
        if websocket.asks(exchange):
            await self._websocket(exchange, admitted)
            return None
        self._only(exchange, "POST")
        return await self._post(exchange, admitted)

    def _admitted(self, exchange: Exchange) -> Admitted:
        try:
            return self.admit(exchange.info, _bearer(exchange))
        except HttpProblem:
            self.statistics["http_denied"] += 1
            raise

    @staticmethod
    def _only(exchange: Exchange, *methods: str) -> None:
        if exchange.method not in methods:
            allowed = ", ".join(methods)
            text = f"{exchange.path} answers {allowed}"
            raise HttpProblem(405, text, [("allow", allowed)])

    # -- POST ------------------------------------------------------------------------------------

    async def _post(self, exchange: Exchange, admitted: Admitted) -> Response:
        kind, _, parameters = (exchange.header("content-type") or "").partition(";")
        if kind.strip().lower() not in _JSON or not _utf8(parameters):
            raise HttpProblem(
                415, "expected Content-Type: application/json", [("accept", _JSON[0])]
            )
        if exchange.header("content-encoding") not in (None, "identity"):
            raise HttpProblem(
                415, "expected no Content-Encoding", [("accept-encoding", "identity")]
            )
        if not exchange.has_body:
            raise HttpProblem(411, "expected a Content-Length, or a chunked body")
        text = await exchange.body()
        self.statistics["http_posts"] += 1
        connection = Connection(Form.JSON)
        link = OneAnswer(text, connection)
        peer = PostPeer(link, connection, self.sweeper, self.on_request, on_close=self.on_close)
        peer.info.update(admitted.info)
        peer.info["one_answer"] = True
        try:
            await peer.run()
        finally:
            link.close()
        if not link.answer:
            return Response(204, headers=_PRIVATE)
        return Response(200, link.answer, [("content-type", _JSON[0]), *_PRIVATE])

    # -- WebSocket -------------------------------------------------------------------------------

    async def _websocket(self, exchange: Exchange, admitted: Admitted) -> None:
        stream = await exchange.upgrade(websocket.accepted(exchange, (SUBPROTOCOL,)))
        server = exchange.server
        link = WebSocketLink(stream, trailing=exchange.trailing, budget=server.budget)
        peer = Peer(link, Connection(Form.JSON), self.sweeper, self.on_request)
        peer.on_close = self.on_close
        peer.info.update(admitted.info)
        self.statistics["websockets"] += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run)
                if self.on_open is not None:
                    self.on_open(peer)
                async with trio.open_nursery() as inner:
                    inner.start_soon(_end_when_due, link, server, admitted.until_s)
                    await peer.run()
                    inner.cancel_scope.cancel()
        finally:
            self.statistics["websockets"] -= 1


async def _end_when_due(link: WebSocketLink, server: HttpServer, until_s: float) -> None:
    """The server drains, or what the caller was let in with has expired."""
    with server.droppable() as drained, trio.move_on_at(until_s):
        await trio.sleep_forever()
    if drained.cancelled_caught:
        link.end(CloseReason.GOING_AWAY, "the server ends")
    link.end(CloseReason.POLICY_VIOLATION, "the right to be here has ended")


def _json(value: Any) -> Response:
    return Response(200, codec.to_json(value), [("content-type", _JSON[0]), *_PRIVATE])


def _bearer(exchange: Exchange) -> str | None:
    """The token that is shown; raises 401 for another scheme (RFC 6750 §2.1)."""
    value = exchange.header("authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorised("expected Authorization: Bearer TOKEN")
    return token.strip()


def _same_origin(exchange: Exchange) -> None:
    origin = exchange.header("origin")
    if origin is not None and origin != f"https://{exchange.header('host')}":
        raise HttpProblem(403, "pages of other origins are not served")


def _utf8(parameters: str) -> bool:
    """JSON is UTF-8 (RFC 8259 §8.1); a charset that says otherwise is refused."""
    name, _, value = parameters.strip().partition("=")
    return name.lower() != "charset" or value.strip('"').lower() in ("utf-8", "utf8")
