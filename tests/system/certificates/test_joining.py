"""Joining over real sockets: a manager with the key, a hub's listener, machines that want in."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from paas.assembly.certificates import ManagerFiles
from paas.base.errors import PlatformError
from paas.certificates import client, join_client, messages
from paas.certificates.join_client import JoinedCluster
from paas.certificates.join_state import JoinTokenState, new_token
from paas.certificates.joining import JoinService
from paas.certificates.limits import JOIN_CONNECTIONS_MAX, JOIN_REQUEST_BYTES_MAX
from paas.certificates.node_chain import NodeChain
from paas.certificates.server import serve_joining
from paas.certificates.state import Store
from paas.identity import join_tokens, keys, tls, x509
from paas.identity.names import AgentName
from paas.identity.tls import Identity
from paas.identity.verify import trust
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.rpc.client import connected, refuse_requests
from paas.rpc.envelope import Form
from paas.rpc.link import StreamLink

pytestmark = pytest.mark.system

CLOCK = SystemClock()
ENTROPY = SystemEntropy()
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
MANAGER_UID = 54_321


class Hub:
    """A hub's part in joining: the state, the service, the listener on 127.0.0.1."""

    def __init__(self, manager, identity: Identity, fingerprint: str) -> None:
        self.manager = manager
        self.identity = identity
        self.fingerprint = fingerprint
        self.state = JoinTokenState()
        self.machine = Machine([self.state])
        self.index = 0
        self.notices: list[tuple[str, dict[str, object]]] = []
        self.port = 0
        self.service = JoinService(
            "c1",
            propose=self.propose,
            certify=partial(client.certify_node, manager.socket_path),
            peers=lambda: {"n1": "192.0.2.1:7000"},
            check=lambda node, key, address: None,
            clock=CLOCK,
            notice=self.notice,
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.notices]

    def notice(self, event: str, **fields: object) -> None:
        self.notices.append((event, fields))

    async def propose(self, command: object, *, ago_s: int = 0) -> object:
        await trio.lowlevel.checkpoint()
        self.index += 1
        time_ms = CLOCK.now_ms() - ago_s * 1_000
        stamp = Stamp(time_ms, ENTROPY.bytes(16), "hub", self.index)
        applied = self.machine.apply(self.index, encode(command, stamp))
        if applied.error is not None:
            raise applied.error
        return applied.result

    async def token(self, *, ago_s: int = 0, life_s: int = 600, authority: str = "") -> str:
        text, command = new_token(
            ENTROPY.bytes(join_tokens.ENTROPY_BYTES),
            authority or self.fingerprint,
            now_ms=CLOCK.now_ms() - ago_s * 1_000,
            life_s=life_s,
        )
        await self.propose(command, ago_s=ago_s)
        return text


@asynccontextmanager
async def hub_of(manager) -> AsyncIterator[Hub]:
    """A running manager with a hub that listens for machines that join."""
    manager.start()
    about = await client.authority(manager.socket_path)
    name = AgentName("c1", "n1", "hub", "h1")
    token = (await client.mint_token(manager.socket_path, name)).token
    identity = await client.obtain(manager.socket_path, token, name, clock=CLOCK)
    hub = Hub(manager, identity, about.fingerprint)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.setblocking(False)
    hub.port = listener.getsockname()[1]
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    serve_joining,
                    listener,
                    lambda: tls.join_server_context(hub.identity),
                    hub.service,
                    clock=CLOCK,
                    notice=hub.notice,
                )
            )
            yield hub
            nursery.cancel_scope.cancel()


async def join(hub: Hub, token: str, directory: Path, node: str = "n2") -> JoinedCluster:
    return await client.join(
        hub.address,
        token,
        node=node,
        listen_address="192.0.2.2:7000",
        files=SystemFiles(str(directory)),
        clock=CLOCK,
    )


async def error_of(hub: Hub, token: str, directory: Path, **more) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await join(hub, token, directory, **more)
    return caught.value


