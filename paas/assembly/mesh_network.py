"""Connections between nodes over TCP and mutual TLS: the real `MeshNetwork`.

Dialling: connect, prove each other, and the certificate must be that of the hub of the node that
was dialled.  Accepting: whoever proves to be a hub of this cluster is handed on with the name of
its node; whether that node may connect is the mesh's question.

Strangers cost little: at most `UNPROVEN_MAX` at a time, each for at most `PROVE_S`, and one more
ends the one who has been unproven longest, so that someone who only fills places keeps nobody out.
Without descriptors accepting pauses and goes on (`rpc.server`).

The kernel finds dead connections: bytes unacknowledged for `SILENCE_S` end a connection, and one
that is silent is probed.  Retransmissions of the few small packets that a log sends are not backed
off exponentially (TCP_THIN_LINEAR_TIMEOUTS): after a short cut they flow again at once.
"""

from __future__ import annotations

import encodings.idna  # looked up by getaddrinfo, when the agent may not read files any more
import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock
from paas.identity.names import HUB, AgentName
from paas.rpc.link import Link
from paas.rpc.mesh import Accepted
from paas.rpc.mesh_channels import HUB as HUB_CHANNEL
from paas.rpc.mesh_channels import RAFT as RAFT_CHANNEL
from paas.rpc.mesh_limits import (
    CONNECT_S,
    KEEPALIVE_S,
    MESH_OUTBOX_BYTES_MAX,
    PROVE_S,
    SILENCE_S,
    UNPROVEN_MAX,
)
from paas.rpc.mesh_trouble import Troubles
from paas.rpc.server import BACKLOG, Callers
from paas.rpc.transport import SecureTransport

logger = logging.getLogger(__name__)

assert encodings.idna

_ROLES = frozenset({HUB})
_CHANNELS = (RAFT_CHANNEL, HUB_CHANNEL)
_THIN_LINEAR_TIMEOUTS = 16
"""TCP_THIN_LINEAR_TIMEOUTS of linux/tcp.h, which the socket module does not name."""

_KEEPALIVE_PROBES = 3


