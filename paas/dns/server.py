"""The sockets of the name service: datagrams in batches, streams one message after another.

Datagrams take the short way: no task each, no await between those that wait already; after a batch
others in this process have their turn.  What takes longer (names elsewhere, transfers) is a task of
bounded number.  Streams are bounded in number, also for one source, in idle time, and in the time
that a begun message takes (RFC 7766; who drips bytes is cut).  (io)
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from paas.dns import limits, transfer, wire
from paas.dns.rates import Verdict
from paas.dns.responder import Face, Forward, Responder, Transfer
from paas.dns.wire import Message

Ask = Callable[[Message, bool], Awaitable[bytes]]
"""Asks others, and makes the answer, by TCP or not."""


async def no_others(message: Message, _tcp: bool) -> bytes:
    """Where nobody else is asked."""
    return wire.refusal(
        wire.header(message.number, message.flags, (1, 0, 0, 0)),
        wire.Refused(wire.REFUSED, message),
    )


@dataclass(slots=True, kw_only=True)
class Server:
    """One name server, on as many sockets as it is given."""

    responder: Responder
    face_of: Callable[[str], Face]
    """How it looks from this address."""
    now_s: Callable[[], float]
    """Any clock that goes on."""
    wall_s: Callable[[], float]
    ask: Ask = no_others
    dropped: int = 0
    _asking: int = 0
    _streams: dict[str, int] = field(default_factory=dict)
    _transfers: int = 0

    # -- datagrams -------------------------------------------------------------------------------

    async def serve_udp(
        self,
        sock: socket.socket,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer on this socket, which is bound and does not block, until cancelled."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(sock)
                # While more comes, looking costs less than waiting.
                while self._drain(sock, nursery):
                    await trio.lowlevel.checkpoint()

    def _drain(self, sock: socket.socket, nursery: trio.Nursery) -> int:
        """All that wait, or a batch of them; how many there were."""
        receive, size, ready = sock.recvfrom, limits.QUERY_BYTES_MAX, self.responder.ready
        face_of, now_s = self.face_of, self.now_s()
        faces: dict[str, Face] = {}
        for count in range(limits.BATCH_MAX):
            try:
                data, sender = receive(size)
            except BlockingIOError:
                return count
            except OSError:  # what an earlier answer met (ICMP); it is not ours to heed
                continue
            source = sender[0]
            face = faces.get(source)
            if face is None:
                face = faces[source] = face_of(source)
                face.refresh()
            if face.rates is not None and not self._within(sock, data, sender, face, now_s):
                continue
            answer = ready(data, face)
            if answer is None:
                reply = self.responder.respond(data, source, face)
                if isinstance(reply, Forward):
                    self._forward(sock, sender, reply.message, nursery)
                    continue
                if not isinstance(reply, bytes):
                    continue
                answer = reply
            try:
                sock.sendto(answer, sender)
            except OSError:  # no buffer, no way back: it asks again
                self.dropped += 1
        return limits.BATCH_MAX

    def _within(
        self, sock: socket.socket, data: bytes, sender: tuple[str, int], face: Face, now_s: float
    ) -> bool:
        verdict = self.responder.limited(data, sender[0], face, now_s)
        if verdict is Verdict.SEND:
            return True
        if verdict is Verdict.SLIP and (answer := self.responder.slip(data)) is not None:
            with contextlib.suppress(OSError):
                sock.sendto(answer, sender)
        return False

    def _forward(
        self,
        sock: socket.socket,
        sender: tuple[str, int],
        message: Message,
        nursery: trio.Nursery,
    ) -> None:
        if self._asking >= limits.FORWARD_OUTSTANDING_MAX:
            self.dropped += 1
            return
        self._asking += 1
        nursery.start_soon(self._ask_and_send, sock, sender, message)

    async def _ask_and_send(
        self, sock: socket.socket, sender: tuple[str, int], message: Message
    ) -> None:
        try:
            answer = await self.ask(message, False)
        finally:
            self._asking -= 1
        with contextlib.suppress(OSError):
            sock.sendto(answer, sender)

    # -- streams ---------------------------------------------------------------------------------

    async def serve_tcp(
        self,
        listener: trio.SocketListener,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            await trio.serve_listeners(self._connection, [listener], handler_nursery=nursery)

    async def _connection(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                source = stream.socket.getpeername()[0]
            except OSError:
                return
            mine = self._streams.get(source, 0)
            total = sum(self._streams.values())
            if total >= limits.TCP_CONNECTIONS_MAX or mine >= limits.TCP_CONNECTIONS_SOURCE_MAX:
                return
            self._streams[source] = mine + 1
            try:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._converse(stream, source)
            except Exception as exc:  # ours: this stream ends, the others go on
                self.responder.on_bug("dns.stream", exc)
            finally:
                self._streams[source] -= 1
                if not self._streams[source]:
                    del self._streams[source]

    async def _converse(self, stream: trio.SocketStream, source: str) -> None:
        for _ in range(limits.TCP_QUERIES_MAX):
            data = await _read_message(stream)
            if data is None:
                return
            face = self.face_of(source)
            reply = self.responder.respond(data, source, face, tcp=True)
            if isinstance(reply, Forward):
                reply = await self.ask(reply.message, True)
            if isinstance(reply, Transfer):
                if not await self._send_zone(stream, reply, face):
                    return
            elif reply is None or not await _send(stream, reply):
                return

    async def _send_zone(self, stream: trio.SocketStream, wanted: Transfer, face: Face) -> bool:
        """Is the connection fit for more?"""
        if self._transfers >= limits.TRANSFERS_MAX:
            busy = wire.Refused(wire.SERVFAIL, wanted.message)
            head = wire.header(wanted.message.number, wanted.message.flags, (1, 0, 0, 0))
            return await _send(stream, wire.refusal(head, busy))
        signature = wanted.signature
        signer = None if signature is None else self.responder.signer(signature)
        self._transfers += 1
        try:
            signing = self.responder.signing(face.zone)
            for part in transfer.messages(face.zone, wanted.message, signing):
                if not part:
                    await trio.lowlevel.checkpoint()
                    continue
                whole = part if signer is None else signer.sign(part, int(self.wall_s()))
                if not await _send(stream, whole):
                    return False
        finally:
            self._transfers -= 1
        return True

    def statistics(self) -> dict[str, int]:
        return {
            **self.responder.figures.to_plain(),
            "dropped": self.dropped,
            "streams": sum(self._streams.values()),
        }


async def _read_message(stream: trio.SocketStream) -> bytes | None:
    """The next message (RFC 1035 §4.2.2: two bytes of length before it); None at the end."""
    buffer = bytearray()
    wanted, deadline_s = 2, limits.TCP_IDLE_S
    with trio.move_on_after(deadline_s) as scope:
        while len(buffer) < wanted:
            chunk = await stream.receive_some(wanted - len(buffer))
            if not chunk:
                return None
            if not buffer:
                scope.deadline = trio.current_time() + limits.TCP_MESSAGE_S
            buffer += chunk
            if wanted == 2 and len(buffer) == 2:
                wanted += int.from_bytes(buffer, "big")
                if not limits.HEADER_BYTES + 2 <= wanted <= limits.QUERY_BYTES_MAX + 2:
                    return None
        return bytes(buffer[2:])
    return None


async def _send(stream: trio.SocketStream, answer: bytes) -> bool:
    with trio.move_on_after(limits.TCP_SEND_S):
        await stream.send_all(len(answer).to_bytes(2, "big") + answer)
        return True
    return False


def bind_udp(host: str, port: int) -> socket.socket:
    """A socket for `serve_udp`; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.RECEIVE_BUFFER_BYTES)
        sock.setblocking(False)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def bind_tcp(host: str, port: int) -> trio.SocketListener:
    """A listener for `serve_tcp`; raises OSError."""
    (listener,) = await trio.open_tcp_listeners(port, host=host, backlog=limits.TCP_CONNECTIONS_MAX)
    return listener


async def bind_both(host: str, port: int) -> tuple[socket.socket, trio.SocketListener]:
    """The same port for datagrams and streams; port 0: any that is free for both."""
    for attempt in range(16):
        udp = bind_udp(host, port)
        try:
            return udp, await bind_tcp(host, udp.getsockname()[1])
        except OSError:
            udp.close()
            if port or attempt == 15:
                raise
    raise AssertionError(math.inf)
