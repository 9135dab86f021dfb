"""What the tests of the HAProxy data path talk to: members, a stand-in of the edge, clients."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from paas.gateway.haproxy.agent import Haproxy
from paas.gateway.haproxy.settings import HaproxySettings
from paas.gateway.messages import MemberState, Route, RouteMember

Headers = dict[str, str]


def free_port() -> int:
    """HAProxy takes no port 0."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def read_head(stream: trio.abc.ReceiveStream, left: bytearray) -> tuple[str, Headers] | None:
    while b"\r\n\r\n" not in left:
        data = await stream.receive_some(65_536)
        if not data:
            return None
        left += data
    head, _, rest = bytes(left).partition(b"\r\n\r\n")
    left[:] = rest
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: Headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return first, headers


async def read_body(stream: trio.abc.ReceiveStream, left: bytearray, headers: Headers) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        while b"0\r\n\r\n" not in left:
            left += await stream.receive_some(65_536)
        body = bytes(left)
        left.clear()
        return body
    length = int(headers.get("content-length", "0"))
    while len(left) < length:
        data = await stream.receive_some(65_536)
        if not data:
            raise trio.BrokenResourceError("cut off")
        left += data
    body = bytes(left[:length])
    del left[:length]
    return body


@dataclass
class Origin:
    """A member, or the edge: answers with its name, `/slow` when it is let go, `/die` never."""

    name: str
    port: int = 0
    heard: list[tuple[str, Headers, bytes]] = field(default_factory=list)
    let_go: trio.Event = field(default_factory=trio.Event)
    dead: bool = False

    async def one(self, stream: trio.abc.Stream) -> None:
        left = bytearray()
        with suppress(OSError, trio.BrokenResourceError):
            async with stream:
                while (head := await read_head(stream, left)) is not None:
                    body = await read_body(stream, left, head[1])
                    self.heard.append((*head, body))
                    path = head[0].split(" ")[1]
                    if self.dead or path.startswith("/die"):
                        return
                    if path.startswith("/slow"):
                        await self.let_go.wait()
                    said = self.name.encode()
                    await stream.send_all(
                        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)
                    )

    async def has_heard(self) -> None:
        """Wait for its first request."""
        while True:
            if self.heard:
                return
            await trio.sleep(0.01)

    @property
    def last(self) -> tuple[str, Headers, bytes]:
        return self.heard[-1]


@dataclass
class Reply:
    status: int
    headers: Headers
    body: str


async def get(
    port: int,
    path: str = "/",
    headers: Headers | None = None,
    *,
    method: str = "GET",
    body: bytes = b"",
    raw: bytes = b"",
) -> Reply:
    """One request on a connection of its own."""
    fields = {"host": "site.test", **(headers or {})}
    if body:
        fields["content-length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items())]
    data = raw or "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        left = bytearray()
        head = await read_head(stream, left)
        if head is None:
            raise trio.BrokenResourceError("cut off")
        content = await read_body(stream, left, head[1])
    return Reply(int(head[0].split(" ")[1]), head[1], content.decode())


@dataclass
class World:
    """HAProxy with three members and an edge."""

    port: int
    haproxy: Haproxy
    origins: list[Origin]
    edge: Origin
    routes: list[Route] = field(default_factory=list)
    states: dict[int, MemberState] = field(default_factory=dict)

    def members(self) -> Iterable[RouteMember]:
        for route in self.routes:
            for number, state in self.states.items():
                yield RouteMember(
                    route=route.name,
                    component=f"{number:040x}",
                    incarnation=1,
                    node="n",
                    host="127.0.0.1",
                    port=self.origins[number].port,
                    state=state,
                    weight=100,
                )

    async def show(self, states: dict[int, MemberState] | None = None) -> None:
        """Tell HAProxy, and wait until it is so."""
        if states is not None:
            self.states = states
        self.haproxy.update(self.routes, self.members())
        with trio.fail_after(20):
            await self.haproxy.settled()

    async def is_back(self) -> None:
        """Wait until a killed HAProxy answers again."""
        await self.until(lambda: self.haproxy.starts > 1 and bool(self.haproxy.pid))
        await self.is_answering()

    async def is_answering(self) -> None:
        """Wait until a request is answered."""
        while True:
            try:
                await get(self.port)
                return
            except (OSError, trio.BrokenResourceError):
                await trio.sleep(0.02)

    async def has_servers(self, count: int) -> None:
        """Wait until those that are gone are deleted: their idle connections are closed first."""
        while True:
            if len((await self.haproxy.statistics()).servers) == count:
                return
            await trio.sleep(0.05)

    async def until(self, holds: Callable[[], bool]) -> None:
        while True:
            if holds():
                return
            await trio.sleep(0.02)

    async def answered_by(self, count: int = 24) -> set[str]:
        return {(await get(self.port)).body for _ in range(count)}


def runs(pid: int) -> bool:
    """Is there such a process, that is no zombie?"""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def component(number: int) -> str:
    return f"{number:040x}"


@asynccontextmanager
async def world(tmp_path: Path, routes: list[Route], **options: Any) -> AsyncIterator[World]:
    """Members 0 and 1 serve; 2 is there and not yet a member."""
    folder = tmp_path / "hx"
    edge_path = tmp_path / "edge.sock"
    edge = Origin("edge")
    origins = [Origin(f"m{number}") for number in range(3)]
    port = free_port()
    async with trio.open_nursery() as nursery:
        for origin in origins:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            origin.port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, origin.one, [listener])
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(str(edge_path))
        sock.listen(64)
        nursery.start_soon(trio.serve_listeners, edge.one, [trio.SocketListener(sock)])
        haproxy = Haproxy(
            HaproxySettings(
                **{
                    "folder": str(folder),
                    "listen": (f"127.0.0.1:{port}",),
                    "edge": f"unix@{edge_path}",
                    "access_log": "none",
                    **options,
                }
            )
        )
        here = World(port, haproxy, origins, edge, routes, {0: "serving", 1: "serving"})
        haproxy.update(here.routes, here.members())
        with trio.fail_after(30):
            await nursery.start(haproxy.run)
        try:
            yield here
        finally:
            nursery.cancel_scope.cancel()
