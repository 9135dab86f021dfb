"""The harness's event loop: one epoll, callbacks by descriptor, everything sent once a turn.

A turn: wait, let the ready descriptors feed the core, do the core's effects, then hand every outbox
to the kernel in one call each.  So forty messages that arrived together leave together; of four
hundred, the first leave before the last are looked at (outbox.py).  A whole
framework would cost more memory than everything else in here; this is all that is needed.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable

from paas.harness import limits
from paas.harness.outbox import Outbox

CHANNEL_NAME = "component.sock"
OnReady = Callable[[], object]

_READ = select.EPOLLIN | select.EPOLLRDHUP
_WRITE = select.EPOLLOUT
_BACKLOG = 16


class Poller:
    """Which descriptor wakes whom."""

    def __init__(self) -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._readers: dict[int, OnReady] = {}
        self._writers: dict[int, OnReady] = {}
        self._masks: dict[int, int] = {}

    def read(self, fd: int, on_ready: OnReady | None) -> None:
        """Call when readable; None: no longer."""
        if on_ready is None:
            self._readers.pop(fd, None)
        else:
            self._readers[fd] = on_ready
        self._update(fd)

    def write(self, fd: int, on_ready: OnReady | None) -> None:
        """Call when writable; None: no longer."""
        if on_ready is None:
            self._writers.pop(fd, None)
        else:
            self._writers[fd] = on_ready
        self._update(fd)

    def forget(self, fd: int) -> None:
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        self._update(fd)

    def _update(self, fd: int) -> None:
        mask = (_READ if fd in self._readers else 0) | (_WRITE if fd in self._writers else 0)
        known = self._masks.get(fd, 0)
        if mask == known:
            return
        if not mask:
            del self._masks[fd]
            self._epoll.unregister(fd)
            return
        self._masks[fd] = mask
        if known:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)

    def wait(self, timeout_s: float | None) -> list[OnReady]:
        """Callbacks of what is ready, after at most so long."""
        ready: list[OnReady] = []
        for fd, events in self._epoll.poll(-1 if timeout_s is None else timeout_s):
            if events & ~_WRITE and fd in self._readers:
                ready.append(self._readers[fd])
            elif events & ~select.EPOLLIN and fd in self._writers:
                ready.append(self._writers[fd])
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                # Nobody listens now (reading is paused), yet epoll always reports these.
                self._masks.pop(fd, None)
                self._epoll.unregister(fd)
        return ready

    def reads(self, fd: int) -> bool:
        return fd in self._readers


class Stream:
    """A connected socket with the outbox of the core behind it."""

    def __init__(self, poller: Poller, sock: socket.socket, outbox: Outbox) -> None:
        sock.setblocking(False)
        self.closed = False
        self._poller = poller
        self._socket = sock
        self._fd = sock.fileno()
        self._outbox = outbox
        self._on_ready: OnReady | None = None
        self._blocked = False
        self._broken = False
        outbox.on_many = self.flush

    def listen(self, on_ready: OnReady | None) -> None:
        """Who is called when there is something to read; None pauses."""
        if on_ready is not self._on_ready and not self.closed:
            self._on_ready = on_ready
            self._poller.read(self._fd, on_ready)

    @property
    def paused(self) -> bool:
        return self._on_ready is None

    def read(self) -> bytes | None:
        """What is there; empty at the end, None if nothing is there after all."""
        try:
            return self._socket.recv(limits.READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def flush(self) -> bool:
        """Hand the outbox to the kernel; false when the peer is gone."""
        if self._broken:
            return False
        if self.closed or self._blocked or not self._outbox.bytes:
            return True
        data = self._outbox.take()
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._broken = True
            return False
        if sent < len(data):
            self._outbox.put_back(data[sent:])
            self._blocked = True
            self._poller.write(self._fd, self._unblock)
        return True

    def _unblock(self) -> None:
        self._blocked = False
        self._poller.write(self._fd, None)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._outbox.on_many = None
            self._poller.forget(self._fd)
            self._socket.close()


def listen(directories: tuple[str, ...], gid: int) -> tuple[str, socket.socket | None]:
    """The component's socket, in the first directory that will do; only group `gid` may connect.

    Without CAP_CHOWN a file gets the group of its maker: so be of that group for a moment.
    """
    own_gid = os.getegid()
    for directory in directories:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = f"{directory}/{CHANNEL_NAME}"
        mask = os.umask(0o022)
        try:
            os.makedirs(directory, exist_ok=True)
            os.umask(0o117)
            os.setegid(gid)
            listener.bind(path)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            continue
        finally:
            os.setegid(own_gid)
            os.umask(mask)
        listener.setblocking(False)
        return path, listener
    return "", None


def wake_pipe() -> tuple[int, int]:
    """The pipe through which signals wake the loop."""
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
