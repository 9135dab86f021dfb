"""Connections to the world: names to addresses, the addresses judged, TLS, and connections kept.

A connection goes to an address that was judged, never to a name.  Of several addresses the
permitted ones are tried in order; when none is, nothing is connected to.  Answered connections are
kept a while for the next request to the same origin.  (io)
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from paas.base.errors import PlatformError
from paas.fetcher import addresses, limits
from paas.fetcher.http1 import State
from paas.fetcher.settings import Settings
from paas.fetcher.trouble import trouble
from paas.fetcher.urls import Url

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""From name and port to addresses, the best first; raises OSError."""

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(slots=True)
class Wire:
    """One connection."""

    origin: tuple[str, str, int]
    address: str
    stream: trio.abc.Stream
    socket: trio.SocketStream
    state: State | None = None
    """Of the exchanges so far."""
    idle_since: float = 0.0
    reused: bool = False


async def system_resolver(host: str, port: int) -> list[str]:
    """As the machine resolves names."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


def tls_context(authorities: str = "") -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and name checked."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authorities:
        context.load_verify_locations(authorities)
    return context


class Transport:
    """See the module's text."""

    def __init__(self, settings: Settings, resolver: Resolver = system_resolver) -> None:
        self._settings = settings
        self._resolve = resolver
        self._context: ssl.SSLContext | None = None
        self._idle: list[Wire] = []
        self.dialled = 0
        self.reused = 0

    async def open(self, url: Url, *, foreign: bool, fresh: bool) -> Wire:
        """A connection to the server of `url`.

        `foreign`: a redirect from another origin leads there; `fresh`: none that was used before.
        Raises PlatformError with the reasons of `trouble`.
        """
        if not self._settings.port_allowed(url.port):
            raise trouble("port-refused", f"port {url.port} is not one of HTTP", field="url")
        if not url.secure and not self._settings.plain:
            raise trouble("plain-refused", "only https:// is allowed here", field="url")
        inside_too = not foreign or self._settings.private_redirects
        wire = None if fresh else self._kept(url, inside_too)
        if wire is not None:
            self.reused += 1
            return wire
        self.dialled += 1
        return await self._dial(url, await self._addresses(url, inside_too))

    def keep(self, wire: Wire, state: State | None) -> None:
        """The exchange is over; `state` is None when there can be no other."""
        if state is None:
            self.drop(wire)
            return
        wire.state, wire.idle_since, wire.reused = state, trio.current_time(), True
        self._idle.append(wire)
        while len(self._idle) > limits.IDLE_CONNECTIONS_MAX:
            self.drop(self._idle.pop(0))

    def drop(self, wire: Wire) -> None:
        """Close at once, without the courtesies of TLS."""
        wire.socket.socket.close()

    def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            self.drop(self._idle.pop())

    def _kept(self, url: Url, inside_too: bool) -> Wire | None:
        """The youngest connection to this origin that nothing has come from since."""
        oldest = trio.current_time() - limits.IDLE_CONNECTION_S
        while self._idle and self._idle[0].idle_since < oldest:
            self.drop(self._idle.pop(0))
        for position in range(len(self._idle) - 1, -1, -1):
            wire = self._idle[position]
            if wire.origin != url.origin:
                continue
            if not inside_too and addresses.is_inside(wire.address):
                continue
            del self._idle[position]
            if wire.socket.socket.is_readable():
                self.drop(wire)  # its end, or an answer to nothing
                continue
            return wire
        return None

    async def _addresses(self, url: Url, inside_too: bool) -> list[str]:
        try:
            with trio.fail_after(limits.RESOLVE_S):
                found = await self._resolve(url.host, url.port)
        except (OSError, UnicodeError, trio.TooSlowError):
            raise trouble("name", f"the name {url.host} cannot be resolved") from None
        permitted = [one for one in found if addresses.permitted(one, self._settings.private)]
        if found and not permitted:
            raise trouble(
                "address-refused",
                f"{url.host} is at {found[0]}, which is not of the Internet",
                hint="a network inside can be allowed in the settings of the fetcher (private)",
                field="url",
            )
        reachable = [one for one in permitted if inside_too or not addresses.is_inside(one)]
        if permitted and not reachable:
            raise trouble(
                "private-redirect", f"a redirect leads to {url.host}, inside of the network"
            )
        if not reachable:
            raise trouble("name", f"the name {url.host} has no address")
        return reachable[: limits.ADDRESSES_MAX]

    async def _dial(self, url: Url, found: list[str]) -> Wire:
        """The first address that answers; each has its share of the time."""
        error: PlatformError | None = None
        each_s = max(limits.CONNECT_S / len(found), 2.0)
        for address in found:
            try:
                with trio.fail_after(each_s):
                    return await self._connect(url, address)
            except ssl.SSLError as exc:
                what = getattr(exc, "verify_message", "") or exc.reason or "no TLS"
                error = trouble("tls", f"{url.host}: {str(what)[:120]}")
            except ssl.CertificateError as exc:
                error = trouble("tls", f"{url.host}: {str(exc)[:120]}")
            except (*BROKEN, trio.TooSlowError) as exc:
                tls = exc.__cause__ if isinstance(exc.__cause__, ssl.SSLError) else None
                if tls is not None:
                    what = getattr(tls, "verify_message", "") or tls.reason or "no TLS"
                    error = trouble("tls", f"{url.host}: {str(what)[:120]}")
                else:
                    error = trouble("connect", f"{url.authority} cannot be reached at {address}")
        assert error is not None
        raise error

    async def _connect(self, url: Url, address: str) -> Wire:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            await sock.connect((address, url.port))
            plain = trio.SocketStream(sock)
            stream: trio.abc.Stream = plain
            if url.secure:
                if self._context is None:
                    self._context = tls_context(self._settings.authorities)
                secure = trio.SSLStream(
                    plain, self._context, server_hostname=url.host, https_compatible=True
                )
                await secure.do_handshake()
                stream = secure
        except BaseException:
            sock.close()
            raise
        return Wire(url.origin, address, stream, plain)
