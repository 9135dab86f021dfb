"""HTTP/1.1 and WebSockets for the frontend's endpoint (io), by h11 and wsproto.

One task a connection, with a time for each step: a request that does not come to its end, or an
answer that nobody reads, ends its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import wsproto
from exchange import BODY_BYTES_MAX, Reply, Request
from wsproto import events as ws
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

HEADER_BYTES_MAX = 16_384
READ_BYTES = 16_384
REQUEST_S_MAX = 20.0
IDLE_S_MAX = 75.0
WRITE_S_MAX = 20.0
MESSAGE_BYTES_MAX = 4_096
PING_S = 25.0
PINGS_MISSED_MAX = 2.5
CONNECTIONS_MAX = 6_000

GOING_AWAY, TOO_BIG, TRY_AGAIN = 1001, 1009, 1013

Handle = Callable[[Request], Awaitable[Reply]]


class Socket:
    """One WebSocket; `send` puts into a queue, `close` ends it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.code = GOING_AWAY
        self.sent: Callable[[], None] = lambda: None
        self.received: Callable[[str], Awaitable[None]] | None = None
        self.end: Callable[[], object] = lambda: None

    def send(self, text: str) -> None:
        self.queue.put_nowait(text)

    def close(self, code: int = GOING_AWAY) -> None:
        self.code = code
        self.queue.put_nowait(None)


Accept = Callable[[Request], Reply | None]
Run = Callable[[Socket], Awaitable[None]]


class Server:
    """`handle` answers requests; `accept` may refuse a WebSocket; `run` lives with one."""

    def __init__(self, handle: Handle, accept: Accept, run: Run, ping_s: float = PING_S) -> None:
        self.ping_s = ping_s
        self._handle = handle
        self._accept = accept
        self._run = run
        self._open: set[asyncio.Task[Any]] = set()
        self.sockets: set[Socket] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._connected, host, port, backlog=512)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Tell all WebSockets to go elsewhere, and let requests come to their end."""
        if self._server is not None:
            self._server.close()
        for socket in list(self.sockets):
            socket.close(GOING_AWAY)
        if self._open:
            await asyncio.wait(self._open, timeout=2.0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._open.add(task)
        try:
            await _Connection(self, reader, writer).serve()
        except (TimeoutError, OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
            pass  # whoever was there is gone, or does not speak HTTP
        finally:
            self._open.discard(task)
            writer.close()


class _Connection:
    """One connection of a browser or of a gateway."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES_MAX)

    async def serve(self) -> None:
        while True:
            try:
                head = await self._event(IDLE_S_MAX)
                if not isinstance(head, h11.Request):
                    return
                if _is_upgrade(head):
                    await self._websocket(head)
                    return
                request = _request(head, await self._body())
            except h11.RemoteProtocolError as exc:
                await self._refuse(exc.error_status_hint or 400)
                return
            if request is None:
                await self._refuse(413)
                return
            await self._answer(await self._server._handle(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _event(self, seconds: float) -> Any:
        async with asyncio.timeout(seconds):
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                if self._http.they_are_waiting_for_100_continue:
                    go = h11.InformationalResponse(status_code=100, headers=[])
                    self._writer.write(self._http.send(go) or b"")
                self._http.receive_data(await self._reader.read(READ_BYTES))

    async def _body(self) -> bytes | None:
        """None when it is too much."""
        pieces, size = [], 0
        while True:
            event = await self._event(REQUEST_S_MAX)
            if isinstance(event, h11.Data):
                size += len(event.data)
                if size > BODY_BYTES_MAX:
                    return None
                pieces.append(bytes(event.data))
            else:
                return b"".join(pieces)

    async def _refuse(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._answer(Reply(status, (("connection", "close"),)))

    async def _answer(self, reply: Reply) -> None:
        headers = [(name, value) for name, value in reply.headers]
        if reply.status != 304:
            headers.append(("content-length", str(len(reply.body))))
        head = h11.Response(status_code=reply.status, headers=headers)
        data = self._http.send(head) or b""
        if reply.body and reply.status != 304:
            data += self._http.send(h11.Data(data=reply.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(WRITE_S_MAX):
            await self._writer.drain()

    # -- WebSockets --

    async def _websocket(self, head: h11.Request) -> None:
        request = _request(head, b"")
        assert request is not None
        refused = self._server._accept(request)
        if refused is not None:
            await self._body()
            await self._answer(refused)
            return
        protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        raw = [(bytes(n), bytes(v)) for n, v in head.headers]
        try:
            protocol.initiate_upgrade_connection(raw, request.path)
            await self._write(protocol.send(ws.AcceptConnection()))
        except (RemoteProtocolError, LocalProtocolError):
            await self._refuse(400)
            return
        socket = Socket(request)
        self._server.sockets.add(socket)
        tasks = [
            asyncio.create_task(self._server._run(socket)),  # first, to hear all that is said
            asyncio.create_task(self._send_queue(protocol, socket)),
            asyncio.create_task(self._receive(protocol, socket)),
            asyncio.create_task(self._ping(protocol)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._server.sockets.discard(socket)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                for done in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(done, Exception) and not isinstance(done, OSError | TimeoutError):
                        raise done

    async def _send_queue(self, protocol: wsproto.WSConnection, socket: Socket) -> None:
        while True:
            text = await socket.queue.get()
            if text is None:
                await self._write(protocol.send(ws.CloseConnection(code=socket.code)))
                return
            socket.sent()
            await self._write(protocol.send(ws.TextMessage(data=text)))

    async def _ping(self, protocol: wsproto.WSConnection) -> None:
        """However much else is sent: the answers show that somebody is there."""
        while True:
            await asyncio.sleep(self._server.ping_s)
            await self._write(protocol.send(ws.Ping()))

    async def _receive(self, protocol: wsproto.WSConnection, socket: Socket) -> None:
        """Until the browser goes; it has to answer pings."""
        data, size, parts = self._http.trailing_data[0], 0, [""]
        while True:
            try:
                if data:  # nothing at all would mean the end
                    protocol.receive_data(data)
                for event in protocol.events():
                    if isinstance(event, ws.Ping):
                        await self._write(protocol.send(event.response()))
                    elif isinstance(event, ws.CloseConnection):
                        await self._write(protocol.send(event.response()))
                        return
                    elif isinstance(event, ws.Message):
                        size += len(event.data)
                        if size > MESSAGE_BYTES_MAX or not isinstance(event, ws.TextMessage):
                            socket.close(TOO_BIG)
                            return
                        parts.append(event.data)
                        if event.message_finished and socket.received is not None:
                            await socket.received("".join(parts))
                            size, parts = 0, []
            except (RemoteProtocolError, LocalProtocolError):
                return
            async with asyncio.timeout(PINGS_MISSED_MAX * self._server.ping_s):
                data = await self._reader.read(READ_BYTES)
            if not data:
                return


def _request(head: h11.Request, body: bytes | None) -> Request | None:
    if body is None:
        return None
    target = head.target.decode("ascii", "replace")
    path, _, query = target.partition("?")
    headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in head.headers}
    return Request(head.method.decode("ascii"), path, query, headers, body)


def _is_upgrade(head: h11.Request) -> bool:
    return any(n == b"upgrade" and v.lower() == b"websocket" for n, v in head.headers)
