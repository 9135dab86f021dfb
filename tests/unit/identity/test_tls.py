"""Mutual TLS between agents: who is let in, who is not, and what the refused one hears."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pytest
import trio
from cryptography import x509 as library
from cryptography.hazmat.primitives import serialization

from paas.base.errors import PlatformError
from paas.identity import keys, tls, x509
from paas.identity.names import AgentName
from paas.identity.tls import Identity
from paas.identity.verify import Trust

GREETING = b"welcome"
ALL = {"hub", "node", "containers"}


@dataclass
class Side:
    """What one end came to."""

    peer: AgentName | None = None
    error: Exception | None = None
    heard: bytes = b""
    raw: bytes = b""

    @property
    def reason(self) -> str:
        """The error with its causes, as a log would show it."""
        lines, exc = [], self.error
        while exc is not None:
            lines.append(str(exc))
            exc = exc.__cause__  # type: ignore[assignment]
        return " | ".join(lines)


class Recording(trio.abc.Stream):
    """A stream that keeps what it received."""

    def __init__(self, inner: trio.SocketStream, side: Side) -> None:
        self.inner = inner
        self.side = side

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self.inner.receive_some(max_bytes))
        self.side.raw += data
        return data

    async def aclose(self) -> None:
        await self.inner.aclose()


async def one_side(
    sock: socket.socket,
    context: ssl.SSLContext,
    trusted: Trust,
    now_ms: int,
    allowed: AbstractSet[str],
    side: Side,
    *,
    server: bool,
) -> None:
    """Handshake, authenticate, greet, listen; on the first failure close without a word."""
    transport = Recording(trio.SocketStream(trio.socket.from_stdlib_socket(sock)), side)
    stream = trio.SSLStream(transport, context, server_side=server)
    try:
        await stream.do_handshake()
        side.peer, _ = tls.authenticate(stream, trusted, now_ms, allowed)
        assert tls.peer_identity(stream) == side.peer
        await stream.send_all(GREETING)
        side.heard = bytes(await stream.receive_some(100))
    except (PlatformError, trio.BrokenResourceError) as exc:
        side.error = exc
    finally:
        await transport.aclose()


async def meet(
    world,
    server: Identity | ssl.SSLContext,
    client: Identity | ssl.SSLContext,
    *,
    server_allows: AbstractSet[str] = ALL,
    client_allows: AbstractSet[str] = ALL,
) -> tuple[Side, Side]:
    left, right = socket.socketpair()
    sides = Side(), Side()
    one = server if isinstance(server, ssl.SSLContext) else tls.server_context(server)
    two = client if isinstance(client, ssl.SSLContext) else tls.client_context(client)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for sock, context, allowed, side, accepts in (
                (left, one, server_allows, sides[0], True),
                (right, two, client_allows, sides[1], False),
            ):
                trusted, now_ms = world.trust, world.now_ms

                async def run(s=sock, c=context, t=trusted, n=now_ms, a=allowed, d=side, v=accepts):
                    await one_side(s, c, t, n, a, d, server=v)

                nursery.start_soon(run)
    return sides


def assert_refused(refuser: Side, refused: Side, reason: str) -> None:
    """The refuser knows why; the refused one hears no word and no alert that would tell."""
    assert refuser.error is not None
    assert reason in refuser.reason
    assert refused.heard == b""
    assert "alert" not in refused.reason.lower()
    assert reason.encode() not in refused.raw


async def test_agents_of_the_right_roles_meet_and_know_each_other(world) -> None:
    server, client = await meet(
        world,
        world.identity("hub"),
        world.identity("node"),
        server_allows={"node"},
        client_allows={"hub"},
    )
    assert (server.error, client.error) == (None, None)
    assert (server.peer, client.peer) == (world.name("node"), world.name("hub"))
    assert (server.heard, client.heard) == (GREETING, GREETING)


def bad_identities(world, make_world) -> dict[str, tuple[Identity, str]]:
    """Identities that nobody may believe, and the reason that the other side logs."""
    stranger = make_world(world.cluster)
    good = world.identity("hub")

    def with_our_trust(identity: Identity) -> Identity:
        return Identity(identity.certificate_pem, identity.key_pem, world.authority_pem)

    authority = Identity(
        world.authority_pem, keys.key_pem(world.authority.key), world.authority_pem
    )
    lone = Identity(
        stranger.authority_pem, keys.key_pem(stranger.authority.key), world.authority_pem
    )
    return {
        "of another authority": (
            with_our_trust(make_world("c2").identity("hub")),
            "certificate verify failed",
        ),
        "of another cluster with the same names": (
            with_our_trust(stranger.identity("hub")),
            "certificate verify failed",
        ),
        "expired": (
            world.identity("hub", begins_in_s=-7_200, life_s=3_600),
            "certificate has expired",
        ),
        "not yet valid": (world.identity("hub", begins_in_s=7_200), "not yet valid"),
        "self-signed": (lone, "certificate verify failed"),
        "the authority's own": (authority, "certificate verify failed"),
        "with a tampered name": (tampered(world), "certificate signature failure"),
        "of the wrong role": (world.identity("credentials"), "has the role credentials"),
        "marked as an authority": (authority_leaf(world), "authority is not the certificate"),
        "of a foreign name": (foreign(world), "permitted subtree violation"),
        "good": (good, ""),
    }


def tampered(world) -> Identity:
    """The name changed after it was signed, in all its forms."""
    key = keys.make_key()
    der = x509.certificate_der(world.leaf(world.name("node", "a1"), key))
    changed = library.load_der_x509_certificate(der.replace(b"agent/node/a1", b"agent/node/a2"))
    pem = changed.public_bytes(serialization.Encoding.PEM)
    return Identity(pem, keys.key_pem(key), world.authority_pem)


def authority_leaf(world) -> Identity:
    """Signed by our authority for an agent, but able to sign others."""
    key = keys.make_key()
    leaf = world.leaf(world.name("hub"), key)
    builder = library.CertificateBuilder(
        leaf.issuer,
        leaf.subject,
        key.public_key(),
        11,
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
    )
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, library.BasicConstraints):
            value = library.BasicConstraints(ca=True, path_length=0)
        if isinstance(value, library.KeyUsage):
            value = library.KeyUsage(True, False, False, False, False, True, False, False, False)
        builder = builder.add_extension(value, extension.critical)
    signed = builder.sign(world.authority.key, leaf.signature_hash_algorithm)
    return Identity(x509.certificate_pem(signed), keys.key_pem(key), world.authority_pem)


def foreign(world) -> Identity:
    """Our authority's signature under the name of another cluster."""
    key = keys.make_key()
    leaf = world.leaf(AgentName("c2", "n1", "hub", "a1"), key)
    return Identity(x509.certificate_pem(leaf), keys.key_pem(key), world.authority_pem)


