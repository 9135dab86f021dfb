"""Accepting connections, for as long as the process lives.

A listener never dies of its clients: when the process or the machine is out of descriptors, accept
waits a little and goes on (a reserved descriptor is given up to accept the caller and tell it);
beyond `connections_max` a newcomer is told so and closed; those who are there are not disturbed.
An exception in what serves one connection, foreseen or not, ends that connection and nothing else.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.rpc.link import Link, SocketLink
from paas.rpc.peer import OnRequest, Peer, Sweeper
from paas.rpc.readers import Readers
from paas.wire import codec

OpenLink = Callable[[socket.socket, trio.Nursery], Awaitable[tuple[Link, dict[str, Any]]]]
"""Makes a link of an accepted socket, and says what is known about the peer."""

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_S = 0.1
ACCEPT_BURST = 64
BACKLOG = 1_024
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_USELESS = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP}
"""What accept says of a socket that will never accept anybody: our bug, so it is not retried."""


def listen_unix(path: str, mode: int = 0o600) -> socket.socket:
    """A listening UNIX stream socket at `path`, replacing what a dead process left there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    temporary = f"{path}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    listener.bind(temporary)
    os.chmod(temporary, mode)
    listener.listen(BACKLOG)
    os.rename(temporary, path)
    listener.setblocking(False)
    return listener


async def serve(
    listener: socket.socket,
    on_request: OnRequest,
    sweeper: Sweeper,
    *,
    form: Form | None = None,
    connections_max: int,
    open_link: OpenLink | None = None,
    on_open: Callable[[Peer], None] | None = None,
    on_close: Callable[[Peer], None] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept and run peers until cancelled.

    Without `open_link` they are on plain UNIX sockets, whose peers the kernel vouches for; one task
    reads them all.  `open_link` and `on_open` may raise PlatformError to refuse a peer.
    """
    reserve: list[int] = []
    _keep_reserve(reserve)

    def make(link: Link, info: dict[str, Any]) -> Peer:
        peer = Peer(link, Connection(form), sweeper, on_request, on_close=on_close)
        peer.info.update(info)
        if on_open is not None:
            on_open(peer)
        return peer

    async with trio.open_nursery() as nursery:
        door = _Door(nursery, make, open_link, connections_max)
        nursery.start_soon(door.readers.run)
        task_status.started()
        try:
            while True:
                for sock in await _accept(listener, reserve):
                    door.enter(sock)
        finally:
            listener.close()
            for descriptor in reserve:
                os.close(descriptor)


class _Door:
    """Those who came through one listener and are still there."""

    def __init__(
        self,
        nursery: trio.Nursery,
        make: Callable[[Link, dict[str, Any]], Peer],
        open_link: OpenLink | None,
        connections_max: int,
    ) -> None:
        self.readers = Readers(nursery, self._left)
        self._nursery = nursery
        self._make = make
        self._open_link = open_link
        self._connections_max = connections_max
        self._count = 0

    def enter(self, sock: socket.socket) -> None:
        if self._count >= self._connections_max:
            text = f"{self._connections_max} connections are open already"
            _let_down(sock, PlatformError("limit-exceeded", text))
            return
        self._count += 1
        if self._open_link is None:
            self._plain(sock)
        else:
            self._nursery.start_soon(self._opened, sock, self._open_link)

    def _left(self) -> None:
        self._count -= 1

    def _plain(self, sock: socket.socket) -> None:
        try:
            link = SocketLink(sock, self._nursery)
            self.readers.add(self._make(link, {"credentials": link.credentials()}), link)
        except Exception as error:
            _let_down(sock, error)
            self._left()

    async def _opened(self, sock: socket.socket, open_link: OpenLink) -> None:
        """Its tasks end with it."""
        try:
            async with trio.open_nursery() as nursery:
                await self._make(*await open_link(sock, nursery)).run()
                nursery.cancel_scope.cancel()
        except* Exception as group:
            _let_down(sock, _first(group))
        finally:
            self._left()
            sock.close()


class Callers:
    """Who calls at a listener, for servers that speak no JSON-RPC with strangers: one who comes
    when there are no descriptors is hung up on without a word.  Owns the listener.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._reserve: list[int] = []
        _keep_reserve(self._reserve)

    async def accept(self) -> list[socket.socket]:
        """Some callers, none after a shortage; raises OSError only for a useless listener."""
        return await _accept(self._listener, self._reserve, tell=False)

    def close(self) -> None:
        self._listener.close()
        for descriptor in self._reserve:
            os.close(descriptor)
        self._reserve.clear()


async def _accept(
    listener: socket.socket, reserve: list[int], *, tell: bool = True
) -> list[socket.socket]:
    """Callers that wait, a few at a time: between two crowds everybody else gets a turn."""
    await trio.lowlevel.wait_readable(listener)
    accepted: list[socket.socket] = []
    try:
        while len(accepted) < ACCEPT_BURST:
            accepted.append(listener.accept()[0])
    except BlockingIOError:
        return accepted
    except OSError as exc:
        if exc.errno in _USELESS:
            raise
        if exc.errno in _SCARCE and not accepted:
            _accept_and_refuse(listener, reserve, tell=tell)
            await trio.sleep(ACCEPT_PAUSE_S)
            _keep_reserve(reserve)
    return accepted


def _keep_reserve(reserve: list[int]) -> None:
    """Hold one descriptor for the time when there are none."""
    if not reserve:
        try:
            reserve.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return  # still scarce: tried again after the next pause


def _first(group: BaseException) -> BaseException:
    """One of the errors in a group of groups."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _accept_and_refuse(listener: socket.socket, reserve: list[int], *, tell: bool) -> None:
    """Out of descriptors: give up the reserve for one accept, so that the caller hears why."""
    if not reserve:
        return
    os.close(reserve.pop())
    try:
        sock, _ = listener.accept()
        if tell:
            _refuse(sock, PlatformError("limit-exceeded", "the agent is out of file descriptors"))
        sock.close()
    except OSError:
        return
    finally:
        _keep_reserve(reserve)


def _let_down(sock: socket.socket, error: BaseException) -> None:
    """This connection does not come about."""
    if isinstance(error, PlatformError):
        _refuse(sock, error)
    else:
        logger.error("a connection failed", exc_info=error)
    sock.close()


def _refuse(sock: socket.socket, error: BaseException) -> None:
    """One error line; the newcomer's codec is not known yet and JSON is what a person can read."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": None}
    if isinstance(error, PlatformError):
        body["error"] = error.to_rpc()
    try:
        sock.setblocking(False)
        sock.send(codec.to_json(body) + b"\n")
    except OSError:
        return