async def join_as_process(hub: Hub, token: str, directory: Path, **more: object) -> dict:
    arguments = {
        "address": hub.address,
        "node": "n2",
        "listen": "192.0.2.2:7000",
        "directory": str(directory),
        "uid": MANAGER_UID,
        **more,
    }
    done = await trio.run_process(
        [sys.executable, str(HERE / "join_process.py"), json.dumps(arguments)],
        stdin=token.encode() + b"\n",
        capture_stdout=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


# -- what works ----------------------------------------------------------------------------------


async def test_a_machine_joins_and_its_agents_talk_to_the_cluster_s(manager, make_manager) -> None:
    async with hub_of(manager) as hub:
        other = make_manager()
        answer = await join_as_process(hub, await hub.token(), other.directory)
        assert answer == {"cluster": "c1", "node": "n2", "peers": {"n1": "192.0.2.1:7000"}}
        files = sorted(path.name for path in other.directory.iterdir())
        assert files == ["issued", "node-authority.pem", "node-key.pem"]
        for path in (other.directory, *other.directory.iterdir()):
            facts = path.stat()
            wanted = 0o700 if path.is_dir() else 0o600
            assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (wanted, MANAGER_UID)
        other.start(node="n2", may_begin=False)
        about = await client.authority(other.socket_path)
        assert (about.holder, about.fingerprint) == (False, hub.fingerprint)
        name = AgentName("c1", "n2", "hub", "h2")
        token = (await client.mint_token(other.socket_path, name)).token
        theirs = await client.obtain(other.socket_path, token, name, clock=CLOCK)
        assert await who_meets(hub.identity, theirs) == [name, AgentName("c1", "n1", "hub", "h1")]


async def who_meets(one: Identity, two: Identity) -> list[AgentName]:
    near, far = socket.socketpair()
    seen: dict[bool, AgentName] = {}

    async def side(sock: socket.socket, mine: Identity, accepts: bool) -> None:
        context = tls.server_context(mine) if accepts else tls.client_context(mine)
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        stream = trio.SSLStream(plain, context, server_side=accepts)
        await stream.do_handshake()
        trusted = trust("c1", [mine.authority_pem])
        seen[accepts], _ = tls.authenticate(stream, trusted, CLOCK.now_ms(), {"hub"})
        await stream.send_all(b"x")
        await stream.receive_some(1)
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, near, one, True)
        nursery.start_soon(side, far, two, False)
    return [seen[True], seen[False]]


async def test_of_twenty_with_one_token_one_gets_in(manager, tmp_path: Path) -> None:
    async with hub_of(manager) as hub:
        token = await hub.token()
        won: list[str] = []
        lost: list[str] = []

        async def race(number: int) -> None:
            # The listener takes sixteen at a time; who finds it full knocks again.
            while True:
                try:
                    joined = await join(hub, token, tmp_path / str(number), f"x{number}")
                    return won.append(joined.node)
                except PlatformError as exc:
                    if exc.code != "unavailable":
                        return lost.append(exc.code)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(race, number)
        assert len(won) == 1
        assert len(lost) == 19
        assert set(lost) <= {"denied", "limit-exceeded"}
        holders = [n for n in range(20) if (tmp_path / str(n) / "node-authority.pem").exists()]
        assert [f"x{number}" for number in holders] == won


async def test_an_answer_that_was_lost_is_given_again(manager, tmp_path: Path) -> None:
    async with hub_of(manager) as hub, trio.open_nursery() as nursery:
        cut = Cut(hub)
        nursery.start_soon(cut.run)
        token = await hub.token()
        upstream, hub.port = hub.port, cut.port
        joined = await join(hub, token, tmp_path)
        hub.port = upstream
        assert joined.node == "n2"
        assert cut.losses == 1
        assert hub.events.count("node-joined") == 2
        assert (await error_of(hub, token, tmp_path / "other")).code == "denied"
        nursery.cancel_scope.cancel()


class Cut:
    """A relay before the hub that breaks the first connection when its answer comes."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.upstream = hub.port
        self.losses = 0
        self.listener = trio.socket.from_stdlib_socket(socket.create_server(("127.0.0.1", 0)))
        self.port = self.listener.getsockname()[1]

    async def run(self) -> None:
        await trio.serve_listeners(self.relay, [trio.SocketListener(self.listener)])

    async def relay(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self.upstream)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self.forward, near, far, nursery)
            await self.back(far, near)
            nursery.cancel_scope.cancel()

    async def forward(self, source, target, nursery: trio.Nursery) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except trio.BrokenResourceError:
            nursery.cancel_scope.cancel()

    async def back(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for data in source:
            if "node-joined" in self.hub.events and not self.losses:
                self.losses += 1
                return
            await target.send_all(data)


async def test_a_node_s_authority_is_renewed_through_the_holder(manager, make_manager) -> None:
    async with hub_of(manager) as hub:
        other = make_manager()
        await join_as_process(hub, await hub.token(), other.directory)
        made_older(manager.directory, other.directory)
        other.start(node="n2", may_begin=False)
        old = await client.authority(other.socket_path)

        async def certify(request: str) -> str:
            return await client.certify_node(manager.socket_path, request, "n2")

        assert await client.renew_node_authority(other.socket_path, certify)
        assert not await client.renew_node_authority(other.socket_path, certify)
        new = await client.authority(other.socket_path)
        assert new.node_end_ms > old.node_end_ms + 86_400_000 * 190


def made_older(holder: Path, node: Path) -> None:
    """Replace a node's authority by one of 200 days ago, for the same key."""
    root = Store(SystemFiles(str(holder))).load_authority()
    store = Store(ManagerFiles(str(node), MANAGER_UID))
    key = store.load_node_key()
    assert root is not None
    assert key is not None
    ago_ms = CLOCK.now_ms() - 200 * 86_400_000
    certificate = x509.make_node_authority(
        root, "c1", "n2", key.public_key(), serial=4, now_ms=ago_ms, life_s=365 * 86_400
    )
    store.save_node_chain(NodeChain(certificate, root.certificate))


