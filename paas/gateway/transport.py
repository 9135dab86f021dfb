"""Sockets of the data path: no task, no lock and no copy for a piece that goes through at once.

A `Wire` reads and writes with one system call where the kernel is ready, and waits where it is not;
that wait is the only queue, so a slow reader slows its sender down (back-pressure) and nothing is
gathered here.  `TlsWire` has a TLS session on two memory buffers between.

`pending` are bytes that were read and not yet used: the next request, or the rest of a body.

One task reads and one writes at a time.  A wire that is closed raises trio.ClosedResourceError in
whoever waits for it; errors of the network are OSError.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from typing import Any

import trio

from paas.gateway.http.limits import PIECE_BYTES

ENDS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a connection may end with at any moment."""

_ESTABLISHED = 1
"""A state of tcp(7): neither side has said an end."""

TURNS_MAX = 16
"""Pieces that may go through without a wait before other tasks get their turn."""


class Wire:
    """A connected TCP socket.  Owns it."""

    secure = False
    alpn = ""
    names: frozenset[str] = frozenset()
    """The hosts that the connection is for, if it is for some only."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = b""
        self._turns = 0
        self._closed = False

    async def receive(self) -> bytes:
        """Some bytes; none at the end."""
        try:
            data = self.sock.recv(PIECE_BYTES)
        except BlockingIOError:
            self._turns = 0
            return await self._receive_later()
        self._turns += 1
        if self._turns > TURNS_MAX:
            self._turns = 0
            await trio.lowlevel.checkpoint()
        return data

    async def receive_answer(self) -> bytes:
        """The same, when nothing can be there yet."""
        return await self._receive_later()

    async def _receive_later(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                return self.sock.recv(PIECE_BYTES)
            except BlockingIOError:
                continue

    def send_now(self, data: bytes) -> int:
        """As much as goes without waiting; how much that was."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    async def send(self, data: bytes) -> None:
        """All of it."""
        sent = self.send_now(data)
        if sent < len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, rest: memoryview) -> None:
        while rest:
            await trio.lowlevel.wait_writable(self.sock)
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                continue

    async def end(self) -> None:
        """Say that nothing more is sent; in the best case the other side hears it."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def fresh(self) -> bool:
        """Of an unused connection: is it still open, with nothing said?"""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def hang_up(self) -> bool:
        """The other side is known to be gone: whoever waits comes to the end, behind what is here.

        False when the end that the other side said is here too.
        """
        try:
            state = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state != _ESTABLISHED:
                return False
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()


class TlsWire(Wire):
    """The accepting side of TLS.  First of all: `handshake`."""

    secure = True

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = trio.Lock()

    async def handshake(self) -> None:
        """Raises ssl.SSLError, which is an OSError."""
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
                continue
            except ssl.SSLError:
                await self._flush()  # the alert that tells the other side why
                raise
            await self._flush()
            self.alpn = self.session.selected_alpn_protocol() or ""
            return

    async def receive(self) -> bytes:
        while True:
            try:
                data = self.session.read(PIECE_BYTES)
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    await self._flush()
                if not await self._fill():
                    return b""
                continue
            except ssl.SSLZeroReturnError:
                return b""
            await trio.lowlevel.checkpoint()
            return data

    async def receive_answer(self) -> bytes:
        return await self.receive()

    def send_now(self, data: bytes) -> int:
        return 0  # what is encrypted must leave whole and in its order: that may wait

    async def _fill(self) -> bool:
        data = await super().receive()
        if not data:
            self._incoming.write_eof()
            return False
        self._incoming.write(data)
        return True

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), PIECE_BYTES):
            self.session.write(view[at : at + PIECE_BYTES])
            await self._flush()

    async def _flush(self) -> None:
        """Records leave in their order, whoever waits."""
        if self._sending.locked() or self._outgoing.pending:
            async with self._sending:
                sealed = self._outgoing.read()
                if sealed:
                    sent = super().send_now(sealed)
                    if sent < len(sealed):
                        await self._send_rest(memoryview(sealed)[sent:])

    async def end(self) -> None:
        with suppress(ssl.SSLError):
            self.session.unwrap()
        try:
            await self._flush()
        except ENDS:
            return
        await super().end()


def listen(host: str, port: int, backlog: int = 1_024) -> socket.socket:
    """A listening TCP socket; an empty host is every address, IPv6 and IPv4."""
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        listener.bind((host, port))
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def prepare(sock: socket.socket) -> None:
    """An accepted socket: small answers leave at once, the dead are noticed."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def expect(sock: socket.socket, unheard_s: float) -> None:
    """Of a connected socket: who acknowledges nothing for so long is gone, said or unsaid.

    A container that is killed may take its link along before its connections could end.  An idle
    connection is asked after a third of that time, then twice as often.
    """
    ask_s = max(int(unheard_s / 3), 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ask_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(ask_s // 2, 1))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unheard_s * 1000))


async def connect(host: str, port: int, unheard_s: float) -> Wire:
    """A connection to a member, of whom `unheard_s` without a sign is its end.  Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        prepare(sock)
        expect(sock, unheard_s)
        try:
            sock.connect((host, port))
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error)) from None
    except BaseException:
        sock.close()
        raise
    return Wire(sock)


def peer_address(sock: socket.socket) -> str:
    """The address at the other end; IPv4 ones as such, also on a listener for both."""
    name: Any = sock.getpeername()
    host = str(name[0]).partition("%")[0]
    return host[7:] if host.startswith("::ffff:") and "." in host else host
