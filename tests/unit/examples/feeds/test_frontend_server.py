"""The frontend's server, byte by byte over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from socket import create_connection, socket
from typing import Any

import pytest


class Running:
    """A server in a thread of its own, which answers with the path."""

    def __init__(self, frontend: Any, ping_s: float = 25.0) -> None:
        self._frontend = frontend
        self._ping_s = ping_s
        self._ready = threading.Event()
        self.sockets: list[Any] = []
        self.heard: list[str] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._ready.wait(10)

    async def _main(self) -> None:
        reply = self._frontend.exchange.Reply

        async def handle(request: Any) -> Any:
            return reply(200, (("x-method", request.method),), request.path.encode() + request.body)

        def accept(request: Any) -> Any:
            return reply(403) if request.path != "/live" else None

        async def run(ws: Any) -> None:
            async def received(text: str) -> None:
                self.heard.append(text)
                ws.send(f"echo {text}")

            ws.received = received
            self.sockets.append(ws)
            ws.send("hello")
            await asyncio.Event().wait()

        server = self._frontend.server.Server(handle, accept, run, self._ping_s)
        self.port = await server.start("127.0.0.1", 0)
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()
        await server.stop()

    def talk(self, text: str) -> None:
        """To all WebSockets."""
        for ws in self.sockets:
            self._loop.call_soon_threadsafe(ws.send, text)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def connect(self, data: bytes = b"") -> socket:
        sock = create_connection(("127.0.0.1", self.port), timeout=10)
        sock.sendall(data)
        return sock


@pytest.fixture(scope="module")
def server(part: Any) -> Iterator[Running]:
    made = Running(part("frontend"))
    yield made
    made.stop()


def answer(sock: socket, end: bytes = b"") -> bytes:
    """What comes until the other side closes, or until this."""
    found = b""
    while not end or end not in found:
        data = sock.recv(65_536)
        if not data:
            break
        found += data
    return found


def test_requests_on_one_connection(server: Running) -> None:
    with server.connect() as sock:
        for path in (b"/a", b"/b"):
            sock.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(sock, path).startswith(b"HTTP/1.1 200")
        sock.sendall(b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
        assert answer(sock, b"/cbody").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000, b"413"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01", b""),
    ],
)
def test_what_is_no_request_ends_the_connection(
    server: Running, data: bytes, status: bytes
) -> None:
    with server.connect(data) as sock:
        sock.shutdown(1)
        found = answer(sock)
        assert found.split(b" ")[1:2] == ([status] if status else found.split(b" ")[1:2])


UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def masked(text: bytes, opcode: int = 0x81) -> bytes:
    mask = b"\x01\x02\x03\x04"
    body = bytes(b ^ mask[i % 4] for i, b in enumerate(text))
    length = (
        bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
    )
    return bytes([opcode]) + length + mask + body


def test_a_websocket(server: Running) -> None:
    with server.connect(UPGRADE % b"/live" + masked(b"early")) as sock:
        found = answer(sock, b"early")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in found
        assert found.endswith(b"\x81\x05hello\x81\x0aecho early")
        sock.sendall(masked(b"ping me", 0x89))
        assert answer(sock, b"ping me").startswith(b"\x8a\x07")
        sock.sendall(masked(b"\x03\xe8", 0x88))
        assert answer(sock).startswith(b"\x88")
    assert "early" in server.heard


@pytest.mark.parametrize(
    "data",
    [
        masked(b"x" * 5_000),
        b"\x81\x05hello",  # not masked
        b"\xff\x80\x01\x02\x03\x04",  # bits that mean nothing here
        masked(b"\xff\xfe"),  # no UTF-8
        masked(b"x", 0x82),  # binary
        b"\x81\xff" + b"\xff" * 8,  # a length that nobody has
    ],
)
def test_frames_that_are_wrong_end_it(server: Running, data: bytes) -> None:
    with server.connect(UPGRADE % b"/live") as sock:
        answer(sock, b"hello")
        sock.sendall(data)
        found = answer(sock)
        assert found == b"" or found[0] == 0x88


def test_a_websocket_may_be_refused(server: Running) -> None:
    with server.connect(UPGRADE % b"/other") as sock:
        assert answer(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 403")
    with server.connect((UPGRADE % b"/live").replace(b"Version: 13", b"Version: 7")) as sock:
        assert answer(sock, b"\r\n\r\n").split(b" ")[1] in (b"400", b"426")


def test_who_leaves_without_a_word_leaves_nothing(server: Running) -> None:
    for _ in range(20):
        with server.connect(UPGRADE % b"/live") as sock:
            answer(sock, b"hello")
    with server.connect(b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n") as sock:
        assert b"/after" in answer(sock, b"/after")


def test_who_answers_pings_stays_and_who_does_not_goes(part: Any) -> None:
    running = Running(part("frontend"), ping_s=0.2)
    try:
        with (
            running.connect(UPGRADE % b"/live") as there,
            running.connect(UPGRADE % b"/live") as silent,
        ):
            answer(there, b"hello")
            for number in range(8):
                found = answer(there, b"\x89\x00")
                assert found.count(b"\x89\x00") >= 1
                there.sendall(masked(b"", 0x8A))
                running.talk(f"busy {number}")  # what is sent is no sign of life
            assert answer(silent).count(b"\x89\x00") >= 2
            there.sendall(masked(b"still here"))
            assert b"echo still here" in answer(there, b"echo still here")
    finally:
        running.stop()