class TcpMeshNetwork:
    """`listen` is "host:port" or "[host]:port"; port 0 takes any, which `port` tells then."""

    def __init__(
        self,
        transport: SecureTransport,
        *,
        listen: str,
        clock: Clock,
        on_trouble: Callable[[str, str], None],
    ) -> None:
        self.port = 0
        self.troubles = Troubles(on_trouble, clock.monotonic_s)
        self._transport = transport
        self._listen = split_address(listen)
        self._unproven: dict[socket.socket, trio.CancelScope] = {}

    @property
    def unproven(self) -> int:
        """Incoming connections that have not proven who they are."""
        return len(self._unproven)

    # -- dialling --------------------------------------------------------------------------------

    async def dial(self, node: str, address: str, channel: str, nursery: trio.Nursery) -> Link:
        """Raises `unavailable`: nobody there; `denied`: somebody else, or we are refused."""
        host, port = split_address(address)
        sock = await _connect(host, port)
        try:
            with trio.fail_after(PROVE_S):
                link, name = await self._transport.dial_channel(
                    sock, nursery, _ROLES, channel, outbox_bytes_max=MESH_OUTBOX_BYTES_MAX
                )
        except trio.TooSlowError:
            text = f"{address} accepted the connection and did not prove who it is in time"
            raise PlatformError("unavailable", text) from None
        except PlatformError as exc:
            raise PlatformError(exc.code, f"{address}: {exc.message}") from None
        if name.node != node:
            link.close()
            text = f"{address} is the hub of {name.node}, not of {node}"
            raise PlatformError("denied", text)
        return link

    # -- accepting -------------------------------------------------------------------------------

    async def serve(
        self, accepted: Accepted, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        callers = Callers(await self._open())
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    for sock in await callers.accept():
                        self._make_room()
                        scope = self._unproven[sock] = trio.CancelScope()
                        nursery.start_soon(self._one, sock, scope, accepted)
        finally:
            callers.close()

    async def _open(self) -> socket.socket:
        """The listening socket; raises `unavailable` when the address cannot be had."""
        host, port = self._listen
        try:
            family, kind, _, _, place = (await _resolve(host, port, passive=True))[0]
            listener = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError as exc:
            raise _cannot_listen(host, port, exc) from None
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            listener.bind(place)
            listener.listen(BACKLOG)
        except OSError as exc:
            listener.close()
            raise _cannot_listen(host, port, exc) from None
        self.port = listener.getsockname()[1]
        return listener

    def _make_room(self) -> None:
        if len(self._unproven) >= UNPROVEN_MAX:
            oldest = next(iter(self._unproven))
            self._unproven.pop(oldest).cancel()
            self.troubles.note("mesh", f"{UNPROVEN_MAX} unproven connections: the oldest is ended")

    async def _one(self, sock: socket.socket, scope: trio.CancelScope, accepted: Accepted) -> None:
        """One incoming connection to its end, whatever happens to it."""
        source = _source(sock)
        try:
            async with trio.open_nursery() as nursery:
                try:
                    with scope, trio.fail_after(PROVE_S):
                        link, name, channel = await self._prove(sock, nursery)
                    if not scope.cancelled_caught:
                        self._unproven.pop(sock, None)
                        await accepted(name.node, channel, link)
                except trio.TooSlowError:
                    self.troubles.note(source, "refused: it did not prove who it is in time")
                except PlatformError as exc:
                    self.troubles.note(source, f"refused: {exc.message} [{exc.code}]")
                nursery.cancel_scope.cancel()
        except* Exception as group:
            logger.error("a connection of %s failed", source, exc_info=group)
        finally:
            self._unproven.pop(sock, None)
            sock.close()

    async def _prove(
        self, sock: socket.socket, nursery: trio.Nursery
    ) -> tuple[Link, AgentName, str]:
        _tune(sock)
        return await self._transport.accept_channel(
            sock, nursery, _ROLES, _CHANNELS, outbox_bytes_max=MESH_OUTBOX_BYTES_MAX
        )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[host]:port"; raises `invalid`."""
    host, colon, digits = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else -1
    if not (colon and host and 0 <= port <= 65_535):
        expected = f"expected host:port, with an IPv6 address in brackets, not {address[:100]!r}"
        raise invalid("address", expected)
    return host, port


async def _resolve(host: str, port: int, *, passive: bool = False) -> list[tuple[Any, ...]]:
    """Where that is; numbers are not looked up."""
    return await trio.socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE if passive else 0
    )


async def _connect(host: str, port: int) -> socket.socket:
    """A connected socket; the places of a name are tried one after the other."""
    reason = "no answer"
    with trio.move_on_after(CONNECT_S):
        try:
            for family, kind, _, _, place in await _resolve(host, port):
                try:
                    return await _connect_to(family, kind, place)
                except OSError as exc:
                    reason = exc.strerror or str(exc)
        except OSError as exc:  # the name has no address
            reason = exc.strerror or str(exc)
    raise PlatformError("unavailable", f"nobody answers at {host}:{port}: {reason}")


async def _connect_to(family: int, kind: int, place: Any) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        _tune(sock)
        failed = sock.connect_ex(place)
        if failed == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
    except BaseException:
        sock.close()
        raise
    return sock


def _tune(sock: socket.socket) -> None:
    """No delay of small packets, and dead ends are found by the kernel."""
    tcp = socket.IPPROTO_TCP
    for level, option, value in (
        (tcp, socket.TCP_NODELAY, 1),
        (tcp, socket.TCP_USER_TIMEOUT, int(SILENCE_S * 1_000)),
        (tcp, socket.TCP_KEEPIDLE, KEEPALIVE_S),
        (tcp, socket.TCP_KEEPINTVL, KEEPALIVE_S),
        (tcp, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ):
        sock.setsockopt(level, option, value)
    with suppress(OSError):  # not every kernel knows it, and it only makes things quicker
        sock.setsockopt(tcp, _THIN_LINEAR_TIMEOUTS, 1)


def _source(sock: socket.socket) -> str:
    """Who calls, without the port, which differs each time."""
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return "an unknown address"


def _cannot_listen(host: str, port: int, exc: OSError) -> PlatformError:
    reason = exc.strerror or str(exc)
    return PlatformError("unavailable", f"cannot listen at {host}:{port}: {reason}")
