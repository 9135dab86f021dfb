"""One task reads for many: turns, ends, numbers of descriptors that come back."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.rpc.link import SocketLink
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.readers import READY_MAX, Readers
from paas.wire import codec
from paas.wire.frame import HEADER_BYTES

EMPTY = codec.pack({})


class World:
    """Readers with peers that answer every request, and the far ends of their sockets."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.finished = 0
        self.ended: list[Peer] = []
        self.asked: list[Peer] = []
        self.readers = Readers(nursery, self._over)

    def _over(self) -> None:
        self.finished += 1

    def _answer(self, peer: Peer, request: Request) -> None:
        self.asked.append(peer)
        peer.reply(request, request.params)

    def connect(self) -> tuple[Peer, socket.socket]:
        near, far = socket.socketpair()
        far.settimeout(5.0)
        link = SocketLink(near, self.nursery)
        peer = Peer(link, Connection(None), Sweeper(), self._answer, on_close=self.ended.append)
        self.readers.add(peer, link)
        return peer, far


def line(number: int) -> bytes:
    return codec.to_json({"jsonrpc": "2.0", "id": number, "method": "t.echo"}) + b"\n"


@pytest.fixture
def world(nursery: trio.Nursery) -> World:
    made = World(nursery)
    nursery.start_soon(made.readers.run)
    return made


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.02)


async def test_more_peers_than_fit_in_a_turn_are_all_answered_by_one_task(world: World) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    pairs = [world.connect() for _ in range(READY_MAX + 10)]
    for number, (_, far) in enumerate(pairs):
        far.sendall(line(number))
    await settled()
    for number, (_, far) in enumerate(pairs):
        assert f'"id":{number},'.encode() in far.recv(1_000) + b","
        far.close()
    assert trio.lowlevel.current_statistics().tasks_living <= before + 1
    await settled()
    assert len(world.ended) == world.finished == len(pairs)


async def test_one_who_always_has_more_to_say_does_not_keep_the_others_waiting(
    world: World,
) -> None:
    (loud, loud_far), (quiet, quiet_far) = world.connect(), world.connect()
    many = b"".join(map(line, range(2_000)))
    assert len(many) > 65_536 + 1_000
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                trio.SocketStream(trio.socket.from_stdlib_socket(loud_far)).send_all, many
            )
            quiet_far.sendall(line(1))
            while quiet not in world.asked:
                await trio.lowlevel.checkpoint()
            assert world.asked.count(loud) < 2_000
            nursery.cancel_scope.cancel()
    quiet_far.close()
    loud_far.close()


async def test_who_breaks_the_protocol_hears_why_before_the_end(world: World) -> None:
    peer, far = world.connect()
    far.sendall(b"{" + b"x" * 65_536)
    while not peer.closed:
        await trio.sleep(0.01)
        try:
            far.send(b"x" * 65_536)
        except OSError:
            break
    heard = b""
    while piece := far.recv(65_536):
        heard += piece
    assert b"limit-exceeded" in heard
    await settled()
    assert world.ended == [peer]
    far.close()


async def test_a_peer_that_we_close_is_finished_once_though_its_number_comes_back(
    world: World,
) -> None:
    first, far = world.connect()
    number = first.link.fileno()  # type: ignore[attr-defined]
    outcomes: list[bytes | PlatformError] = []
    first.send_request("t.ask", EMPTY, outcomes.append, timeout_s=5.0)
    first.close()
    second, other = world.connect()
    assert second.link.fileno() == number  # type: ignore[attr-defined]
    await settled()
    assert world.ended == [first]
    assert [getattr(outcome, "code", "") for outcome in outcomes] == ["unknown-outcome"]
    other.sendall(line(7))
    await settled()
    assert world.asked == [second]
    assert b'"id":7' in other.recv(1_000)
    assert world.finished == 1
    far.close()
    other.close()


async def test_a_peer_closed_by_another_one_s_request_is_not_read_again(
    nursery: trio.Nursery,
) -> None:
    world = World(nursery)
    victim, far = world.connect()
    killer, other = world.connect()
    killer.on_request = lambda _peer, _request: victim.close()
    victim.on_request = lambda _peer, _request: killer.close()
    far.sendall(line(1))
    other.sendall(line(2))  # both are ready before anybody reads
    nursery.start_soon(world.readers.run)
    await settled()
    assert len(world.ended) == 1
    far.close()
    other.close()
    await settled()
    assert len(world.ended) == world.finished == 2


async def test_the_end_of_the_readers_is_the_end_of_all_peers() -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        nursery.start_soon(world.readers.run)
        (one, far), (two, other) = world.connect(), world.connect()
        await settled()
        two.close()
        nursery.cancel_scope.cancel()
    assert sorted(map(id, world.ended)) == sorted([id(one), id(two)])
    assert world.finished == 2
    assert far.recv(100) == other.recv(100) == b""
    far.close()
    other.close()


async def test_frames_that_arrive_in_pieces_are_put_together(world: World) -> None:
    _peer, far = world.connect()
    body = codec.pack({"jsonrpc": "2.0", "id": 3, "method": "t.echo", "params": {}})
    data = len(body).to_bytes(HEADER_BYTES, "big") + body
    for byte in data:
        far.sendall(bytes([byte]))
        await settled()
    assert Form.MSGPACK is _peer.connection.form
    assert codec.unpack(far.recv(1_000)[HEADER_BYTES:])["id"] == 3
    far.close()
