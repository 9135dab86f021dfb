"""Dialling: errors leave as themselves, and nobody is waited for who does not listen."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.rpc.client import RECONNECT, connect_unix_socket, connected_unix
from paas.rpc.envelope import Form, Request
from paas.rpc.peer import Peer
from paas.wire import codec

Serving = Callable[..., AbstractAsyncContextManager[str]]


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, tmp_path / ("x" * 200)):
        with pytest.raises(PlatformError) as caught:
            connect_unix_socket(str(path))
        assert caught.value.code == "unavailable"


def test_a_listener_that_does_not_accept_blocks_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting: list[socket.socket] = []
        refusal: PlatformError | None = None
        while refusal is None and len(waiting) < 50:
            try:
                waiting.append(connect_unix_socket(path))
            except PlatformError as exc:
                refusal = exc
        assert refusal is not None
        assert refusal.code == "unavailable"
        for sock in waiting:
            sock.close()


async def test_an_error_of_dialling_leaves_as_itself(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as caught:
        async with connected_unix(str(tmp_path / "missing")):
            raise AssertionError("not reached")
    assert caught.value.code == "unavailable"


async def test_an_error_of_the_block_leaves_as_itself(serving: Serving) -> None:
    async with serving() as path:
        with pytest.raises(ZeroDivisionError):
            async with connected_unix(path):
                raise ZeroDivisionError


async def test_a_client_answers_no_requests_unless_it_says_how(serving: Serving) -> None:
    answers: list[object] = []

    def ask_back(peer: Peer, request: Request) -> None:
        peer.send_request("t.any", codec.pack({}), answers.append, timeout_s=5.0)
        peer.reply(request)

    async with serving(ask_back) as path, connected_unix(path) as peer:
        await peer.call_raw("t.echo", codec.pack({}), 5.0)
        await peer.call_raw("t.echo", codec.pack({}), 5.0)
    assert isinstance(answers[0], PlatformError)
    assert answers[0].code == "no-such-method"


async def test_after_the_block_the_connection_is_closed(serving: Serving) -> None:
    async with serving() as path:
        async with connected_unix(path, form=Form.JSON) as peer:
            await peer.call_raw("t.echo", codec.pack({}), 5.0)
        assert peer.closed


def test_reconnection_backs_off_to_a_second() -> None:
    delays = [RECONNECT.delay_s(attempt, 0.5) for attempt in range(1, 40)]
    assert max(delays) <= 1.0
    assert delays[0] < 0.05