@pytest.mark.parametrize("ahead_s", [60, -60])
async def test_a_clock_that_is_a_minute_off_does_no_harm(manager, make_manager, ahead_s) -> None:
    async with hub_of(manager) as hub:
        place = make_manager().directory
        assert (await join_as_process(hub, await hub.token(), place, ahead_s=ahead_s))[
            "node"
        ] == "n2"


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [600, -600])
async def test_a_clock_that_is_ten_minutes_off_is_named(manager, make_manager, ahead_s) -> None:
    async with hub_of(manager) as hub:
        token, place = await hub.token(), make_manager().directory
        answer = await join_as_process(hub, token, place, ahead_s=ahead_s)
        assert answer["code"] == "refused"
        assert "the clocks differ: this node's clock is" in answer["message"]
        assert ("ahead of" if ahead_s > 0 else "behind") in answer["message"]
        assert "NTP" in answer["hint"]
        assert (await join_as_process(hub, token, place))["node"] == "n2"


async def test_wrong_used_expired_and_garbled_tokens_are_refused(manager, tmp_path: Path) -> None:
    async with hub_of(manager) as hub:
        used = await hub.token()
        await join(hub, used, tmp_path / "first")
        expired = await hub.token(ago_s=700, life_s=600)
        good = await hub.token()
        wrong = good[:23] + ("0" * 32) + good[55:]
        errors = [await error_of(hub, text, tmp_path / "x") for text in (used, expired, wrong)]
        assert {(e.code, e.message) for e in errors} == {("denied", errors[0].message)}
        reasons = [fields["reason"] for event, fields in hub.notices if event == "join-refused"]
        assert reasons == [
            "the token was used by the node n2",
            "an expired token",
            "a token with a wrong secret",
        ]
        for garbled in (good[:-1], good.upper(), "x"):
            assert (await error_of(hub, garbled, tmp_path / "x")).data == {"field": "token"}
        await join(hub, good, tmp_path / "x", "n3")


async def test_a_foreign_cluster_hears_nothing_of_the_token(manager, tmp_path: Path) -> None:
    async with hub_of(manager) as hub:
        foreign = await hub.token(authority="ab" * 32)
        error = await error_of(hub, foreign, tmp_path)
        assert error.code == "untrusted"
        assert "nothing was sent" in error.message
        assert hub.notices == []


async def test_nobody_at_the_address_is_said_so(manager, tmp_path: Path) -> None:
    async with hub_of(manager) as hub:
        token = await hub.token()
        hub.port = 1
        error = await error_of(hub, token, tmp_path)
        assert error.code == "unavailable"
        assert "127.0.0.1:1" in error.message


async def test_another_version_is_named(manager, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(join_client, "JOIN_PROTOCOL", 2)
    async with hub_of(manager) as hub:
        error = await error_of(hub, await hub.token(), tmp_path)
        assert error.code == "unsupported"
        assert "version 1" in error.message


async def test_a_name_that_is_the_holder_s_is_refused(manager, tmp_path: Path) -> None:
    async with hub_of(manager) as hub:
        error = await error_of(hub, await hub.token(), tmp_path, node="n1")
        assert error.code == "conflict"


async def test_a_full_disk_is_said_and_the_joining_can_be_repeated(manager, tmp_path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    await trio.run_process(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(place)])
    try:
        async with hub_of(manager) as hub:
            token = await hub.token()
            (place / "filler").write_bytes(b"x" * 12_288)
            assert (await error_of(hub, token, place)).code == "storage-full"
            assert not (place / "node-authority.pem").exists()
            (place / "filler").unlink()
            await join(hub, token, place)
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["umount", str(place)])


