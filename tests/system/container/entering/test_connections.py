"""Connections made from inside a container's network, where nothing else could come from."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container.entering import Entering

pytestmark = pytest.mark.system

SERVER = """
import os, socket
host, port = os.environ["PAAS_ENDPOINT_ECHO"].rsplit(":", 1)
servers = [socket.create_server((host, int(port))), socket.create_server(("127.0.0.1", 7777))]
while True:
    import select
    for one in select.select(servers, [], [])[0]:
        found, _ = one.accept()
        data = b""
        while piece := found.recv(65536):
            data += piece
        found.sendall(data[::-1])
        found.close()
"""


@pytest.fixture
async def server(node: Any) -> str:
    started = await node.start("/usr/bin/python3", "-I", "-c", SERVER, endpoints={"echo": "tcp"})
    return str(started.component)


async def ask(entering: Entering, component: str, endpoint: str, port: int, data: bytes) -> bytes:
    stream = None
    with trio.fail_after(20):
        while stream is None:
            try:
                stream = await entering.connect(component, endpoint, port)
            except PlatformError as exc:
                if "refused" not in exc.message:
                    raise
                await trio.sleep(0.05)
        async with stream:
            await stream.send_all(data)
            await stream.send_eof()
            return b"".join([bytes(piece) async for piece in stream])


async def test_an_endpoint_is_reached_by_its_name(entering: Entering, server: str) -> None:
    assert await ask(entering, server, "echo", 0, b"abc") == b"cba"


async def test_a_port_is_reached_by_its_number(node: Any, entering: Entering, server: str) -> None:
    await ask(entering, server, "echo", 0, b"x")
    _, port = node.engine.containers[server].context.record.endpoints["echo"]
    assert await ask(entering, server, "", port, b"12") == b"21"


async def test_what_is_not_there_is_refused(entering: Entering, server: str) -> None:
    with pytest.raises(PlatformError, match="refused"):
        await entering.connect(server, "", 9)
    with pytest.raises(PlatformError) as caught:
        await entering.connect(server, "mail", 0)
    assert caught.value.data["field"] == "endpoint"
    for port in (0, -1, 1 << 16):
        with pytest.raises(PlatformError) as caught:
            await entering.connect(server, "", port)
        assert caught.value.data["field"] == "port"
