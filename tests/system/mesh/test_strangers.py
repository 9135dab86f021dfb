"""Callers that are no hub of a known node of this cluster, and those that only look like one.

Each test has two honest hubs that are connected, lets a stranger do its worst at the port of one,
and looks whether the reason was told and whether the honest noticed anything.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

import pytest
import trio

from paas.assembly import mesh_network
from paas.base.errors import PlatformError
from paas.identity.tls import Identity, client_context
from paas.identity.verify import Trust
from paas.real.clock import SystemClock
from paas.rpc.mesh_hello import Hello, encode
from paas.rpc.mesh_limits import (
    MESH_OUTBOX_BYTES_MAX,
    RAFT_FRAME_BYTES_MAX,
    TROUBLE_BURST,
    UNPROVEN_MAX,
)
from paas.rpc.tls_link import TlsLink
from paas.rpc.transport import SecureTransport
from paas.testing.mesh_hubs import Authority, Hub, until
from paas.wire import codec
from paas.wire.frame import frame

pytestmark = pytest.mark.system


class Scene:
    """Two honest hubs, n2 and n3; n2 also knows an n1, which the tests play."""

    def __init__(self, hubs: Any, victim: Hub, other: Hub) -> None:
        self.hubs = hubs
        self.authority: Authority = hubs.authority
        self.nursery: trio.Nursery = hubs.nursery
        self.victim = victim
        self.other = other

    async def stream(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.victim.network.port)

    async def tls(
        self,
        identity: Identity | None = None,
        *,
        channel: str = "raft",
        trust: Trust | None = None,
    ) -> TlsLink:
        """The dialling side by hand, believing whoever answers."""
        me = identity or self.authority.identity("n1")
        transport = SecureTransport(me, trust or self.authority.trust, SystemClock())
        sock = (await self.stream()).socket
        plain = socket.socket(fileno=sock.detach())
        with trio.fail_after(20):
            link, _ = await transport.dial_channel(
                plain, self.nursery, {"hub"}, channel, outbox_bytes_max=MESH_OUTBOX_BYTES_MAX
            )
        return link

    async def greeted(self, channel: str = "raft") -> TlsLink:
        link = await self.tls(channel=channel)
        link.write(encode(Hello(versions=[1], cluster="c1", node="n1", channel=channel)))
        assert await link.read()
        return link

    async def unharmed(self) -> None:
        """The honest talk on the connections that they had."""
        with trio.fail_after(20):
            body = codec.pack("still here")
            assert await self.victim.peer("n3").call_raw("echo", body, 10.0) == body
        assert self.victim.frames.epochs["n3"] == [1]
        assert self.other.frames.epochs["n2"] == [1]
        await until(lambda: self.victim.network.unproven == 0)


@pytest.fixture
async def scene(hubs: Any) -> Scene:
    victim, other = await hubs.start("n2"), await hubs.start("n3")
    await hubs.connect()
    victim.mesh.set_peers({"n1": "127.0.0.1:9", "n3": other.address})
    return Scene(hubs, victim, other)


async def ended(stream: trio.abc.ReceiveStream) -> None:
    """Read to the end, however it comes."""
    with trio.fail_after(20):
        try:
            while await stream.receive_some(65_536):
                pass
        except trio.BrokenResourceError:
            return


async def link_ended(link: TlsLink) -> None:
    with trio.fail_after(20):
        try:
            while await link.read():
                pass
        except OSError:
            return


# -- before anybody is proven --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: n2\r\n\r\n", "http request"),
        (b"\x00" * 4096, "wrong version number"),
        (b'{"jsonrpc":"2.0","id":1,"method":"hub.call"}\n', "wrong version number"),
        (b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000, "packet length too long"),
        (b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00", "excessive message size"),
    ],
)
async def test_garbage_is_refused_with_a_reason(scene: Scene, said: bytes, reason: str) -> None:
    stream = await scene.stream()
    async with stream:
        try:
            await stream.send_all(said)
        except trio.BrokenResourceError:
            pass  # hung up on while still talking
        else:
            await ended(stream)
    await until(lambda: scene.victim.trouble(reason))
    await scene.unharmed()


async def test_one_who_says_nothing_or_little_is_ended_in_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_network, "PROVE_S", 0.4)
    silent, slow = await scene.stream(), await scene.stream()

    async def drip() -> None:
        try:
            for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500):
                await slow.send_all(bytes([byte]))
                await trio.sleep(0.05)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    scene.nursery.start_soon(drip)
    await ended(silent)
    await ended(slow)
    assert scene.victim.trouble("did not prove who it is in time")
    await scene.unharmed()


async def test_strangers_who_fill_all_places_keep_nobody_out(scene: Scene) -> None:
    streams = [await scene.stream() for _ in range(UNPROVEN_MAX * 3)]
    await until(lambda: scene.victim.trouble("the oldest is ended"))
    assert scene.victim.network.unproven <= UNPROVEN_MAX
    one = await scene.hubs.start("n1")
    one.mesh.set_peers({"n2": scene.victim.address})
    await until(lambda: one.mesh.connected() == ["n2"])
    for stream in streams[: UNPROVEN_MAX * 2]:
        await ended(stream)
    for stream in streams:
        await stream.aclose()
    await scene.unharmed()


async def test_many_strangers_cannot_fill_the_log(scene: Scene) -> None:
    for number in range(300):
        async with await scene.stream() as stream:
            await stream.send_all(b"\x16\x03" + bytes([number % 5]) * 64)
    await until(lambda: scene.victim.network.troubles.count >= 200)
    assert len(scene.victim.troubles) <= TROUBLE_BURST + 1
    await scene.unharmed()


async def test_no_certificate_is_refused(scene: Scene) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["paas-raft"])
    stream = trio.SSLStream(await scene.stream(), context)
    await stream.do_handshake()
    await ended(stream)
    await until(lambda: scene.victim.trouble("peer did not return a certificate"))
    await scene.unharmed()


async def test_an_older_version_of_tls_is_refused(scene: Scene) -> None:
    context = client_context(scene.authority.identity("n1"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    stream = trio.SSLStream(await scene.stream(), context)
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
    await until(lambda: scene.victim.trouble("unsupported protocol"))
    await scene.unharmed()


async def test_certificates_that_do_not_fit_are_refused(scene: Scene, foreign: Authority) -> None:
    """Of another authority, of another role, expired, not valid yet, of nobody we know."""
    authority = scene.authority
    own = authority.identity("n1")
    stolen = foreign.identity("n1")
    mixed = Identity(stolen.certificate_pem, stolen.key_pem, own.authority_pem)
    for identity, reason in (
        (mixed, "certificate is refused"),
        (authority.identity("n1", role="containers"), "role containers"),
        (authority.expired("n1"), "certificate has expired"),
        (authority.identity("n1", begins_in_s=3_600), "not yet valid"),
    ):
        link = await scene.tls(identity)
        link.write(encode(Hello(versions=[1], cluster="c1", node="n1", channel="raft")))
        await link_ended(link)
        await until(lambda reason=reason: scene.victim.trouble(reason))
    link = await scene.tls(authority.identity("n0"))
    link.write(encode(Hello(versions=[1], cluster="c1", node="n0", channel="raft")))
    assert b"n0 is not a node that n2 knows" in await link.read()
    await link_ended(link)
    assert scene.victim.mesh.connected() == ["n3"]
    await scene.unharmed()


async def test_a_dialler_believes_no_foreign_hub_either(
    scene: Scene, foreign: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger at the address of n4: of another authority, or honest but another node."""
    async with trio.open_nursery() as nursery:
        stranger = Hub(foreign, "n4")
        await nursery.start(stranger.mesh.run)
        scene.victim.mesh.set_peers({"n3": scene.other.address, "n4": stranger.address})
        await until(lambda: scene.victim.trouble("its certificate is refused"))
        scene.victim.mesh.set_peers({"n3": scene.other.address, "n4": scene.other.address})
        await until(lambda: scene.victim.trouble("is the hub of n3, not of n4"))
        nursery.cancel_scope.cancel()
    assert scene.victim.mesh.connected() == ["n3"]
    await scene.unharmed()


