"""A live peer: a connection core on a link.

It reads in a task of its own (`run`), or is fed by who reads for many (`feed`, `finish`).

Requests of the peer go, one after the other, to `on_request(peer, request)`, which must not wait:
it answers at once, hands the request to somebody, or starts a task.  Requests of ours either wait
(`call`) or leave a callback (`send_request`, what a router uses: no task a message).

Deadlines are kept by one `Sweeper` a process, which sleeps while nobody waits for anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import trio

from paas.base.errors import PlatformError, RemoteError
from paas.base.limits import CALL_TIMEOUT_S_DEFAULT
from paas.rpc.connection import Answer, Connection
from paas.rpc.envelope import EMPTY_BODY, Form, Request
from paas.rpc.link import Link, corked
from paas.wire import codec
from paas.wire.registry import Message, Method, P, R, decode

logger = logging.getLogger(__name__)

SWEEP_PERIOD_S = 0.05

OnRequest = Callable[["Peer", Request], None]


class Sweeper:
    """Expires the overdue requests of all peers of a process."""

    def __init__(self) -> None:
        self._peers: dict[Peer, None] = {}  # in a repeatable order
        self._wake = trio.Event()

    def watch(self, peer: Peer) -> None:
        if not self._peers:
            self._wake.set()
        self._peers[peer] = None

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            await trio.sleep(SWEEP_PERIOD_S)
            now = trio.current_time()
            with corked():
                for peer in list(self._peers):
                    peer.expire(now)
                    if not peer.connection.waiting:
                        self._peers.pop(peer, None)
            if not self._peers:
                self._wake = trio.Event()


class Peer:
    """One connected peer.  `info` is what is known about it: credentials, role, component."""

    __slots__ = (
        "__weakref__",
        "_finished",
        "_sweeper",
        "connection",
        "info",
        "link",
        "on_close",
        "on_request",
        "scopes",
    )

    def __init__(
        self,
        link: Link,
        connection: Connection,
        sweeper: Sweeper,
        on_request: OnRequest,
        *,
        on_close: Callable[[Peer], None] | None = None,
    ) -> None:
        self.link = link
        self.connection = connection
        self.info: dict[str, Any] = {}
        self.on_request = on_request
        self.on_close = on_close
        self.scopes: dict[trio.CancelScope, None] = {}
        """Work that is pointless without this peer: cancelled when it goes."""
        self._sweeper = sweeper
        self._finished = False

    @property
    def closed(self) -> bool:
        return self.link.closed

    async def run(self, first: bytes = b"") -> None:
        """Read until the end of the connection; then everybody who waits for it is told."""
        try:
            going_on = self.feed(first or await self.link.read())
            while going_on:
                going_on = self.feed(await self.link.read())
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.finish()

    def feed(self, data: bytes) -> bool:
        """Bytes have arrived, or none: the end.  False when there is nothing more to read."""
        if not data or self.link.closed:
            return False
        try:
            with corked():
                for request in self.connection.receive(data):
                    self._handle(request)
                self.link.write(self.connection.take_outbox())
        except RemoteError as exc:
            self._last_words(exc)
            return False
        except Exception:  # our bug: this peer loses its connection, nobody else anything
            logger.exception("reading from a peer failed")
            return False
        return True

    def finish(self) -> None:
        """The connection is over: everybody who waits for it is told, once."""
        if self._finished:
            return
        self._finished = True
        self.link.close()
        with corked():
            self._end()

    def _handle(self, request: Request) -> None:
        try:
            self.on_request(self, request)
        except Exception:
            logger.exception("%s failed", request.method[:64])
            self.fail(request, PlatformError("internal"))

    def _end(self) -> None:
        for scope in list(self.scopes):
            scope.cancel()
        self.connection.end(
            PlatformError("unknown-outcome", "the connection broke before the answer")
        )
        if self.on_close is None:
            return
        try:
            self.on_close(self)
        except Exception:
            logger.exception("the end of a peer was not digested")

    def _last_words(self, exc: RemoteError) -> None:
        """Tell the peer why it is cut off; it may not listen any more."""
        if self.connection.form is Form.COMPACT:
            return
        fault = Request(None, "", b"")
        self.link.write(self.connection.fail(fault, PlatformError("limit-exceeded", str(exc))))

    # -- requests of ours ------------------------------------------------------------------------

    def send_request(
        self, method: str, params: bytes, answer: Answer, *, timeout_s: float
    ) -> int | None:
        """Send without waiting; `answer` is called exactly once.

        None: it was answered already, since the peer is gone or could not take these params.
        """
        if self.link.closed:
            answer(PlatformError("not-available", "the connection is closed"))
            return None
        deadline = trio.current_time() + timeout_s
        try:
            identity, data = self.connection.request(method, params, answer, deadline)
        except PlatformError as exc:
            answer(exc)
            return None
        self.link.write(data)
        self._sweeper.watch(self)
        return identity

    def abandon(self, identity: int) -> None:
        """The answer to a request of ours is no longer wanted: the peer is told."""
        self.link.write(self.connection.abandon(identity))

    def expire(self, now_s: float) -> None:
        """Requests of ours whose deadline has passed are answered `timeout` and cancelled."""
        self.connection.expire(now_s)
        self.link.write(self.connection.take_outbox())

    async def call(
        self, method: Method[P, R], params: P, *, timeout_s: float = CALL_TIMEOUT_S_DEFAULT
    ) -> R:
        """Typed request and reply.  Raises the error that the peer answered, or `timeout`."""
        return decode(
            await self.call_raw(method.name, codec.pack(params), timeout_s), method.result
        )

    async def call_raw(self, method: str, params: bytes, timeout_s: float) -> bytes:
        """Request and reply with msgpack bodies; cancelling the caller cancels the request."""
        done = trio.Event()
        answers: list[bytes | PlatformError] = []

        def answer(value: bytes | PlatformError) -> None:
            answers.append(value)
            done.set()

        identity = self.send_request(method, params, answer, timeout_s=timeout_s)
        try:
            await done.wait()
        finally:
            if not answers and identity is not None:
                self.abandon(identity)
        if isinstance(answers[0], PlatformError):
            raise answers[0]
        return answers[0]

    def notify(self, method: Method[P, Any], params: P) -> None:
        """Raises `limit-exceeded` or `invalid` for params that the peer could not take."""
        self.notify_raw(method.name, codec.pack(params))

    def notify_raw(self, method: str, params: bytes) -> None:
        self.link.write(self.connection.notify(method, params))

    # -- answers of ours -------------------------------------------------------------------------

    def reply(self, request: Request, result: Message | bytes | None = None) -> None:
        body = result if isinstance(result, bytes) else EMPTY_BODY
        if isinstance(result, Message):
            body = codec.pack(result)
        self.link.write(self.connection.reply(request, body))

    def fail(self, request: Request, error: PlatformError) -> None:
        self.link.write(self.connection.fail(request, error))

    def close(self) -> None:
        self.link.close()
