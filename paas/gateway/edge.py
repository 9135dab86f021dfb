"""The data path as a whole: listeners, connections, which way each request goes, deadlines, drain.

    listener ─> Wire / TlsWire ─> H1Connection or H2Connection ─> Exchange ─> serve
                                                                       │ route
         static files <── files ───────────────────────────────────────┤
         members ──────── forward, relay (WebSocket) ──────────────────┤
         operations ───── operations, sockets ─────────────────────────┘

One task serves one connection; one more, the watch, looks at all of them a few times a second: it
cuts off who is late, notices browsers that went while a member works for them, drops connections to
members that nobody uses, cuts off what waits for members that have ended, writes the access log and
reads certificates again.

Draining: listeners are closed first, then idle connections, then what is under way is answered, in
bounded time.

    run(config, backends)            (io) see below; `paas.gateway.backends` is what it asks for
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import random
import resource
import select
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from paas.base.errors import PlatformError
from paas.gateway.access_log import AccessLog
from paas.gateway.backends import Backends
from paas.gateway.config import EdgeConfig, host_and_port
from paas.gateway.files.server import serve_file
from paas.gateway.http import forwarded
from paas.gateway.http.budget import Budget
from paas.gateway.http.connection import Connection
from paas.gateway.http.exchange import Exchange, Timed
from paas.gateway.http.limits import WATCH_PERIOD_S, EdgeLimits
from paas.gateway.http.problem import Problem
from paas.gateway.http.server import H1Connection
from paas.gateway.messages import HttpSend, Route
from paas.gateway.rates import Rates
from paas.gateway.tls.names import covers
from paas.gateway.transport import ENDS, TlsWire, Wire, listen, peer_address, prepare
from paas.gateway.upstream.calls import OperationCalls
from paas.gateway.upstream.client import Pool
from paas.gateway.upstream.forward import Forwarder
from paas.gateway.websocket.frames import GOING_AWAY
from paas.gateway.websocket.server import OperationSocket
from paas.rpc.server import Callers
from paas.telemetry.sink import DescriptorSink

if TYPE_CHECKING:
    from paas.gateway.http2.server import H2Connection
    from paas.gateway.tls.server import Certificates

logger = logging.getLogger(__name__)

POLLRDHUP = 0x2000
"""The other side sends nothing more (Linux; poll(2))."""

STDOUT = 1
CERTIFICATES_PERIOD_S = 1.0
"""How often the folder of certificates is looked at."""

CHALLENGE_PATH = "/.well-known/acme-challenge/"

DESCRIPTORS_KEPT = 32
"""For everything that is no connection."""

HANG_UP_AFTER_S = 0.5
"""A member that works so long is not worked for a browser that went."""


class Edge:
    """See the module's text."""

    def __init__(self, config: EdgeConfig, backends: Backends) -> None:
        self.config = config
        self.limits = within_descriptors(config.edge_limits())
        self.backends = backends
        self.pool = Pool(self.limits)
        self.log = AccessLog(config.access_log, DescriptorSink(STDOUT).write)
        self.addresses: list[tuple[str, int]] = []
        """Where it listens: those of `listen`, then those of `tls`."""
        self.statistics: Counter[str] = Counter()
        self.budget = Budget(self.limits.bodies_bytes_max)
        self._forwarder = Forwarder(backends, self.pool, self.limits, random.random, self.budget)
        self._calls = OperationCalls(backends, self.limits, self.budget)
        self._rates = Rates()
        self._proxies = config.proxies()
        self.certificates: Certificates | None = None
        self.challenges: dict[str, str] = {}
        """Of an authority that issues certificates (RFC 8555 §8.3): token → what is answered."""
        self._http2: type[H2Connection] | None = None
        self._connections: dict[Connection, None] = {}
        self._open = 0
        """Connections, those in their handshake included."""
        self._by_source: Counter[str] = Counter()
        self._gone = trio.Event()
        self._prefix = os.urandom(8).hex()
        self._number = 0
        self._ending = trio.Event()
        self._ended = trio.Event()

    # -- life --------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[Edge] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, or until `finish` was called and everything is answered."""
        if self.config.tls:
            self.reload_certificates()
            if self.config.http2:
                from paas.gateway.http2.server import H2Connection

                self._http2 = H2Connection
        listeners = self._listeners()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                async with trio.open_nursery() as doors:
                    for callers, secure in listeners:
                        doors.start_soon(self._accept, callers, secure, nursery)
                    task_status.started(self)
                    await self._ending.wait()
                    doors.cancel_scope.cancel()
                for callers, _ in listeners:
                    callers.close()
                await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            for callers, _ in listeners:
                callers.close()
            self.pool.close()
            self.log.flush()
            self._ended.set()

    def figures(self) -> dict[str, int]:
        """What happened so far, and what is there now."""
        return {
            **self.statistics,
            "open_connections": len(self._connections),
            "open_websockets": len(self._forwarder.relays) + len(self._calls.open),
            "bytes_held": self.budget.held,
            "members_dialled": self.pool.opened,
            "members_reused": self.pool.reused,
            "members_failed": self._forwarder.failed,
            "requests_retried": self._forwarder.retried,
        }

    def finish(self) -> None:
        """Take nothing new, answer what is under way, end."""
        self._ending.set()

    async def wait_ended(self) -> None:
        await self._ended.wait()

    async def deliver(self, send: HttpSend, data: bytes, *, wait: bool = True) -> bool:
        """See `OperationCalls.deliver`: the way of `gateway.send` to a browser."""
        return await self._calls.deliver(send, data, wait=wait)

    def cut(self, connection: str) -> None:
        """See `OperationCalls.cut`."""
        self._calls.cut(connection)

    def reload_certificates(self) -> None:
        """At once, for who has just written one; else it is done every second.

        Blocks for a few small files.  Raises `unavailable` when there is none at all.
        """
        # Who speaks plain HTTP only has neither cryptography nor HTTP/2 in memory: 10 MB.
        from paas.gateway.tls.server import Certificates

        if self.certificates is None:
            self.certificates = Certificates(Path(self.config.certificates), self.config.http2)
        self.certificates.reload()

    def _listeners(self) -> list[tuple[Callers, bool]]:
        listeners: list[tuple[Callers, bool]] = []
        try:
            for field, secure in (("listen", False), ("tls", True)):
                for text in getattr(self.config, field):
                    host, port = host_and_port(text, f"gateway.{field}")
                    try:
                        sock = listen(host, port)
                    except OSError as exc:
                        reason = f"{text}: {exc.strerror}"
                        raise PlatformError("conflict", reason, field=field) from None
                    listeners.append((Callers(sock), secure))
                    self.addresses.append(sock.getsockname()[:2])
        except BaseException:
            for callers, _ in listeners:
                callers.close()
            raise
        return listeners

    async def _drain(self) -> None:
        for connection in list(self._connections):
            connection.finish()
        for relay in list(self._forwarder.relays):
            relay.close(GOING_AWAY, "the gateway ends")
        for name, found in list(self._calls.open.items()):
            if isinstance(found, OperationSocket):
                end = HttpSend(connection=name, kind="close", code=GOING_AWAY)
                await self._calls.deliver(end, b"", wait=False)
        with trio.move_on_after(self.limits.drain_s):
            while self._connections:
                self._gone = trio.Event()
                await self._gone.wait()

    async def _accept(self, callers: Callers, secure: bool, nursery: trio.Nursery) -> None:
        while True:
            for sock in await callers.accept():
                try:
                    peer = peer_address(sock)
                except OSError:
                    sock.close()  # it went while it waited
                    continue
                if not self._room(peer):
                    self.statistics["hung_up"] += 1
                    sock.close()
                    continue
                self._open += 1
                self._by_source[peer] += 1
                nursery.start_soon(self._connection, sock, peer, secure)

    def _room(self, peer: str) -> bool:
        if self._open >= self.limits.connections_max:
            return False
        most = self.limits.connections_per_source_max
        return self._by_source[peer] < most or forwarded.trusted(peer, self._proxies)

    async def _connection(self, sock: socket.socket, peer: str, secure: bool) -> None:
        self.statistics["connections"] += 1
        wire = Wire(sock)
        try:
            prepare(sock)
            if secure:
                wire = await self._secured(sock)
            connection = self._kind(wire.alpn)(
                wire, peer, self.serve, self.limits, self.next_id, self.answered
            )
            self._connections[connection] = None
            try:
                await connection.run()
            finally:
                del self._connections[connection]
        except trio.TooSlowError:
            self.statistics["late_handshake"] += 1
        except ENDS:
            pass
        except Exception:
            logger.exception("a connection failed")
        finally:
            wire.close()
            self._open -= 1
            self._by_source[peer] -= 1
            if not self._by_source[peer]:
                del self._by_source[peer]
            self._gone.set()

    def _kind(self, alpn: str) -> type[Connection]:
        return self._http2 if alpn == "h2" and self._http2 is not None else H1Connection

    async def _secured(self, sock: socket.socket) -> TlsWire:
        """After the handshake.  Raises OSError, trio.TooSlowError."""
        assert self.certificates is not None
        try:
            wire = TlsWire(sock, self.certificates.context())
        except PlatformError as exc:
            raise OSError(exc.message) from None
        with trio.fail_after(self.limits.first_s):
            await wire.handshake()
        wire.names = self.certificates.names_for(wire.session)
        return wire

    # -- requests ----------------------------------------------------------------------------------

    def next_id(self) -> str:
        """Names a request, here and in what members log."""
        self._number += 1
        return f"{self._prefix}{self._number:08x}"

    def answered(self, exchange: Exchange) -> None:
        """An exchange is over, however it ended."""
        self.statistics["requests"] += 1
        if self.log.wants(exchange):
            self.log.add(exchange, trio.current_time())

    async def serve(self, exchange: Exchange) -> None:
        """Answer one exchange.  Raises Problem, Abandoned."""
        head = exchange.head
        if exchange.names and not covers(exchange.names, head.host):
            raise Problem(421, "this connection is for other hosts")
        if self._proxies and forwarded.trusted(exchange.peer, self._proxies):
            exchange.trusted_peer = True
            exchange.remote = forwarded.client_of(exchange.peer, head.headers, self._proxies)
            exchange.scheme = forwarded.scheme_of(head.headers, exchange.scheme)
        if self.challenges and head.path.startswith(CHALLENGE_PATH):
            said = self.challenges.get(head.path[len(CHALLENGE_PATH) :])
            if said is not None:
                exchange.check_body(0)
                await exchange.answer(200, [("content-type", "text/plain")], said.encode())
                return
        route = self.backends.router.match(head.host, head.path)
        if route is None:
            raise Problem(404, "no route leads there")
        self._admit(exchange, route)
        if route.kind == "endpoint":
            await self._forwarder.forward(exchange, route)
        elif route.kind == "operation":
            await self._calls.answer(exchange, route)
        else:
            await serve_file(self.config.static, exchange, route)

    def _admit(self, exchange: Exchange, route: Route) -> None:
        """What the route allows.  Raises Problem."""
        head = exchange.head
        exchange.route = route.name
        if route.methods and head.method not in route.methods:
            allowed = ", ".join(route.methods)
            raise Problem(405, f"this route takes {allowed}", [("allow", allowed)])
        if head.method in ("CONNECT", "TRACE"):
            raise Problem(501, f"{head.method} is not offered here")
        if route.rate:
            wait_s = self._rates.wait_s(route, exchange.remote, trio.current_time())
            if wait_s:
                told = [("retry-after", str(math.ceil(wait_s)))]
                raise Problem(429, "too many requests from this address", told)
        if head.upgrade and not route.websocket:
            raise Problem(400, "this route takes no WebSockets")

    # -- the watch ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        certificates_at = 0.0
        while True:
            await trio.sleep(WATCH_PERIOD_S)
            now = trio.current_time()
            self._cut_late(now)
            self.pool.drop_old(now)
            self.log.flush()
            self._leave(now)
            if now >= certificates_at and self.certificates is not None:
                certificates_at = now + CERTIFICATES_PERIOD_S
                await trio.to_thread.run_sync(self.certificates.reload)

    def _leave(self, now: float) -> None:
        """WebSockets of members that leave: the browser is told, and has until the drain's end.

        What waits for a member that has ended comes to an end: nothing more may come from there,
        not even the end of the connection.
        """
        self._forwarder.cut_ended()
        for relay, route in list(self._forwarder.relays.items()):
            member = relay.member
            if member.state != "serving" and not member.ended:
                relay.leave(route.drain_notice, member.state == "gone" or now >= member.drain_until)

    def _cut_late(self, now: float) -> None:
        working: dict[int, Timed] = {}
        poll = select.poll()
        for connection in list(self._connections):
            reason = connection.late(now)
            if reason:
                self.statistics[f"late_{reason}"] += 1
                connection.cut(reason)
            exchange = connection.exchange
            if exchange is None or exchange.status == 101:
                continue
            if now - exchange.began > HANG_UP_AFTER_S:
                descriptor = connection.wire.sock.fileno()
                if descriptor >= 0:
                    working[descriptor] = connection
                    poll.register(descriptor, POLLRDHUP)
        for descriptor, _ in poll.poll(0) if working else ():
            self.statistics["browsers_gone"] += 1
            working[descriptor].cut("gone")


def within_descriptors(limits: EdgeLimits) -> EdgeLimits:
    """As many connections as this process may have descriptors for, two for each.

    The process is allowed what the system lets it have at most.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return limits
    room = max((hard - DESCRIPTORS_KEPT) // 2, 1)
    return dataclasses.replace(limits, connections_max=min(limits.connections_max, room))


async def run(
    config: EdgeConfig,
    backends: Backends,
    *,
    task_status: trio.TaskStatus[Edge] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry the data path until cancelled; `started` gives the Edge (addresses, finish, deliver).

    Raises `invalid` and `conflict` for what the configuration says.
    """
    await Edge(config, backends).run(task_status=task_status)