async def test_a_channel_that_is_not_offered_is_refused(scene: Scene) -> None:
    with suppress(PlatformError):  # with some versions of OpenSSL the handshake itself ends
        await link_ended(await scene.tls(channel="secrets"))
    await until(lambda: scene.victim.network.troubles.count == 1)
    context = client_context(scene.authority.identity("n1"))
    stream = trio.SSLStream(await scene.stream(), context)
    await stream.do_handshake()
    await ended(stream)
    await until(lambda: scene.victim.network.troubles.count == 2)
    await until(lambda: scene.victim.trouble("no channel that is offered"))
    await scene.unharmed()


async def test_a_replayed_session_is_refused(scene: Scene) -> None:
    """Every byte that an honest hub sent, sent once more."""
    recorded = bytearray()
    victim = scene.victim

    async def relay(client: trio.SocketStream) -> None:
        server = await scene.stream()

        async def back() -> None:
            async for data in server:
                await client.send_all(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(back)
            async for data in client:
                recorded.extend(data)
                await server.send_all(data)
            nursery.cancel_scope.cancel()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, relay, [listener])
        port = listener.socket.getsockname()[1]
        one = Hub(scene.authority, "n1")
        await nursery.start(one.mesh.run)
        one.mesh.set_peers({"n2": f"127.0.0.1:{port}"})
        await until(lambda: "n2" in one.frames.connected)
        one.mesh.raft().send("n2", b"once")
        await until(lambda: victim.frames.messages == [("n1", b"once")])
        nursery.cancel_scope.cancel()
    await until(lambda: victim.mesh.connected() == ["n3"])
    troubles = len(victim.troubles)
    stream = await scene.stream()
    with suppress(trio.BrokenResourceError):
        await stream.send_all(bytes(recorded))
    await ended(stream)
    await until(lambda: len(victim.troubles) > troubles)
    assert "refused: the handshake failed" in victim.troubles[-1][1]
    assert victim.frames.messages == [("n1", b"once")]
    await scene.unharmed()


