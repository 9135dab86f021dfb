"""Mutually authenticated streams: TLS on a connected socket, then who is there, then a link.

Both ends show a certificate of the cluster's authority and each checks the other's role before a
byte of any message is sent or believed (architecture §9).  The stream may be a UNIX socket on one
node or TCP between nodes; nothing above can tell the difference.
"""

from __future__ import annotations

import socket
from collections.abc import Set as AbstractSet

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.identity.names import AgentName
from paas.identity.tls import Identity, authenticate, client_context, server_context
from paas.identity.verify import Trust
from paas.rpc.link import StreamLink

HANDSHAKE_S = 10.0


class SecureTransport:
    """Turns sockets into authenticated links for one agent."""

    def __init__(self, identity: Identity, trust: Trust, clock: Clock) -> None:
        self._server = server_context(identity)
        self._client = client_context(identity)
        self._trust = trust
        self._clock = clock

    def renewed(self, identity: Identity) -> None:
        """Show another certificate from now on; connections that are open stay as they are."""
        self._server = server_context(identity)
        self._client = client_context(identity)

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
