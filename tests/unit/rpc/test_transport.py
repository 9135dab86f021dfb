"""Mutual TLS under our links: who gets one, and messages through it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.identity import capabilities, keys, x509
from paas.identity.names import AgentName
from paas.identity.tls import Identity
from paas.identity.verify import Trust
from paas.real.clock import SystemClock
from paas.rpc import transport
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.rpc.link import StreamLink
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.transport import SecureTransport
from paas.wire import codec

DAY_S = 86_400


class Cluster:
    """An authority, and transports of agents that it vouches for."""

    def __init__(self, name: str = "c1") -> None:
        self.name = name
        key = keys.make_key()
        self.now_ms = int(time.time()) * 1_000
        certificate = x509.make_authority(
            name, key, serial=1, now_ms=self.now_ms - DAY_S * 1_000, life_s=30 * DAY_S
        )
        self.authority = x509.Authority(certificate, key)

    def identity(self, role: str) -> Identity:
        key = keys.make_key()
        leaf = x509.make_leaf(
            self.authority,
            AgentName(self.name, "n1", role, "a1"),
            key.public_key(),
            serial=7,
            now_ms=self.now_ms,
            life_s=DAY_S,
            capabilities=capabilities.OF_ROLE.get(role, frozenset()),
        )
        return Identity(
            x509.certificate_pem(leaf),
            keys.key_pem(key),
            x509.certificate_pem(self.authority.certificate),
        )

    def transport(self, role: str) -> SecureTransport:
        trust = Trust(self.name, (self.authority.certificate,))
        return SecureTransport(self.identity(role), trust, SystemClock())


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster()


@dataclass
class Side:
    """What one end came to."""

    link: StreamLink | None = None
    name: AgentName | None = None
    error: PlatformError | None = None


async def meet(
    nursery: trio.Nursery,
    server: SecureTransport,
    client: SecureTransport,
    server_allows: AbstractSet[str],
    client_allows: AbstractSet[str],
) -> tuple[Side, Side, tuple[socket.socket, socket.socket]]:
    socks = socket.socketpair()
    sides = Side(), Side()

    async def one(method: Any, sock: socket.socket, allowed: AbstractSet[str], side: Side) -> None:
        try:
            side.link, side.name = await method(sock, nursery, allowed)
        except PlatformError as exc:
            side.error = exc

    with trio.fail_after(30):
        async with trio.open_nursery() as both:
            both.start_soon(one, server.accept, socks[0], server_allows, sides[0])
            both.start_soon(one, client.dial, socks[1], client_allows, sides[1])
    return *sides, socks


async def test_the_right_roles_meet_and_messages_go_both_ways(cluster: Cluster) -> None:
    def echo(peer: Peer, request: Request) -> None:
        peer.reply(request, request.params)

    async with trio.open_nursery() as nursery:
        server, client, _ = await meet(
            nursery,
            cluster.transport("containers"),
            cluster.transport("hub"),
            {"hub"},
            {"containers"},
        )
        assert (server.error, client.error) == (None, None)
        assert server.name is not None
        assert client.name is not None
        assert (server.name.subsystem, client.name.subsystem) == ("hub", "containers")
        peers = []
        for side in (server, client):
            assert side.link is not None
            sweeper = Sweeper()
            nursery.start_soon(sweeper.run)
            peer = Peer(side.link, Connection(Form.COMPACT), sweeper, echo)
            nursery.start_soon(peer.run)
            peers.append(peer)
        body = codec.pack({"x": "y" * 300_000})
        for peer in peers:
            assert await peer.call_raw("t.echo", body, 20.0) == body
        peers[0].close()
        with pytest.raises(PlatformError) as caught:
            await peers[1].call_raw("t.echo", body, 20.0)
        assert caught.value.code in ("unknown-outcome", "not-available")
        nursery.cancel_scope.cancel()


async def test_a_wrong_role_is_refused_by_the_server(cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        server, _, socks = await meet(
            nursery,
            cluster.transport("containers"),
            cluster.transport("node"),
            {"hub"},
            {"containers"},
        )
        assert server.error is not None
        assert server.error.code == "denied"
        assert "role node" in server.error.message
        assert socks[0].fileno() == -1, "the connection is closed"
        nursery.cancel_scope.cancel()


async def test_a_wrong_role_is_refused_by_the_client(cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        _, client, socks = await meet(
            nursery, cluster.transport("node"), cluster.transport("hub"), {"hub"}, {"containers"}
        )
        assert client.error is not None
        assert client.error.code == "denied"
        assert socks[1].fileno() == -1
        nursery.cancel_scope.cancel()


async def test_a_stranger_s_certificate_is_refused(cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        server, client, _ = await meet(
            nursery,
            cluster.transport("containers"),
            Cluster().transport("hub"),
            {"hub"},
            {"containers"},
        )
        for side in (server, client):
            assert side.link is None
            assert side.error is not None
            assert side.error.code == "denied"
        nursery.cancel_scope.cancel()


async def test_a_client_without_a_certificate_is_refused(cluster: Cluster) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    near, far = socket.socketpair()
    refused: list[PlatformError] = []

    async def accept(nursery: trio.Nursery) -> None:
        with pytest.raises(PlatformError) as caught:
            await cluster.transport("containers").accept(near, nursery, {"hub"})
        refused.append(caught.value)

    async def dial() -> None:
        stream = trio.SSLStream(trio.SocketStream(trio.socket.from_stdlib_socket(far)), context)
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.do_handshake()
            assert await stream.receive_some(100) == b""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery)
        nursery.start_soon(dial)
    assert refused[0].code == "denied"
    assert "certificate" in refused[0].message


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\xff\xff" * 9])
async def test_who_speaks_no_tls_is_refused(cluster: Cluster, said: bytes) -> None:
    near, far = socket.socketpair()
    far.send(said)
    far.shutdown(socket.SHUT_WR)
    async with trio.open_nursery() as nursery:
        with pytest.raises(PlatformError) as caught:
            await cluster.transport("containers").accept(near, nursery, {"hub"})
    assert caught.value.code == "denied"
    assert near.fileno() == -1
    far.close()


async def test_who_says_nothing_is_refused_after_a_while(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "HANDSHAKE_S", 0.05)
    near, far = socket.socketpair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(PlatformError) as caught:
            await cluster.transport("containers").accept(near, nursery, {"hub"})
    assert caught.value.code == "denied"
    far.close()


async def test_a_cancelled_handshake_leaves_no_socket(cluster: Cluster) -> None:
    near, far = socket.socketpair()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.05):
            await cluster.transport("hub").dial(near, nursery, {"containers"})
    assert near.fileno() == -1
    far.close()


async def test_a_renewed_identity_is_shown_from_then_on(cluster: Cluster) -> None:
    server, client = cluster.transport("containers"), cluster.transport("node")
    async with trio.open_nursery() as nursery:
        side, _, _ = await meet(nursery, server, client, {"hub"}, {"containers"})
        assert side.error is not None
        client.renewed(cluster.identity("hub"))
        side, _, _ = await meet(nursery, server, client, {"hub"}, {"containers"})
        assert side.error is None
        nursery.cancel_scope.cancel()
