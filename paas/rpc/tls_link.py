"""A link over TLS that drives its socket directly: no task, no lock and no copy a message.

    write ──> outbox ──> session (encrypts) ──> sealed ──> socket
    read  <── session (decrypts) <── incoming <── socket

The first thing written in a turn of the event loop leaves at once, as one record.  What is written
to the same link later in the turn is gathered and leaves together at its end, before the loop waits
for the world: under load each record and each system call carries the words of many tasks.

What the kernel does not take waits in the outbox unencrypted, and a task drains it.  So the outbox
stays bounded as of every link, and at most one chunk is kept encrypted.  A peer may send records
that carry no message (a new key): the answer to them leaves with the next flush.

The end of the stream is believed without the closing alert of TLS: messages carry their length, so
a stream that was cut off shows as an unfinished message, which is dropped with the connection.

The session is an ssl.SSLObject on two memory buffers, made by `rpc.transport`, which also asks who
the peer is.  Source: RFC 8446; the ssl module's notes on memory BIOs.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

import trio

from paas.base.limits import OUTBOX_BYTES_MAX
from paas.rpc.link import READ_BYTES, _Gathering

RECORD_BYTES = 16_384
"""Most that one record carries (RFC 8446 §5.1)."""

TURN_BYTES_MAX = 1 << 20
"""Bytes that are gathered in one turn of the event loop before they are encrypted all the same."""

assert TURN_BYTES_MAX < OUTBOX_BYTES_MAX


class _Turns(trio.abc.Instrument):
    """Counts the turns of the event loop, and ends each by sending what was gathered in it.

    The hook runs when the loop has decided how long to wait.  It must not wake tasks directly, they
    would sleep on: what needs that goes through the token, which wakes the loop.
    """

    def __init__(self) -> None:
        self.number = 0
        self.gathered: list[TlsLink] = []
        self.token = trio.lowlevel.current_trio_token()

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1
        if self.gathered:
            gathered, self.gathered = self.gathered, []
            for link in gathered:
                link.turn_ends()


_turns: trio.lowlevel.RunVar[_Turns] = trio.lowlevel.RunVar("turns of links")


def _turns_of_this_run() -> _Turns:
    try:
        return _turns.get()
    except LookupError:
        turns = _Turns()
        trio.lowlevel.add_instrument(turns)
        _turns.set(turns)
        return turns


class TlsLink(_Gathering):
    """Owns the connected socket.  `nursery` runs the slow path.  First of all: `handshake`."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        nursery: trio.Nursery,
        *,
        server_side: bool,
        outbox_bytes_max: int = OUTBOX_BYTES_MAX,
    ) -> None:
        super().__init__()
        sock.setblocking(False)
        self._socket = sock
        self._nursery = nursery
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._sealed = memoryview(b"")
        self._limit = outbox_bytes_max
        self._draining = False
        self._turns = _turns_of_this_run()
        self._last_turn = -1
        self._waiting = False
        """Something is gathered for the end of the turn."""
        self._undecided = True
        """The handshake may have left messages behind that came with its last bytes."""
        self.reason = ""
        """Why the connection is over, when it did not simply end."""

    @property
    def queued_bytes(self) -> int:
        return self._outbox_bytes + len(self._sealed)

    def _outbox_bytes_max(self) -> int:
        return self._limit

    # -- before messages -------------------------------------------------------------------------

    async def handshake(self) -> None:
        """Raises OSError (also ssl.SSLError); the caller closes the link and bounds the time."""
        while True:
            try:
                self.session.do_handshake()
                await self._send_handshake()
                return
            except ssl.SSLWantReadError:
                await self._send_handshake()
            except ssl.SSLError:
                self._send_alert()
                raise
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                raise ConnectionAbortedError("the other side closed the connection")
            self._incoming.write(data)

    async def _send_handshake(self) -> None:
        rest = memoryview(self._outgoing.read())
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    def _send_alert(self) -> None:
        """Why we refuse, if it can be sent at once."""
        try:
            self._socket.send(self._outgoing.read())
        except OSError:
            return

    # -- messages --------------------------------------------------------------------------------

    async def read(self) -> bytes:
        """Waits for the event loop in any case, as `SocketLink.read` does."""
        while not self._closed:
            if self._undecided:
                self._undecided = False
                await trio.lowlevel.checkpoint()
            elif not await self._receive():
                break
            if self.closed:  # while we waited
                break
            opened = self._open()
            if opened is not None:
                return opened
        return b""

    async def _receive(self) -> bool:
        """Wait for bytes and keep what came; False at the end of the stream."""
        try:
            await trio.lowlevel.wait_readable(self._socket)
            if self.closed:
                return False
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except trio.ClosedResourceError:
            return False
        except OSError as exc:
            self._broken(exc)
            raise
        self._incoming.write(data)
        return bool(data)

    def _open(self) -> bytes | None:
        """What can be decrypted of what has come; None: not a whole record, b"": the end."""
        session, incoming = self.session, self._incoming
        pieces: list[bytes] = []
        try:
            while incoming.pending or session.pending():
                piece = session.read(RECORD_BYTES)
                if not piece:
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return b"".join(pieces)
        except ssl.SSLError as exc:
            self._broken(exc)
            raise
        if self._outgoing.pending:
            self.flush()
        if len(pieces) == 1:
            return pieces[0]
        return b"".join(pieces) or None

    def flush(self) -> None:
        if self._closed or self._draining:
            return
        if self._last_turn != self._turns.number:
            self._last_turn = self._turns.number
            self._send()
        elif self._outbox_bytes >= TURN_BYTES_MAX:
            self._send()
        elif not self._waiting:
            self._waiting = True
            self._turns.gathered.append(self)

    def turn_ends(self) -> None:
        """Send what was gathered; nothing is raised and no task is woken from here."""
        self._waiting = False
        if self._closed or self._draining:
            return
        try:
            if not self._send_all():
                self._turns.token.run_sync_soon(self._send)
        except Exception as exc:
            self._turns.token.run_sync_soon(self._broken, exc)

    def _send(self) -> None:
        if self._closed or self._draining:
            return
        try:
            if not self._send_all():
                self._draining = True
                self._nursery.start_soon(self._drain)
        except (OSError, RuntimeError) as exc:  # RuntimeError: the nursery has ended, and we too
            self._broken(exc)

    def _send_all(self) -> bool:
        """Send until nothing is left (True) or the kernel takes no more (False)."""
        while True:
            if not self._sealed:
                if self._outbox:
                    self._seal(self._take())
                elif not self._outgoing.pending:
                    return True
                self._sealed = memoryview(self._outgoing.read())
            try:
                sent = self._socket.send(self._sealed)
            except BlockingIOError:
                return False
            self._sealed = self._sealed[sent:]

    def _seal(self, data: bytes | memoryview) -> None:
        written = self.session.write(data)
        while written < len(data):
            data = memoryview(data)[written:]
            written = self.session.write(data)

    async def _drain(self) -> None:
        try:
            while not self._closed:
                await trio.lowlevel.wait_writable(self._socket)
                if self._send_all():
                    return
        except trio.ClosedResourceError:
            self.close()
        except OSError as exc:
            self._broken(exc)
        finally:
            self._draining = False

    # -- the end ---------------------------------------------------------------------------------

    def _broken(self, exc: Exception) -> None:
        self.reason = self.reason or describe(exc)
        self.close()

    def close(self) -> None:
        if not self._closed:
            if self._waiting and not self._draining and not self.reason:
                with suppress(OSError):  # as if it had left when it was written
                    self._send_all()
            self._closed = True
            self._drop_outbox()
            self._sealed = memoryview(b"")
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def describe(exc: Exception) -> str:
    """What a person needs to know of a failure of a socket or of TLS."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).replace("_", " ").lower()
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc)
