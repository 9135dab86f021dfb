"""The load on a gateway while its members come and go: requests at a rate, WebSockets that stay.

Requests leave on time whether or not earlier ones are answered (an open load), over connections
that are kept.  Half of them are GET, half POST; each is counted by what became of it.  A WebSocket
learns which member it is with, says something every second, must hear it, and comes back when it is
closed; how it was closed is noted.
"""

from __future__ import annotations

import contextlib
import math
import select
import time
from collections import Counter
from dataclasses import dataclass, field

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    RejectConnection,
    Request,
    TextMessage,
)

WAIT_S = 40.0
ABNORMAL = 1006


@dataclass(slots=True)
class Report:
    """What has become of it; times by `time.monotonic`."""

    answered: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)
    failed: list[tuple[float, str, str]] = field(default_factory=list)
    """When it was sent, its method, the status or what broke."""
    unopened: list[tuple[float, str]] = field(default_factory=list)
    """WebSockets that never came to be: when, and what broke."""
    closes: list[tuple[float, str, int]] = field(default_factory=list)
    """When, the member, the code; of one that was not opened the status."""
    echoes: int = 0
    reconnects: int = 0


class Load:
    """`rate` requests a second and `sockets` WebSockets, until `stop`."""

    def __init__(self, address: tuple[str, int], rate: float, sockets: int, path: str) -> None:
        self.report = Report()
        self.sockets_open = 0
        self.all_open = trio.Event()
        self._address, self._rate, self._sockets, self._path = address, rate, sockets, path
        self._idle: list[trio.SocketStream] = []
        self._ending = trio.Event()

    def stop(self) -> None:
        self._ending.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(self._sockets):
                nursery.start_soon(self._socket)
            async with trio.open_nursery() as requests:
                begin, number = trio.current_time(), 0
                while not self._ending.is_set():
                    requests.start_soon(self._request, "POST" if number % 2 else "GET")
                    number += 1
                    await trio.sleep_until(begin + number / self._rate)
            nursery.cancel_scope.cancel()

    # -- requests ----------------------------------------------------------------------------------

    async def _request(self, method: str) -> None:
        sent = time.monotonic()
        try:
            with trio.fail_after(WAIT_S):
                status = await self._ask(method)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, ValueError) as exc:
            self.report.failed.append((sent, method, repr(exc)))
            return
        self.report.answered[method] += 1
        self.report.took_ms.append((time.monotonic() - sent) * 1e3)
        if status != 200:
            self.report.failed.append((sent, method, str(status)))

    async def _ask(self, method: str) -> int:
        stream = await self._connection()
        body = b"x" if method == "POST" else b""
        head = f"{method} {self._path} HTTP/1.1\r\nhost: x\r\n"
        head += f"content-length: {len(body)}\r\n\r\n" if body else "\r\n"
        kept = False
        try:
            await stream.send_all(head.encode() + body)
            data = b""
            while b"\r\n\r\n" not in data:
                data += await _some(stream, f"{len(data)} bytes of the head")
            top, _, rest = data.partition(b"\r\n\r\n")
            words = top.decode("latin-1").lower().split("\r\n")
            length = next(int(w[15:]) for w in words if w.startswith("content-length:"))
            while len(rest) < length:
                rest += await _some(stream, f"{len(rest)} bytes of the body")
            kept = "connection: close" not in words
            return int(words[0].split(" ")[1])
        except StopIteration:
            raise ValueError("an answer without a length") from None
        finally:
            if kept:
                self._idle.append(stream)
            else:
                await trio.aclose_forcefully(stream)

    async def _connection(self) -> trio.SocketStream:
        """A kept one that the gateway has not closed for having been idle; or a new one."""
        while self._idle:
            stream = self._idle.pop()
            if not select.select([stream.socket.fileno()], [], [], 0)[0]:
                return stream
            await trio.aclose_forcefully(stream)
        return await trio.open_tcp_stream(*self._address)

    # -- WebSockets --------------------------------------------------------------------------------

    async def _socket(self) -> None:
        while True:
            member, code = "", ABNORMAL
            try:
                stream = await trio.open_tcp_stream(*self._address)
                async with stream:
                    member, code = await self._talk(stream)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
                self.report.unopened.append((time.monotonic(), repr(exc)))
            if self._ending.is_set():
                return
            self.report.closes.append((time.monotonic(), member, code))
            self.report.reconnects += 1
            if not member:
                await trio.sleep(0.2)

    async def _talk(self, stream: trio.SocketStream) -> tuple[str, int]:
        """Until it is closed: the member, and the code."""
        ws = WSConnection(ConnectionType.CLIENT)
        await stream.send_all(ws.send(Request(host="x", target="/ws")))
        member, due, is_open = "", math.inf, False
        try:
            while True:
                data = b""
                with trio.move_on_at(due) as late:
                    data = await stream.receive_some(65_536)
                if late.cancelled_caught:
                    await stream.send_all(ws.send(Message(data="still there")))
                    due = trio.current_time() + 1.0
                    continue
                if not data:
                    if not member:
                        self.report.unopened.append((time.monotonic(), f"closed, {ws.state.name}"))
                    return member, ABNORMAL
                ws.receive_data(bytes(data))
                for event in ws.events():
                    if isinstance(event, AcceptConnection):
                        await stream.send_all(ws.send(Message(data="who")))
                    elif isinstance(event, RejectConnection):
                        return member, event.status_code
                    elif isinstance(event, TextMessage) and not member:
                        member, due, is_open = event.data, trio.current_time() + 1.0, True
                        self.sockets_open += 1
                        if self.sockets_open == self._sockets:
                            self.all_open.set()
                    elif isinstance(event, TextMessage):
                        self.report.echoes += 1
                    elif isinstance(event, CloseConnection):
                        with contextlib.suppress(trio.BrokenResourceError):  # it did not wait
                            await stream.send_all(ws.send(event.response()))
                        return member, int(event.code)
        finally:
            self.sockets_open -= is_open


async def _some(stream: trio.SocketStream, had: str) -> bytes:
    data = await stream.receive_some(65_536)
    if not data:
        raise trio.BrokenResourceError(f"closed after {had}")
    return bytes(data)
