"""Links: the byte streams under a connection, with a bounded way out.

Writing never waits: bytes go to the kernel at once if it takes them, else to an outbox of at most
`OUTBOX_BYTES_MAX`.  A peer that lets its outbox fill is a slow consumer; its link is closed, since
neither growing memory nor stopping the others is acceptable (rule "back-pressure, not buffers").

`SocketLink` drives a non-blocking UNIX or TCP socket directly, which saves a task switch a message;
`StreamLink` stands on any trio stream (TLS, memory).  While `corked()` is active, writes of all
links are gathered and leave in one system call a link at its end: a reader that digests forty
messages at once sends their forty consequences in few packets.
"""

from __future__ import annotations

import abc
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import trio

from paas.base.limits import OUTBOX_BYTES_MAX

READ_BYTES = 65_536

CORK_BYTES_MAX = 8 << 10
"""Bytes that a cork gathers for one link before they are handed to the kernel all the same: who
reads them can begin, on another core, while we still digest the rest of what has arrived.
"""

CHUNK_BYTES = 256 << 10
"""Bytes handed to the kernel at once."""

assert CORK_BYTES_MAX < OUTBOX_BYTES_MAX


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who is at the other end of a UNIX socket, by the kernel (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


class Link(Protocol):
    """What a peer needs of a byte stream."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end.  Raises OSError or trio.BrokenResourceError."""
        ...

    def write(self, data: bytes) -> None:
        """Send or queue.  A link that is closed, or whose outbox overflows, swallows the data."""
        ...

    def close(self) -> None: ...

    @property
    def closed(self) -> bool: ...

    @property
    def queued_bytes(self) -> int:
        """Bytes written that the kernel has not taken yet."""
        ...


class _Cork:
    """The links with gathered bytes while somebody holds the cork; one a thread of control."""

    depth: ClassVar[int] = 0
    links: ClassVar[dict[_Gathering, None]] = {}  # in order, so that a simulated run repeats

    def __enter__(self) -> None:
        _Cork.depth += 1

    def __exit__(self, *_: object) -> None:
        _Cork.depth -= 1
        if _Cork.depth == 0 and _Cork.links:
            links = list(_Cork.links)
            _Cork.links.clear()
            for link in links:
                link.flush()


_CORK = _Cork()


def corked() -> _Cork:
    """Gather writes until the end of the block; the block must not await."""
    return _CORK


class _Gathering(abc.ABC):
    """The outbox that both kinds of links share.

    `_outbox_bytes` is the sum of the lengths in `_outbox`.  Closing empties the outbox: who wants
    its last words heard closes when they have left.
    """

    __slots__ = ("_closed", "_outbox", "_outbox_bytes", "overflowed")

    def __init__(self) -> None:
        self._outbox: list[bytes | memoryview] = []
        self._outbox_bytes = 0
        self._closed = False
        self.overflowed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def queued_bytes(self) -> int:
        return self._outbox_bytes

    def write(self, data: bytes) -> None:
        if self._closed or not data:
            return
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if _Cork.depth and self._outbox_bytes < CORK_BYTES_MAX:
            _Cork.links[self] = None
            return
        # One who reads must not be cut off for what we gathered ourselves: the kernel comes first.
        self.flush()
        if self._outbox_bytes > self._outbox_bytes_max():
            self.overflowed = True
            self.close()

    @abc.abstractmethod
    def flush(self) -> None:
        """Send what was gathered, or see to it that it is sent.  Never raises."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give up the stream, and what is still queued with it; nothing the second time."""

    def _outbox_bytes_max(self) -> int:
        return OUTBOX_BYTES_MAX

    def _take(self) -> bytes | memoryview:
        """The next bytes to send, CHUNK_BYTES of them at most: copying all that is queued whenever
        a slow reader takes a little would cost us more than him.
        """
        outbox = self._outbox
        data = outbox[0]
        if len(data) > CHUNK_BYTES:
            view = memoryview(data)
            outbox[0] = view[CHUNK_BYTES:]
            data = view[:CHUNK_BYTES]
        elif self._outbox_bytes <= CHUNK_BYTES:
            if len(outbox) > 1:
                data = b"".join(outbox)
            outbox.clear()
        else:
            count, size = 1, len(data)
            while size + len(outbox[count]) <= CHUNK_BYTES:
                size += len(outbox[count])
                count += 1
            data = b"".join(outbox[:count])
            del outbox[:count]
        self._outbox_bytes -= len(data)
        return data

    def _put_back(self, rest: bytes | memoryview) -> None:
        self._outbox.insert(0, rest)
        self._outbox_bytes += len(rest)

    def _drop_outbox(self) -> None:
        self._outbox.clear()
        self._outbox_bytes = 0


class SocketLink(_Gathering):
    """A link on a connected stream socket, which it owns.  `nursery` runs the slow path."""

    __slots__ = ("_draining", "_nursery", "_socket", "on_close")

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        super().__init__()
        sock.setblocking(False)
        self._socket = sock
        self._nursery = nursery
        self._draining = False
        self.on_close: Callable[[SocketLink], None] | None = None
        """Called once, when the link is closed, by whomever; in the middle of anything."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> bytes | None:
        """What is there; empty at the end, None if nothing is there after all."""
        try:
            return self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    async def read(self) -> bytes:
        """Waits for the event loop in any case: one who always has more to say gets one turn a
        round like everybody else, and can be cancelled.
        """
        while not self._closed:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
        return b""

    def flush(self) -> None:
        if self._closed or self._draining:
            return
        try:
            if not self._send_all():
                self._draining = True
                self._nursery.start_soon(self._drain)
        except (OSError, RuntimeError):  # RuntimeError: the nursery has ended, and we with it
            self.close()

    def _send_all(self) -> bool:
        """Send until the outbox is empty (True) or the kernel takes no more (False)."""
        while self._outbox:
            data = self._take()
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._put_back(memoryview(data)[sent:])
                return False
        return True

    async def _drain(self) -> None:
        try:
            while not self._closed:
                await trio.lowlevel.wait_writable(self._socket)
                if self._send_all():
                    return
        except (OSError, trio.ClosedResourceError):
            self.close()
        finally:
            self._draining = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._drop_outbox()
            trio.lowlevel.notify_closing(self._socket)
            if self.on_close is not None:
                self.on_close(self)
            self._socket.close()

    def credentials(self) -> PeerCredentials:
        """The peer's process by the kernel (UNIX sockets only)."""
        size = struct.calcsize("3i")
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return PeerCredentials(*struct.unpack("3i", raw))


class StreamLink(_Gathering):
    """A link on a trio stream, which it owns; `nursery` runs its one writer."""

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        super().__init__()
        self._stream = stream
        self._wake = trio.Event()
        self._writing = trio.CancelScope()
        nursery.start_soon(self._writer)

    async def read(self) -> bytes:
        return bytes(await self._stream.receive_some(READ_BYTES))

    def flush(self) -> None:
        self._wake.set()

    async def _writer(self) -> None:
        try:
            # The scope ends a send to one who does not read, which would never end by itself.
            with self._writing:
                while not self._closed:
                    await self._wake.wait()
                    self._wake = trio.Event()
                    while self._outbox and not self._closed:
                        await self._stream.send_all(self._take())
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass
        finally:
            self.close()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    def close(self) -> None:
        self._closed = True
        self._drop_outbox()
        self._writing.cancel()
