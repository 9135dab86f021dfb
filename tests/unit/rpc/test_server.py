"""Serving: many idle connections, strangers, scarcity; on real UNIX sockets."""

import json
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.real.clock import SystemClock
from paas.rpc.client import connected_unix
from paas.rpc.dispatch import Context, Dispatcher, remaining_s
from paas.rpc.envelope import Form, Request
from paas.rpc.peer import Peer, Sweeper
from paas.rpc.server import listen_unix, serve
from paas.wire import codec
from paas.wire.registry import Nothing, Params


def echo(peer: Peer, request: Request) -> None:
    if request.method == "t.silent":
        return
    peer.reply(request, request.params)


@asynccontextmanager
async def serving(
    path: Path, on_request: Callable[[Peer, Request], None] = echo, connections_max: int = 100
) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        listener = listen_unix(str(path / "s"))
        run = partial(serve, listener, on_request, sweeper, connections_max=connections_max)
        await nursery.start(run)
        yield str(path / "s")
        nursery.cancel_scope.cancel()


async def call(path: str, value: object, form: Form = Form.MSGPACK) -> object:
    async with connected_unix(path, form=form) as peer:
        return codec.unpack(await peer.call_raw("t.echo", codec.pack(value), 10.0))


@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK])
async def test_both_forms_on_one_socket(tmp_path: Path, form: Form) -> None:
    async with serving(tmp_path) as path:
        assert await call(path, {"a": "ü" * 5_000}, form) == {"a": "ü" * 5_000}


async def test_a_silent_peer_times_out_and_the_connection_lives(tmp_path: Path) -> None:
    async with serving(tmp_path) as path, connected_unix(path) as peer:
        with pytest.raises(PlatformError) as caught:
            await peer.call_raw("t.silent", codec.pack({}), 0.1)
        assert caught.value.code == "timeout"
        assert codec.unpack(await peer.call_raw("t.echo", codec.pack({"n": 1}), 10.0)) == {"n": 1}


async def test_idle_connections_cost_nobody_anything(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 22_000 if hard == resource.RLIM_INFINITY else min(hard, 22_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    count = min(10_000, (wanted - 500) // 2)
    idle: list[socket.socket] = []
    try:
        async with serving(tmp_path, connections_max=count + 10) as path:
            for number in range(count):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.connect(path)
                idle.append(sock)
                if number % 500 == 0:
                    await trio.testing.wait_all_tasks_blocked()
            assert await call(path, {"n": 1}) == {"n": 1}
    finally:
        for sock in idle:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_beyond_the_limit_a_newcomer_is_told_and_the_others_stay(tmp_path: Path) -> None:
    async with serving(tmp_path, connections_max=1) as path, connected_unix(path) as peer:
        await peer.call_raw("t.echo", codec.pack({}), 10.0)
        late = await trio.open_unix_socket(path)
        said = json.loads(await late.receive_some())
        assert said["error"]["data"]["code"] == "limit-exceeded"
        assert await late.receive_some() == b""
        await peer.call_raw("t.echo", codec.pack({}), 10.0)


async def test_out_of_descriptors_the_listener_lives_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        assert await call(path, {"n": 1}) == {"n": 1}
        taken: list[int] = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        low = caller.fileno() + 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
        try:
            while True:
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            caller.connect(path)
            caller.settimeout(5)
            said = await trio.to_thread.run_sync(caller.recv, 4_096)
            assert json.loads(said)["error"]["data"]["code"] == "limit-exceeded"
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            caller.close()
        assert await call(path, {"n": 2}) == {"n": 2}


async def test_an_oversized_frame_is_answered_and_ends_only_its_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as path, connected_unix(path) as bystander:
        stranger = await trio.open_unix_socket(path)
        await stranger.send_all(b"\x7f\xff\xff\xff" + b"x" * 100)
        assert b"limit" in await stranger.receive_some()
        assert codec.unpack(await bystander.call_raw("t.echo", codec.pack({}), 10.0)) == {}


async def test_one_who_never_reads_is_cut_off_and_memory_stays_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        flood = await trio.open_unix_socket(path)
        body = json.dumps({"id": 1, "method": "t.echo", "params": {"x": "y" * 100_000}}).encode()

        async def send_for_ever() -> None:
            with trio.fail_after(60):
                while True:
                    await flood.send_all(body + b"\n")

        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever()
        assert await call(path, {"n": 3}) == {"n": 3}


class Wait(Params, frozen=True, kw_only=True):
    """For the tests of deadlines."""


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (Wait(deadline=1.0), "timeout"),
        (Wait(timeout=0.0), "invalid"),
        (Wait(timeout=-1.0), "invalid"),
        (Wait(timeout=1e9), "invalid"),
    ],
)
def test_deadlines_that_cannot_be_kept(params: Wait, code: str) -> None:
    with pytest.raises(PlatformError) as caught:
        remaining_s(params, SystemClock())
    assert caught.value.code == code


async def test_a_bug_in_a_handler_is_internal_and_the_connection_lives(tmp_path: Path) -> None:
    from paas.wire import registry

    declared = registry.method(9_980, "test.bug", Wait, Nothing)
    bugs: list[str] = []

    def handler(_params: Wait, _context: Context) -> Nothing:
        raise ZeroDivisionError

    try:
        async with trio.open_nursery() as nursery:
            dispatcher = Dispatcher(
                nursery, SystemClock(), on_bug=lambda method, _exc: bugs.append(method)
            )
            dispatcher.plain(declared, handler)
            async with serving(tmp_path, dispatcher) as path, connected_unix(path) as peer:
                for _ in range(2):
                    with pytest.raises(PlatformError) as caught:
                        await peer.call(declared, Wait())
                    assert caught.value.code == "internal"
                with pytest.raises(PlatformError) as caught:
                    await peer.call_raw("no.such", codec.pack({}), 10.0)
                assert caught.value.code == "no-such-method"
    finally:
        del registry.BY_NAME["test.bug"], registry.BY_NUMBER[9_980]
    assert bugs == ["test.bug", "test.bug"]