BAD = [
    "of another authority",
    "of another cluster with the same names",
    "expired",
    "not yet valid",
    "self-signed",
    "the authority's own",
    "with a tampered name",
    "of the wrong role",
    "marked as an authority",
    "of a foreign name",
]


@pytest.mark.parametrize("case", BAD)
async def test_a_client_with_a_bad_certificate_is_refused(world, make_world, case: str) -> None:
    identity, reason = bad_identities(world, make_world)[case]
    server, client = await meet(world, world.identity("hub"), identity)
    assert_refused(server, client, reason)
    assert server.peer is None


@pytest.mark.parametrize("case", BAD)
async def test_a_server_with_a_bad_certificate_is_refused(world, make_world, case: str) -> None:
    identity, reason = bad_identities(world, make_world)[case]
    server, client = await meet(world, identity, world.identity("node"))
    assert_refused(client, server, reason)
    assert client.peer is None


async def test_a_client_without_a_certificate_is_refused(world) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(cadata=world.authority_pem.decode())
    server, client = await meet(world, world.identity("hub"), bare)
    assert_refused(server, client, "peer did not return a certificate")


async def test_a_client_that_only_speaks_older_tls_is_refused(world) -> None:
    old = tls.client_context(world.identity("node"))
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = await meet(world, world.identity("hub"), old)
    assert_refused(server, client, "unsupported protocol")


async def test_a_server_that_only_speaks_older_tls_is_refused(world) -> None:
    old = tls.server_context(world.identity("hub"))
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    _, client = await meet(world, old, world.identity("node"))
    assert client.error is not None
    assert client.peer is None


async def test_our_clock_decides_too_where_the_machine_s_would_still_accept(world) -> None:
    identity = world.identity("node", life_s=3_600)
    later = type(world)(world.cluster, world.authority, world.now_ms + 2 * 3_600_000)
    server, client = await meet(later, world.identity("hub"), identity)
    assert_refused(server, client, "the certificate has expired")


def test_a_missing_role_is_named(world) -> None:
    tls.require_role(world.name("hub"), {"hub", "node"})
    with pytest.raises(PlatformError) as caught:
        tls.require_role(world.name("containers"), {"hub", "node"})
    assert caught.value.code == "denied"
    assert caught.value.data["missing"] == ["hub", "node"]
    assert "has the role containers; the role hub or node is needed" in caught.value.message


class Shows:
    """The part of a TLS connection that names the peer."""

    def __init__(self, certificate: bytes | None) -> None:
        self.certificate = certificate

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        assert binary_form
        return self.certificate


@pytest.mark.parametrize("shown", [None, b"", b"garbage"])
def test_a_peer_without_a_readable_certificate_has_no_identity(world, shown) -> None:
    with pytest.raises(PlatformError) as caught:
        tls.peer_identity(Shows(shown))
    assert caught.value.code == "denied"
    with pytest.raises(PlatformError, match="refused"):
        tls.authenticate(Shows(shown), world.trust, world.now_ms, ALL)


def test_the_peer_identity_refuses_what_is_no_agent_s_certificate(world) -> None:
    with pytest.raises(PlatformError, match="authority is not"):
        tls.peer_identity(Shows(x509.certificate_der(world.authority.certificate)))


def test_no_key_stays_in_a_file_or_an_open_descriptor(world, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    tls.server_context(world.identity("hub"))
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert list(tmp_path.iterdir()) == []


def test_an_identity_does_not_show_its_key(world) -> None:
    assert "PRIVATE" not in repr(world.identity("hub"))


@pytest.mark.parametrize("part", ["certificate", "key", "authority"])
def test_a_broken_identity_makes_no_context(world, part: str) -> None:
    good = world.identity("hub")
    parts = {
        "certificate": good.certificate_pem,
        "key": good.key_pem,
        "authority": good.authority_pem,
        part: b"\xff garbage",
    }
    broken = Identity(parts["certificate"], parts["key"], parts["authority"])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PlatformError, match="identity"):
        tls.client_context(broken)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_key_of_another_certificate_makes_no_context(world) -> None:
    one, two = world.identity("hub"), world.identity("hub")
    with pytest.raises(PlatformError, match="identity"):
        tls.server_context(Identity(one.certificate_pem, two.key_pem, one.authority_pem))