def test_files_for_the_manager_are_closed_before_they_are_written(tmp_path: Path) -> None:
    place = tmp_path / "certificates"
    files = ManagerFiles(str(place), MANAGER_UID)
    file = files.open("node-key.pem", create=True)
    facts = (place / "node-key.pem").stat()
    assert (facts.st_size, facts.st_uid, stat.S_IMODE(facts.st_mode)) == (0, MANAGER_UID, 0o600)
    file.close()
    (place / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        files.open("link", create=True)


# -- the listener among strangers ----------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"\xff" * 200_000, b""],
)
async def test_who_speaks_no_tls_is_dropped_and_others_are_served(manager, tmp_path, said) -> None:
    async with hub_of(manager) as hub:
        stranger = await trio.open_tcp_stream("127.0.0.1", hub.port)
        with suppress(trio.BrokenResourceError):
            await stream_all(stranger, said)
        assert (await join(hub, await hub.token(), tmp_path)).node == "n2"
        await trio.aclose_forcefully(stranger)


async def stream_all(stream: trio.SocketStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()
    while await stream.receive_some():
        pass


@asynccontextmanager
async def stranger_of(hub: Hub) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    plain = await trio.open_tcp_stream("127.0.0.1", hub.port)
    stream = trio.SSLStream(plain, tls.join_client_context(), https_compatible=True)
    await stream.do_handshake()
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def test_who_says_too_much_is_cut_off(manager, tmp_path: Path) -> None:
    async with hub_of(manager) as hub, stranger_of(hub) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await flood(stream)
        assert (await join(hub, await hub.token(), tmp_path)).node == "n2"


async def flood(stream: trio.SSLStream[trio.SocketStream]) -> None:
    """A frame that announces more than may come, and more than it announced."""
    await stream.send_all((1 << 20).to_bytes(4, "big"))
    for _ in range(10_000):
        await stream.send_all(b"\x80" * JOIN_REQUEST_BYTES_MAX)


async def test_one_request_a_connection_is_answered(manager) -> None:
    async with hub_of(manager) as hub, stranger_of(hub) as stream:
        async with connected(
            lambda nursery: StreamLink(stream, nursery), refuse_requests, Form.MSGPACK
        ) as peer:
            params = messages.Join(
                token="x", node="n2", request="", address="a:1", time_ms=0, protocol=1
            )
            codes = []
            for method in (messages.JOIN, messages.JOIN, messages.MINT_TOKEN):
                with pytest.raises(PlatformError) as caught:
                    await peer.call(method, params, timeout_s=20.0)
                codes.append(caught.value.code)
        assert codes == ["refused", "limit-exceeded", "no-such-method"]


async def test_those_who_only_hold_the_door_are_shown_out(manager, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("paas.certificates.server.JOIN_CONNECTION_S", 2.0)
    async with hub_of(manager) as hub:
        idle = [
            await trio.open_tcp_stream("127.0.0.1", hub.port) for _ in range(JOIN_CONNECTIONS_MAX)
        ]
        token = await hub.token()
        error = await error_of(hub, token, tmp_path)
        assert error.code == "unavailable"
        for stream in idle:
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
        assert (await join(hub, token, tmp_path)).node == "n2"


async def test_the_key_behind_a_shown_chain_must_be_there(manager, tmp_path: Path) -> None:
    """Who shows the cluster's chain without the key of its first certificate cannot finish."""
    async with hub_of(manager) as hub:
        forger = keys.make_key()
        with pytest.raises(PlatformError, match="identity"):
            tls.join_server_context(
                Identity(hub.identity.certificate_pem, keys.key_pem(forger), b"")
            )
        own = x509.make_authority("c1", forger, serial=1, now_ms=CLOCK.now_ms(), life_s=600)
        chain = x509.certificate_pem(own) + hub.identity.certificate_pem
        fake = Identity(chain, keys.key_pem(forger), hub.identity.authority_pem)
        hub.identity, kept = fake, hub.identity
        error = await error_of(hub, await hub.token(), tmp_path)
        assert error.code == "untrusted"
        hub.identity = kept


async def test_a_listener_s_context_asks_for_no_certificate(manager) -> None:
    async with hub_of(manager) as hub:
        assert tls.join_server_context(hub.identity).verify_mode == ssl.CERT_NONE
