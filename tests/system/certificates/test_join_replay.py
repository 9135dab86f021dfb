"""What a machine said while it joined, said once more by somebody who listened on the way."""

from __future__ import annotations

import importlib.util
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

pytestmark = pytest.mark.system


def _joining() -> ModuleType:
    """The hub and the machine of the tests beside this one."""
    spec = importlib.util.spec_from_file_location(
        "joining_parts", Path(__file__).with_name("test_joining.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Ear:
    """A relay before the hub that keeps every byte that goes to it."""

    def __init__(self, upstream: int) -> None:
        self.heard = bytearray()
        self.upstream = upstream
        self.listener = trio.socket.from_stdlib_socket(socket.create_server(("127.0.0.1", 0)))
        self.port = self.listener.getsockname()[1]

    async def run(self) -> None:
        await trio.serve_listeners(self.relay, [trio.SocketListener(self.listener)])

    async def relay(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self.upstream)
        with suppress(trio.BrokenResourceError):
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(self.back, far, near)
                async for data in near:
                    self.heard.extend(data)
                    await far.send_all(data)
                nursery.cancel_scope.cancel()

    async def back(self, far: trio.SocketStream, near: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async for data in far:
                await near.send_all(data)


async def test_a_replayed_joining_makes_no_second_node(manager: Any, tmp_path: Path) -> None:
    parts = _joining()
    async with parts.hub_of(manager) as hub, trio.open_nursery() as nursery:
        ear = Ear(hub.port)
        nursery.start_soon(ear.run)
        upstream, hub.port = hub.port, ear.port
        token = await hub.token()
        assert (await parts.join(hub, token, tmp_path / "n2")).node == "n2"
        hub.port = upstream
        assert len(ear.heard) > 500
        index, joined = hub.index, hub.events.count("node-joined")
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", upstream)
            said = bytearray()
            with suppress(trio.BrokenResourceError):
                await stream.send_all(bytes(ear.heard))
            with suppress(trio.BrokenResourceError), trio.fail_after(30):
                while data := await stream.receive_some(65_536):
                    said += data
            await trio.aclose_forcefully(stream)
            assert token.encode() not in said
        # The session's key was another one: not one request has come of it.
        assert (hub.index, hub.events.count("node-joined")) == (index, joined)
        assert token.encode() not in bytes(ear.heard)
        fresh = await hub.token()
        assert (await parts.join(hub, fresh, tmp_path / "n3", "n3")).node == "n3"
        nursery.cancel_scope.cancel()
