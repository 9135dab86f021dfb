"""One connection cannot end another, nor the listener: every place where serving one may fail."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.rpc import server as module
from paas.rpc.client import connect_unix_socket, connected_unix
from paas.rpc.envelope import Form, Request
from paas.rpc.link import Link, SocketLink
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.server import serve
from paas.wire import codec

Serving = Callable[..., AbstractAsyncContextManager[str]]
EMPTY = codec.pack({})


async def works(path: str) -> None:
    async with connected_unix(path) as peer:
        assert await peer.call_raw("t.echo", EMPTY, 10.0) == EMPTY


class Fails:
    """Raises the first time, then does what it is for."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def __call__(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("place", "plain"),
    [("open_link", False)]
    + [(p, plain) for p in ("on_open", "on_request", "on_close") for plain in (True, False)],
)
@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), PlatformError("denied"), ExceptionGroup("g", [KeyError()])]
)
async def test_what_fails_for_one_connection_goes_on_for_the_others(
    serving: Serving, place: str, plain: bool, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    fails = Fails(error)

    async def open_link(sock: socket.socket, nursery: trio.Nursery) -> tuple[Link, dict[str, Any]]:
        if place == "open_link":
            fails()
        await trio.lowlevel.checkpoint()
        return SocketLink(sock, nursery), {}

    def on_request(peer: Peer, request: Request) -> None:
        if place == "on_request":
            fails()
        peer.reply(request, request.params)

    def hook(where: str) -> Callable[[Peer], None]:
        return lambda _peer: fails() if place == where else None

    with caplog.at_level(logging.CRITICAL):
        async with serving(
            on_request,
            open_link=None if plain else open_link,
            on_open=hook("on_open"),
            on_close=hook("on_close"),
        ) as path:
            async with connected_unix(path) as first:
                outcomes: list[bytes | PlatformError] = []
                first.send_request("t.echo", EMPTY, outcomes.append, timeout_s=5.0)
                await trio.testing.wait_all_tasks_blocked(0.02)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert fails.error is None, "it did fail"
            assert len(outcomes) == 1
            await works(path)


async def test_a_refused_newcomer_hears_why(serving: Serving) -> None:
    def refuse(_peer: Peer) -> None:
        raise PlatformError("denied", "not you")

    async with serving(on_open=refuse) as path:
        stream = await trio.open_unix_socket(path)
        assert b"not you" in await stream.receive_some()
        assert await stream.receive_some() == b""


async def test_an_answer_that_its_caller_s_codec_cannot_say_is_an_error_for_that_caller(
    serving: Serving,
) -> None:
    """A third party chose the value: neither its connection nor the server may suffer."""
    values = {
        "t.null-key": b"\x81\xc0\x01",
        "t.extension": b"\x81\xa1a\xc7\x01\x05x",
        "t.bad-text": b"\x81\xa1a\xa2\xff\xfe",
        "t.deep": b"\x91" * 5_000 + b"\x01",
    }

    def on_request(peer: Peer, request: Request) -> None:
        peer.reply(request, values.get(request.method, EMPTY))

    async with serving(on_request) as path, connected_unix(path, form=Form.JSON) as peer:
        for method in values:
            with pytest.raises(PlatformError) as caught:
                await peer.call_raw(method, EMPTY, 5.0)
            assert caught.value.code == "failed", method
        assert await peer.call_raw("t.echo", EMPTY, 5.0) == EMPTY


async def test_an_error_with_data_that_cannot_be_said_keeps_code_and_message(
    serving: Serving,
) -> None:
    def on_request(peer: Peer, request: Request) -> None:
        data: Any = {None: 1} if request.method == "t.odd" else "x" * (5 << 20)
        peer.fail(request, PlatformError("conflict", "the message", data=data))

    async with serving(on_request) as path, connected_unix(path, form=Form.JSON) as peer:
        for method in ("t.odd", "t.large"):
            with pytest.raises(PlatformError) as caught:
                await peer.call_raw(method, EMPTY, 5.0)
            assert (caught.value.code, caught.value.message) == ("conflict", "the message")


async def test_a_crowd_at_the_door_does_not_pass_the_limit(serving: Serving) -> None:
    async with serving(connections_max=5) as path:
        crowd = [connect_unix_socket(path) for _ in range(40)]
        await trio.testing.wait_all_tasks_blocked(0.02)
        said = 0
        for sock in crowd:
            try:
                said += b"limit-exceeded" in sock.recv(4_096)
            except BlockingIOError:
                continue
        assert said == 35
        for sock in crowd:
            sock.close()
        await trio.testing.wait_all_tasks_blocked(0.02)
        await works(path)


async def test_who_hangs_up_at_once_is_nobody(serving: Serving) -> None:
    async with serving(connections_max=1_000) as path:
        for _ in range(200):
            connect_unix_socket(path).close()
        await works(path)


async def test_a_socket_that_will_never_accept_is_a_bug_and_not_a_busy_loop() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.close()
    with pytest.RaisesGroup(OSError):
        await serve(near, lambda _peer, _request: None, Sweeper(), connections_max=1)
    assert near.fileno() == -1


async def test_the_reserved_descriptor_comes_back_after_scarcity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reserve: list[int] = []
    module._keep_reserve(reserve)
    assert len(reserve) == 1
    module._keep_reserve(reserve)
    assert len(reserve) == 1
    held = reserve.pop()

    def scarce(*_: Any) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "open", scarce)
        module._keep_reserve(reserve)
        assert reserve == []
    module._keep_reserve(reserve)
    assert len(reserve) == 1
    for descriptor in (held, *reserve):
        module.os.close(descriptor)