# -- proven, and hostile all the same ------------------------------------------------------------


async def test_bytes_changed_on_the_way_end_the_connection(scene: Scene) -> None:
    link = await scene.greeted()
    link._socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody encrypted
    await link_ended(link)
    await until(lambda: scene.victim.trouble("bad record mac"))
    assert scene.victim.frames.messages == []
    await scene.unharmed()


@pytest.mark.parametrize(("channel", "limit"), [("raft", RAFT_FRAME_BYTES_MAX), ("hub", 4 << 20)])
async def test_a_frame_above_the_limit_is_refused(scene: Scene, channel: str, limit: int) -> None:
    link = await scene.greeted(channel)
    link.write((limit + 1).to_bytes(4, "big") + bytes(1000))
    await link_ended(link)
    await until(lambda: scene.victim.trouble(f"a frame of {limit + 1} bytes exceeds the limit"))
    await scene.unharmed()


async def test_a_frame_cut_off_by_the_end_is_dropped(scene: Scene) -> None:
    link = await scene.greeted()
    link.write(frame(b"whole") + frame(b"torn apart")[:-3])
    await trio.sleep(0.05)
    link.close()
    await until(lambda: "n1" not in scene.victim.frames.connected)
    assert scene.victim.frames.messages == [("n1", b"whole")]
    await scene.unharmed()


async def test_a_peer_that_never_reads_is_cut_off_and_costs_bounded_memory(scene: Scene) -> None:
    link = await scene.greeted()  # and never read again
    victim = scene.victim
    sent = most = 0
    with trio.fail_after(30):
        while "n1" in victim.frames.connected:
            victim.mesh.raft().send("n1", bytes(256 << 10))
            sent += 1
            connection = victim.mesh.statistics()["connections"].get("n1/raft", {})
            most = max(most, connection.get("queued_bytes", 0))
            await trio.lowlevel.checkpoint()
    assert sent > 30
    assert 4 << 20 < most <= MESH_OUTBOX_BYTES_MAX + (1 << 20)
    assert victim.trouble("raft: connection lost: it did not read")
    link.close()
    await scene.unharmed()


async def test_an_old_program_is_refused_and_told_why(scene: Scene) -> None:
    old = await scene.hubs.start("n1", versions=(0,))
    old.mesh.set_peers({"n2": scene.victim.address})
    text = "n1 speaks the mesh protocol 0, this side 1"
    await until(lambda: scene.victim.trouble(text) and old.trouble(f"n2 refuses: {text}"))
    await scene.unharmed()


async def test_a_stolen_node_name_cannot_be_used_from_the_other_side(scene: Scene) -> None:
    """A hub of n9 dials n2: n2 dials n9 itself if it knows it, and is dialled by no larger name."""
    nine = scene.authority.identity("n9")
    scene.victim.mesh.set_peers({"n3": scene.other.address, "n9": "127.0.0.1:9"})
    link = await scene.tls(nine)
    link.write(encode(Hello(versions=[1], cluster="c1", node="n9", channel="raft")))
    assert b"has the smaller name" in await link.read()
    link = await scene.tls(nine)
    link.write(encode(Hello(versions=[1], cluster="c1", node="n1", channel="raft")))
    assert b"has the smaller name" in await link.read()
    await scene.unharmed()
