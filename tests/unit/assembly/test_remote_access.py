"""Callers from outside over real TLS: who is let in, who is not, and what ends with a token."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.assembly.remote_access import RemoteAccess, _listener
from paas.hub.access_state import AccessTokenState, CreateAccessToken, RevokeAccessToken
from paas.identity import access_tokens
from paas.identity.tls import Identity, access_client_context, peer_identity
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.rpc.envelope import Request
from paas.rpc.http_server import HttpServer
from paas.rpc.peer import Peer, Sweeper
from paas.telemetry.log import Logger
from paas.testing.http_world import Answer, Caller, Talker, ask
from paas.testing.mesh_hubs import Authority
from paas.wire import codec

CLUSTER = "c1"


class ManualClock(SystemClock):
    """The real clock, moved on by hand."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class World:
    """A server on a port of this machine, with an authority of its own."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.authority = Authority(CLUSTER)
        self.stranger = Authority(CLUSTER)
        self.clock = ManualClock()
        self.tokens = AccessTokenState()
        self.machine = Machine([self.tokens])
        self.index = 0
        self.closed: list[Peer] = []
        self.directory = directory
        self.nursery = nursery
        self.access = RemoteAccess(
            cluster=CLUSTER,
            node="n1",
            listen="127.0.0.1:0",
            authority_socket="",
            tokens=self.tokens,
            log=self,
            files=SystemFiles(str(directory)),
            clock=self.clock,
            entropy=SystemEntropy(),
            logger=Logger(agent="hub", node="n1"),
            sweeper=Sweeper(),
            on_close=self.closed.append,
        )
        self.access._use(self.authority.identity("n1", "api"))
        listener = _listener("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        server = HttpServer(self.access._rpc(self.on_request))  # type: ignore[arg-type]
        nursery.start_soon(server.serve, listener, self.access._open)

    async def propose(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        """The log of this server."""
        self.index += 1
        stamp = Stamp(self.clock.now_ms(), bytes(SEED_BYTES), "n1", self.index)
        applied = self.machine.apply(self.index, encode(command, stamp))
        self.access.state_changed(self.index, applied.events)
        return applied.result

    async def token(self, role: str = "operator", life_s: int = 3_600) -> str:
        token = access_tokens.make(SystemEntropy().bytes(access_tokens.ENTROPY_BYTES))
        expires_ms = self.clock.now_ms() + life_s * 1_000
        await self.propose(
            CreateAccessToken(
                token_id=token.id, digest=token.digest(), role=role, expires_ms=expires_ms
            )
        )
        return token.reveal()

    async def revoke(self, token: str) -> None:
        await self.propose(RevokeAccessToken(token_id=token.split("-")[1]))

    @staticmethod
    def on_request(peer: Peer, request: Request) -> None:
        peer.reply(request, codec.pack(sorted(peer.info["roles"])))

    def context(self, identity: Identity | None = None) -> ssl.SSLContext:
        authority = self.authority.identity("n1").authority_pem.decode()
        if identity is None:
            return access_client_context(authority)
        file = self.directory / "identity.pem"
        file.write_bytes(identity.certificate_pem + identity.key_pem)
        return access_client_context(authority, str(file), str(file))

    async def connect(self, identity: Identity | None = None) -> Caller:
        plain = await trio.open_tcp_stream("127.0.0.1", self.port)
        context = self.context(identity)
        stream = trio.SSLStream(plain, context, server_hostname="x", https_compatible=True)
        await stream.do_handshake()
        return Caller(stream)

    async def post(self, token: str = "", identity: Identity | None = None) -> Answer:
        caller = await self.connect(identity)
        answer = await caller.ask(request(token))
        await trio.aclose_forcefully(caller.stream)
        return answer


def request(token: str, text: str = "") -> str:
    text = text or ask("echo")
    head = "POST /rpc HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    bearer = f"authorization: Bearer {token}\r\n" if token else ""
    return f"{head}{bearer}content-length: {len(text)}\r\n\r\n{text}"


@asynccontextmanager
async def outside() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory() as directory:
        async with trio.open_nursery() as nursery:
            yield World(Path(directory), nursery)
            nursery.cancel_scope.cancel()


async def test_a_token_gives_its_role() -> None:
    async with outside() as world:
        for role in access_tokens.ROLES:
            answer = await world.post(await world.token(role))
            assert answer.json["result"] == [role]


async def test_a_certificate_of_an_operator_gives_that_role() -> None:
    async with outside() as world:
        answer = await world.post(identity=world.authority.identity("n1", "operator"))
        assert answer.json["result"] == ["operator"]


async def test_a_token_goes_before_a_certificate() -> None:
    async with outside() as world:
        identity = world.authority.identity("n1", "operator")
        reader = await world.post(await world.token("reader"), identity)
        assert reader.json["result"] == ["reader"]
        assert (await world.post("wrong", identity)).status == 401


async def test_without_either_nobody_is_let_in() -> None:
    async with outside() as world:
        assert (await world.post()).status == 401


async def test_the_certificate_of_an_agent_is_not_an_operators() -> None:
    async with outside() as world:
        for role in ("hub", "node", "api"):
            answer = await world.post(identity=world.authority.identity("n1", role))
            assert answer.status == 403


@pytest.mark.parametrize("what", ["of another authority", "expired", "not begun"])
async def test_a_certificate_that_is_not_good_ends_the_handshake(what: str) -> None:
    async with outside() as world:
        identity = {
            "of another authority": world.stranger.identity("n1", "operator"),
            "expired": world.authority.identity("n1", "operator", begins_in_s=-3_600, life_s=60),
            "not begun": world.authority.identity("n1", "operator", begins_in_s=7_200),
        }[what]
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            await world.post(identity=identity)
        assert (await world.post(await world.token())).status == 200


async def test_a_certificate_that_ends_while_connected_is_good_no_more() -> None:
    async with outside() as world:
        caller = await world.connect(world.authority.identity("n1", "operator", life_s=600))
        assert (await caller.ask(request(""))).status == 200
        world.clock.ahead_ms = 601_000
        assert (await caller.ask(request(""))).status == 403


async def test_a_server_of_another_authority_is_not_believed() -> None:
    async with outside() as world:
        world.authority = world.stranger
        with pytest.raises(trio.BrokenResourceError):
            await world.connect()


async def test_the_server_proves_to_be_the_api_of_its_node() -> None:
    async with outside() as world:
        caller = await world.connect()
        name = peer_identity(caller.stream)
        assert (name.subsystem, name.node, name.cluster) == ("api", "n1", CLUSTER)


async def test_expired_and_revoked_tokens_are_refused_alike() -> None:
    async with outside() as world:
        expired, revoked = await world.token(life_s=60), await world.token()
        await world.revoke(revoked)
        world.clock.ahead_ms = 61_000
        answers = [await world.post(token) for token in (expired, revoked, "unknown")]
        assert [answer.status for answer in answers] == [401] * 3
        assert len({answer.body for answer in answers}) == 1


async def test_a_websocket_ends_with_its_token_and_the_others_stay() -> None:
    async with outside() as world:
        talkers, tokens = [], [await world.token() for _ in range(2)]
        for token in tokens:
            caller = await world.connect()
            answer = await caller.ask(
                f"GET /rpc HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
                "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert answer.status == 101
            talkers.append(Talker(caller))
            assert (await talkers[-1].ask(ask("echo")))["result"] == ["operator"]
        await world.revoke(tokens[0])
        with trio.fail_after(20):
            await talkers[0].code()
        assert (await talkers[1].ask(ask("echo")))["result"] == ["operator"]


async def test_what_speaks_no_tls_costs_nothing() -> None:
    async with outside() as world:
        plain = await trio.open_tcp_stream("127.0.0.1", world.port)
        await plain.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in await plain.receive_some()
        assert (await world.post(await world.token())).status == 200


async def test_watches_are_refused_where_one_answer_is_all() -> None:
    async with outside() as world:
        caller = await world.connect()
        data = request(await world.token(), text=ask("hub.watch"))
        answer = await caller.ask(data)
        assert answer.json["error"]["data"]["code"] == "unsupported"


def test_the_port_of_last_time_is_taken_again_if_it_is_free(tmp_path: Path) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(tmp_path, nursery)
            first = world.access._try_to_listen()
            assert first is not None
            port = first.getsockname()[1]
            second = world.access._try_to_listen()
            assert second is not None
            assert second.getsockname()[1] != port
            for listener in (first, second):
                listener.close()
            world.access._keep_port(port)
            again = world.access._try_to_listen()
            assert again is not None
            assert again.getsockname()[1] == port
            assert world.access.url == f"https://127.0.0.1:{port}/rpc"
            again.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_an_address_that_cannot_be_had_is_no_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(tmp_path, nursery)
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen(1)
                world.access._listen = f"127.0.0.1:{taken.getsockname()[1]}"
                assert world.access._try_to_listen() is None
            nursery.cancel_scope.cancel()

    trio.run(main)
