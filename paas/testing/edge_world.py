"""The gateway's data path between real sockets: browsers that say anything, members that do too.

    async with gateway(routes=[Route(name="site", group="web")], members=[member]) as world:
        answer = await world.ask("GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")

A `TestMember` is read by h11, which is not what the gateway reads with: what it saw is what the
other side of a smuggling attempt would have seen.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import trio

from paas.gateway.backends import Backends
from paas.gateway.config import EdgeConfig, EdgeFile, MemberRow
from paas.gateway.edge import Edge
from paas.gateway.messages import Route
from paas.gateway.static import StaticBackends

PATIENCE_S = 10.0


@dataclass
class Seen:
    """A request as a member read it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


Talk = Callable[["TestMember", trio.SocketStream], Awaitable[None]]


@dataclass
class TestMember:
    """A member that answers with what it read, or does as `talk` says with each connection."""

    __test__ = False

    group: str = "web"
    name: str = ""
    talk: Talk | None = None
    answer: bytes | None = None
    """What it says to everything, instead of what it read."""

    weight: int = 100
    seen: list[Seen] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    host: str = "127.0.0.1"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(self.port, host=self.host)
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._serve, listeners, task_status=_Started(task_status))

    def row(self) -> MemberRow:
        return MemberRow(
            group=self.group,
            host=self.host,
            port=self.port,
            name=self.name,
            weight=self.weight,
        )

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            if self.talk is not None:
                await self.talk(self, stream)
            else:
                await self.serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Requests one after the other, each answered by what was read of it."""
        connection = h11.Connection(h11.SERVER)
        while True:
            seen: Seen | None = None
            while True:
                try:
                    event = connection.next_event()
                except h11.RemoteProtocolError as exc:
                    self.faults.append(str(exc))
                    return
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65_536))
                elif isinstance(event, h11.Request):
                    headers = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
                    target = event.target.decode("latin-1")
                    seen = Seen(event.method.decode(), target, headers)
                elif isinstance(event, h11.Data):
                    assert seen is not None
                    seen.body += bytes(event.data)
                else:
                    break
            if seen is None:
                return
            self.seen.append(seen)
            await stream.send_all(self._answer(connection, seen))
            if connection.our_state is not h11.DONE:
                return
            connection.start_next_cycle()

    def _answer(self, connection: h11.Connection, seen: Seen) -> bytes:
        body = self.answer if self.answer is not None else f"{self.name} {seen}".encode()
        headers = [("content-length", str(len(body))), ("x-member", self.name or "one")]
        data = connection.send(h11.Response(status_code=200, headers=headers)) or b""
        if seen.method != "HEAD":
            data += connection.send(h11.Data(data=body)) or b""
        return data + (connection.send(h11.EndOfMessage()) or b"")


class _Started:
    """`serve_listeners` tells which listeners; a member tells nothing."""

    def __init__(self, inner: trio.TaskStatus[None]) -> None:
        self._inner = inner

    def started(self, _value: Any = None) -> None:
        self._inner.started()


@dataclass
class Answer:
    """One answer, read by h11."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)

    def values(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]


class Browser:
    """One connection to the gateway."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)
        self._asked = ""

    async def send(self, data: str | bytes) -> None:
        await self.stream.send_all(data.encode("latin-1") if isinstance(data, str) else data)

    async def receive(self) -> bytes:
        """Some raw bytes; none at the end."""
        with trio.fail_after(PATIENCE_S):
            try:
                return bytes(await self.stream.receive_some(65_536))
            except trio.BrokenResourceError:
                return b""

    async def everything(self) -> bytes:
        """All raw bytes until the gateway closes."""
        data = b""
        while piece := await self.receive():
            data += piece
        return data

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer."""
        self._expect(method)
        found: Answer | None = None
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self.receive())
            elif isinstance(event, h11.Response):
                headers = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
                found = Answer(event.status_code, headers)
            elif isinstance(event, h11.Data):
                assert found is not None
                found.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert found is not None
                return found
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError("the gateway closed the connection")

    def _expect(self, method: str) -> None:
        """The library must believe that it asked."""
        if self._h11.our_state is not h11.IDLE:
            self._h11.start_next_cycle()
        request = h11.Request(method=method, target="/", headers=[("host", "x")])
        self._h11.send(request)
        self._h11.send(h11.EndOfMessage())

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


class World:
    """A gateway that runs, and its members."""

    def __init__(self, edge: Edge, backends: Backends, members: Sequence[TestMember]) -> None:
        self.edge = edge
        self.backends = backends
        self.members = list(members)

    @property
    def port(self) -> int:
        return self.edge.addresses[0][1]

    async def connect(self, number: int = 0) -> Browser:
        """A connection to one of its addresses."""
        return Browser(await trio.open_tcp_stream("127.0.0.1", self.edge.addresses[number][1]))

    async def ask(self, request: str | bytes, method: str = "GET") -> Answer:
        """One request on a connection of its own."""
        browser = await self.connect()
        try:
            await browser.send(request)
            return await browser.answer(method)
        finally:
            await browser.close()

    async def get(self, path: str = "/", more: str = "", host: str = "x") -> Answer:
        return await self.ask(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n")


@asynccontextmanager
async def gateway(
    *,
    routes: Sequence[Route] = (Route(name="site", group="web"),),
    members: Sequence[TestMember] = (),
    backends: Backends | None = None,
    **config: Any,
) -> AsyncIterator[World]:
    """A gateway on a free port of the loopback, with members that are started first."""
    async with trio.open_nursery() as nursery:
        for member in members:
            await nursery.start(member.run)
        settings = EdgeConfig(**{"listen": ["127.0.0.1:0"], "access_log": "none", **config})
        rows = [member.row() for member in members]
        if backends is None:
            file = EdgeFile(gateway=settings, route=list(routes), member=rows)
            backends = StaticBackends(file)
        edge: Edge = await nursery.start(Edge(settings, backends).run)
        yield World(edge, backends, members)
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], *, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is true, in bounded time."""
    with trio.fail_after(patience_s):
        while True:
            if condition():
                return
            await trio.sleep(0.01)


def make_certificate(folder: Path, file: str, *names: str) -> Path:
    """A self-signed certificate for these host names, as `file`.pem with its key in it."""
    key, chain = folder / f".{file}.key", folder / f".{file}.chain"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={names[0]}", "-addext"]
    command += [f"subjectAltName={alternatives}", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    whole, path = folder / f".{file}.new", folder / f"{file}.pem"
    whole.write_bytes(chain.read_bytes() + key.read_bytes())
    os.replace(whole, path)
    key.unlink()
    chain.unlink()
    return path
