"""A server on loopback that says, byte for byte, what a test tells it to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from paas.fetcher.addresses import networks
from paas.fetcher.settings import Settings

INSIDE = networks(["127.0.0.0/8", "::1/128"])


@dataclass
class Heard:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


Script = Callable[[Heard, trio.SocketStream], Awaitable[bool | None]]
"""Answers one request; False: the connection ends."""


@dataclass
class Origin:
    """The server: where it is, what it heard."""

    port: int
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


async def _request(stream: trio.SocketStream, left: bytearray) -> Heard | None:
    while b"\r\n\r\n" not in left:
        data = await stream.receive_some(65_536)
        if not data:
            return None
        left += data
    head, _, rest = bytes(left).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    while len(rest) < length:
        rest += await stream.receive_some(65_536)
    left[:] = rest[length:]
    return Heard(lines[0], headers, rest[:length])


Serving = Callable[[Script], AbstractAsyncContextManager[Origin]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Origin]:
    """Serve until the block ends."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    origin = Origin(listener.socket.getsockname()[1])

    async def one(stream: trio.SocketStream) -> None:
        origin.connections += 1
        left = bytearray()
        try:
            async with stream:
                while (heard := await _request(stream, left)) is not None:
                    origin.heard.append(heard)
                    if await script(heard, stream) is False:
                        return
        except (trio.BrokenResourceError, OSError):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, one, [listener])
        try:
            yield origin
        finally:
            nursery.cancel_scope.cancel()


@pytest.fixture
def serving() -> Serving:
    return scripted


@pytest.fixture
def settings() -> Settings:
    return Settings(private=INSIDE)


def said(status: int, *headers: str, body: bytes = b"", reason: str = "X") -> bytes:
    """An answer with its length."""
    lines = [f"HTTP/1.1 {status} {reason}", *headers]
    if not any(h.lower().startswith(("content-length", "transfer-encoding")) for h in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def always(*answers: bytes, end: bool = False) -> Script:
    """These answers in turn, the last one again and again."""
    queue = list(answers)

    async def script(heard: Heard, stream: trio.SocketStream) -> bool:
        await stream.send_all(queue.pop(0) if len(queue) > 1 else queue[0])
        return not end

    return script
