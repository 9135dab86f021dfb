"""Answering by an operation: the call, streams that follow it, and WebSockets.

    call(route, inputs, body) ─> answer ─> whole, or a stream whose pieces come by `deliver`
    open(route, inputs) ──────> 101 ────> a WebSocket, messages by `message`, its end by `close`

A connection's name is 128 random bits: whoever was told it may say something to that browser.
Which member is asked, and whether another one after it, is the backends' part.
"""

from __future__ import annotations

import secrets

import trio

from paas.gateway import operations
from paas.gateway.backends import Backends, OperationFailed
from paas.gateway.http.budget import Budget
from paas.gateway.http.connection import Abandoned
from paas.gateway.http.exchange import NEVER, Exchange
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.http.problem import Problem
from paas.gateway.limits import OPERATION_BODY_BYTES_MAX
from paas.gateway.messages import HttpSend, Route
from paas.gateway.websocket import handshake
from paas.gateway.websocket.server import ABNORMAL, Open, OperationSocket, OperationStream

MARGIN_S = 2.0
"""The backends say themselves that an operation is late; this is for when they do not."""


class OperationCalls:
    """See the module's text."""

    def __init__(self, backends: Backends, limits: EdgeLimits, budget: Budget) -> None:
        self._backends = backends
        self._budget = budget
        self._limits = limits
        self.open: dict[str, Open] = {}
        """By the connection's name."""

    async def answer(self, exchange: Exchange, route: Route) -> None:
        """Answer the exchange by some member's operation.  Raises Problem, Abandoned."""
        if exchange.head.upgrade:
            return await self._socket(exchange, route)
        exchange.check_body(min(route.body_max, OPERATION_BODY_BYTES_MAX))
        try:
            body = await exchange.whole_body(self._budget) if exchange.head.length else b""
            await self._call(exchange, route, body)
        finally:
            exchange.let_go(self._budget)
        return None

    async def _call(self, exchange: Exchange, route: Route, body: bytes) -> None:
        name = secrets.token_hex(16)
        stream = OperationStream(exchange, self._limits)
        self.open[name] = stream  # pieces may come before the answer that announces them
        streams = False
        try:
            exchange.tries = 1
            exchange.by_member = trio.current_time() + route.timeout_s + MARGIN_S
            try:
                answer, first = await self._backends.call(
                    route, operations.request(exchange, route, name), body
                )
            except OperationFailed as exc:
                exchange.outcome = exc.detail
                raise Problem(exc.status, exc.detail) from None
            finally:
                exchange.by_member = NEVER
            streams = answer.stream
            headers = operations.headers(answer, exchange, route)
            if not streams:
                return await exchange.answer(answer.status, headers, first)
            if not await stream.run(answer.status, headers, first):
                raise Abandoned("the stream was cut off")
            streams = False
        finally:
            del self.open[name]
            stream.give_up()
            if streams:
                await self._tell_end(name, ABNORMAL, "")
        return None

    async def _socket(self, exchange: Exchange, route: Route) -> None:
        key = handshake.check(exchange.head)
        name = secrets.token_hex(16)
        socket = OperationSocket(name, exchange, self._backends, self._limits)
        self.open[name] = socket
        opened = False
        try:
            exchange.by_member = trio.current_time() + route.timeout_s + MARGIN_S
            try:
                answer = await self._backends.open(route, operations.request(exchange, route, name))
            except OperationFailed as exc:
                exchange.outcome = exc.detail
                raise Problem(exc.status, exc.detail) from None
            finally:
                exchange.by_member = NEVER
            if answer.status != 101:
                headers = operations.headers(answer, exchange, route)
                return await exchange.answer(answer.status, headers, b"")
            opened = True
            if answer.protocol and answer.protocol not in handshake.protocols(exchange.head):
                raise Problem(502, "the operation chose a subprotocol that was not offered")
            headers = [("x-request-id", exchange.request_id)]
            wire = await exchange.upgrade([*headers, *handshake.accepted(key, answer.protocol)])
            await socket.run(wire)
        finally:
            del self.open[name]
            socket.give_up()
            if opened:
                await self._tell_end(name, socket.code, socket.reason)
        return None

    async def _tell_end(self, name: str, code: int, reason: str) -> None:
        """The member hears of the end also when the browser's task was cancelled."""
        with trio.CancelScope(shield=True), trio.move_on_after(MARGIN_S):
            await self._backends.close(name, code, reason)

    async def deliver(self, send: HttpSend, data: bytes, *, wait: bool = True) -> bool:
        """What `gateway.send` has for a browser; False when the connection is over.

        `data` is the text encoded, or the attachment.  Without `wait` a browser that is too slow is
        cut off instead.
        """
        found = self.open.get(send.connection)
        if found is None:
            return False
        expected = OperationSocket if send.kind in ("text", "binary", "close") else OperationStream
        if not isinstance(found, expected):
            return False
        return await found.deliver(send, data, wait)

    def cut(self, connection: str) -> None:
        """End what is open by this name, and say nothing any more."""
        found = self.open.get(connection)
        if found is not None:
            found.give_up()
