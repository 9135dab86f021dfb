"""Mutually authenticated streams: TLS on a connected socket, then who is there, then a link.

Both ends show a certificate of the cluster's authority and each checks the other's role before a
byte of any message is sent or believed (architecture §9).  The stream may be a UNIX socket on one
node or TCP between nodes; nothing above can tell the difference.

A channel is what a connection is for.  It is named in the handshake itself (ALPN, RFC 7301), so it
costs no further round trip, and a caller for a channel that is not offered is refused before
anybody reads from it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Set as AbstractSet

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.identity.names import AgentName
from paas.identity.tls import Identity, authenticate, client_context, server_context
from paas.identity.verify import Trust
from paas.rpc.link import StreamLink
from paas.rpc.tls_link import TlsLink, describe

HANDSHAKE_S = 10.0

_CHANNEL = "paas-"
"""What the names of our channels begin with in the handshake."""


class SecureTransport:
    """Turns sockets into authenticated links for one agent."""

    def __init__(self, identity: Identity, trust: Trust, clock: Clock) -> None:
        self._server = server_context(identity)
        self._client = client_context(identity)
        self._identity = identity
        self._channels: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._trust = trust
        self._clock = clock

    def renewed(self, identity: Identity) -> None:
        """Show another certificate from now on; connections that are open stay as they are."""
        self._server = server_context(identity)
        self._client = client_context(identity)
        self._identity = identity
        self._channels.clear()

    @property
    def identity(self) -> Identity:
        """What is shown at present."""
        return self._identity

    async def accept(
        self, sock: socket.socket, nursery: trio.Nursery, allowed: AbstractSet[str]
    ) -> tuple[StreamLink, AgentName]:
        """The accepting side; raises `denied` with the reason (for our log, not for the peer)."""
        return await self._secure(sock, nursery, allowed, server_side=True)

    async def dial(
        self, sock: socket.socket, nursery: trio.Nursery, allowed: AbstractSet[str]
    ) -> tuple[StreamLink, AgentName]:
        """The dialling side."""
        return await self._secure(sock, nursery, allowed, server_side=False)

    async def _secure(
        self,
        sock: socket.socket,
        nursery: trio.Nursery,
        allowed: AbstractSet[str],
        *,
        server_side: bool,
    ) -> tuple[StreamLink, AgentName]:
        sock.setblocking(False)
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        context = self._server if server_side else self._client
        stream = trio.SSLStream(plain, context, server_side=server_side, https_compatible=True)
        try:
            with trio.fail_after(HANDSHAKE_S):
                await stream.do_handshake()
            name, _ = authenticate(stream, self._trust, self._clock.now_ms(), allowed)
        except BaseException as exc:
            sock.close()
            if not isinstance(exc, trio.BrokenResourceError | trio.TooSlowError | OSError):
                raise
            cause = exc.__cause__ or exc
            raise PlatformError("denied", f"the handshake failed: {cause}") from None
        return StreamLink(stream, nursery), name

    async def accept_channel(
        self,
        sock: socket.socket,
        nursery: trio.Nursery,
        allowed: AbstractSet[str],
        channels: tuple[str, ...],
        *,
        outbox_bytes_max: int,
    ) -> tuple[TlsLink, AgentName, str]:
        """The accepting side of one of `channels`: the link, who it is, and which channel.

        Raises `denied` with the reason (for our log), `unavailable` when the caller went away.
        The caller of this method bounds the time.
        """
        context = self._context("accept", channels)
        link = TlsLink(sock, context, nursery, server_side=True, outbox_bytes_max=outbox_bytes_max)
        name = await self._prove(link, allowed)
        chosen = link.session.selected_alpn_protocol() or ""
        if not chosen.startswith(_CHANNEL):
            link.close()
            raise PlatformError("denied", "it asks for no channel that is offered")
        return link, name, chosen.removeprefix(_CHANNEL)

    async def dial_channel(
        self,
        sock: socket.socket,
        nursery: trio.Nursery,
        allowed: AbstractSet[str],
        channel: str,
        *,
        outbox_bytes_max: int,
    ) -> tuple[TlsLink, AgentName]:
        """The dialling side; raises as `accept_channel` does."""
        context = self._context("dial", (channel,))
        link = TlsLink(sock, context, nursery, server_side=False, outbox_bytes_max=outbox_bytes_max)
        return link, await self._prove(link, allowed)

    def _context(self, side: str, channels: tuple[str, ...]) -> ssl.SSLContext:
        """The context that offers these channels with the certificate of now."""
        context = self._channels.get((side, *channels))
        if context is None:
            make = server_context if side == "accept" else client_context
            context = self._channels[side, *channels] = make(self._identity)
            context.set_alpn_protocols([_CHANNEL + channel for channel in channels])
        return context

    async def _prove(self, link: TlsLink, allowed: AbstractSet[str]) -> AgentName:
        """The handshake, and who is there; the link is closed when anything is wrong."""
        try:
            await link.handshake()
            name, _ = authenticate(link.session, self._trust, self._clock.now_ms(), allowed)
        except ssl.SSLError as exc:
            link.close()
            raise PlatformError("denied", f"the handshake failed: {describe(exc)}") from None
        except OSError as exc:
            link.close()
            raise PlatformError("unavailable", f"the handshake failed: {describe(exc)}") from None
        except BaseException:
            link.close()
            raise
        return name
