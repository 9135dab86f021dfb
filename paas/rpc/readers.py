"""One task that reads many sockets: who is connected and says nothing costs no task.

    sockets ──> epoll ──> one task of trio waits for the epoll's descriptor
                              │ a turn: every socket that is ready gives at most READ_BYTES
                              v
                          Peer.feed, Peer.finish

A task that waits takes about 4 KB, and trio asks the kernel for it anew before every message; here
a connection is an entry of a table, registered once.  Each gets one read a turn, in the order in
which the kernel tells of them (level-triggered: what is left is told again); between two turns all
other tasks of the process have theirs.  What a few of them cause leaves together (`link.corked`).

A socket that we close ourselves leaves the table at once, since its number may come back with the
next caller; who waits for its peer is told a moment later, as closing may happen in the middle of
anything.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import cast

import trio

from paas.rpc.link import SocketLink, corked
from paas.rpc.peer import Peer

READY_MAX = 256
"""Sockets that are read in a turn."""

TOGETHER = 8
"""Sockets whose consequences leave together: the first does not wait for the last of a crowd."""

_READ = select.EPOLLIN | select.EPOLLRDHUP


class Readers:
    """The peers of a listener.  `on_finished` is called once for each, after its end."""

    def __init__(self, nursery: trio.Nursery, on_finished: Callable[[], None]) -> None:
        self._nursery = nursery
        self._on_finished = on_finished
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._peers: dict[int, Peer] = {}
        self._ending: dict[Peer, None] = {}
        self._on_close = self._closed  # one for all of them

    def add(self, peer: Peer, link: SocketLink) -> None:
        """Read for `peer` from now on, until its link is closed."""
        fd = link.fileno()
        self._epoll.register(fd, _READ)
        self._peers[fd] = peer
        link.on_close = self._on_close

    async def run(self) -> None:
        """Until cancelled; then all peers are finished."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                ready = [fd for fd, _ in self._epoll.poll(0, READY_MAX)]
                for begin in range(0, len(ready), TOGETHER):
                    with corked():
                        for fd in ready[begin : begin + TOGETHER]:
                            self._read(fd)
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
            for peer in [*self._peers.values(), *self._ending]:
                self._finish(peer)

    def _read(self, fd: int) -> None:
        peer = self._peers.get(fd)
        if peer is None:
            return  # closed by what another one said in this turn
        link = cast(SocketLink, peer.link)
        data = link.receive()
        if data is not None and not peer.feed(data):
            link.flush()  # its last words, perhaps
            link.close()

    def _closed(self, link: SocketLink) -> None:
        """By whomever; the kernel forgets it with its descriptor."""
        peer = self._peers.pop(link.fileno())
        if self._epoll.closed:
            return
        self._ending[peer] = None
        try:
            self._nursery.start_soon(self._soon, peer)
        except RuntimeError:  # the nursery has ended: `run` finishes what is left
            return

    async def _soon(self, peer: Peer) -> None:
        if peer in self._ending:
            self._finish(peer)

    def _finish(self, peer: Peer) -> None:
        self._ending.pop(peer, None)
        peer.finish()
        self._on_finished()
