"""A caller of POST /rpc hangs up while it is answered: its call is cancelled on its whole way.

Real sockets, since the kernel tells of an end and of a reset in different ways; behind the server a
real router, and a harness that hears `rpc.cancel`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from paas.harness.messages import InvokeResult
from paas.hub.messages import CALL
from paas.hub.router import Router
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.http_rpc import Admitted, RpcOverHttp
from paas.rpc.http_server import HttpServer
from paas.rpc.peer import Peer, Sweeper
from paas.testing.http_world import ask, post
from paas.testing.pair import Pairs, pairs
from paas.wire.registry import BY_NAME, Nothing


class Directory:
    """One component, here."""

    def resolve(self, target: str) -> str:
        return target

    def members(self, group: str) -> list[str]:
        return ["worker"]

    def state(self, component: str) -> str:
        return "available"

    def node(self, component: str) -> str:
        return ""


class World:
    """A server on a port, a router, a worker that answers when it is let."""

    def __init__(self, nursery: trio.Nursery, maker: Pairs, sweeper: Sweeper) -> None:
        self.router = Router(Directory(), SystemClock())
        self.asked: list[tuple[Peer, Request]] = []
        self.cancelled: list[int] = []
        self.slept: list[str] = []
        self.bugs: list[Exception] = []
        dispatcher = Dispatcher(
            nursery, SystemClock(), on_bug=lambda _where, bug: self.bugs.append(bug)
        )
        dispatcher.raw(CALL, self.router.call)
        dispatcher.task(BY_NAME["hub.await"], self._await, while_connected=True)
        ours, theirs = maker.join(dispatcher, self._work)
        self.router.attach("worker", ours, ready=True)
        self.worker = theirs
        rpc = RpcOverHttp(dispatcher, sweeper, lambda _info, _token: Admitted({}), dict)
        self.server = HttpServer(rpc)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        nursery.start_soon(self.server.serve, self.listener, self._open)

    def _work(self, peer: Peer, request: Request) -> None:
        self.asked.append((peer, request))
        request.on_cancel = lambda: self.cancelled.append(len(self.asked))

    async def _await(self, params: Any, context: Context) -> Nothing:
        self.slept.append("began")
        try:
            await trio.sleep_forever()
        finally:
            self.slept.append("ended")

    @staticmethod
    async def _open(sock: socket.socket) -> tuple[trio.abc.Stream, dict[str, Any]]:
        await trio.lowlevel.checkpoint()
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock)), {}

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.listener.getsockname()[1])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with pairs() as maker, trio.open_nursery() as nursery:
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        yield World(nursery, maker, sweeper)
        nursery.cancel_scope.cancel()


async def until(condition: Any) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


CALLING = ask("hub.call", target="worker", operation="work", timeout=60)
BATCH = f"[{CALLING},{ask('hub.call', 2, target='worker', operation='work', timeout=60)}]"


def end(stream: trio.SocketStream) -> None:
    stream.socket.shutdown(socket.SHUT_WR)


def reset(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def close(stream: trio.SocketStream) -> None:
    stream.socket.close()


@pytest.mark.parametrize("how", [end, reset, close])
@pytest.mark.parametrize(("text", "calls"), [(CALLING, 1), (BATCH, 2)])
async def test_hanging_up_cancels_at_the_component(
    world: World, how: Any, text: str, calls: int
) -> None:
    stream = await world.connect()
    await stream.send_all(post(text))
    await until(lambda: len(world.asked) == calls)
    assert not world.cancelled
    how(stream)
    await until(lambda: len(world.cancelled) == calls)
    assert all(request.cancelled for _, request in world.asked)
    peer, request = world.asked[0]
    peer.reply(request, InvokeResult())  # too late, and harmless
    await until(lambda: not world.server.connections)
    attachment = world.router.attachment("worker")
    assert attachment is not None
    assert (attachment.waiting, world.bugs) == (0, [])


@pytest.mark.parametrize("how", [end, reset, close])
async def test_also_when_the_caller_had_more_to_say(world: World, how: Any) -> None:
    """Requests that were sent ahead do not hide that nobody is there any more."""
    stream = await world.connect()
    await stream.send_all(post(CALLING) + post(ask("hub.call"))[:-10])
    await until(lambda: len(world.asked) == 1)
    await stream.send_all(b" " * 5)
    how(stream)
    await until(lambda: world.cancelled)


@pytest.mark.parametrize("how", [end, reset, close])
async def test_a_handler_that_only_waits_ends(world: World, how: Any) -> None:
    stream = await world.connect()
    await stream.send_all(post(ask("hub.await", group="g", timeout=60)))
    await until(lambda: world.slept)
    how(stream)
    await until(lambda: world.slept == ["began", "ended"])


async def test_who_stays_is_answered_also_what_was_sent_ahead(world: World) -> None:
    stream = await world.connect()
    await stream.send_all(post(CALLING) + post(CALLING))
    for number in (1, 2):
        await until(lambda n=number: len(world.asked) == n)
        peer, request = world.asked[-1]
        peer.reply(request, InvokeResult())
    text = b""
    with trio.fail_after(20):
        while text.count(b'"result"') < 2:
            text += await stream.receive_some(65_536)
    assert text.count(b"200") == 2
    assert not world.cancelled
    await stream.aclose()


async def test_who_sends_ahead_without_end_waits_in_the_kernel(world: World) -> None:
    """What is read before its turn is bounded."""
    stream = await world.connect()
    sent = 0
    with trio.move_on_after(0.5):
        await stream.send_all(post(CALLING))
        await until(lambda: len(world.asked) == 1)
        while sent < 256 << 20:
            await stream.send_all(bytes(1 << 20))
            sent += 1 << 20
    assert sent < 64 << 20
    assert not world.cancelled
    reset(stream)
