"""Byte streams in memory, whose peers are fed instead of reading.

What arrives is pushed into the peer, in the context of the process that owns it.  That saves a task
switch a message, which is most of what a message costs in a simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from paas.base.errors import PlatformError
from paas.rpc.link import corked
from paas.rpc.peer import Peer, Sweeper
from paas.sim.platform.invariants import Broken
from paas.sim.platform.process import Process


def broken() -> PlatformError:
    """What who waits for an answer is told; a new one, since raising an error ties frames to it."""
    return PlatformError("unknown-outcome", "the connection broke before the answer")


def feed(peer: Peer, data: bytes) -> None:
    """Bytes have arrived at `peer`.  Nobody here breaks the protocol, unless by our bug: Broken."""
    if not peer.link.closed and not peer.feed(data):
        raise Broken("no-bug", "a simulated party broke the protocol")


class SimSweeper(Sweeper):
    """Expires overdue requests of a process's peers, by actions instead of a task."""

    PERIOD_S = 0.25

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._watched: dict[Peer, None] = {}

    def watch(self, peer: Peer) -> None:
        if not self._watched:
            self._process.world.after(self.PERIOD_S, self._process.post, self._sweep)
        self._watched[peer] = None

    def _sweep(self) -> None:
        now_s = self._process.world.now_s
        with corked():
            for peer in list(self._watched):
                peer.expire(now_s)
                if not peer.connection.waiting:
                    del self._watched[peer]
        if self._watched:
            self._process.world.after(self.PERIOD_S, self._process.post, self._sweep)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._watched)


class LocalLink:
    """One direction-pair of a local socket, the hub's end: bytes to the far end take a moment.

    `deliver` gets what the hub writes; the far end uses `feed` through the process.
    """

    def __init__(self, process: Process, delay_s: float, deliver: Callable[[bytes], None]) -> None:
        self._process = process
        self._delay_s = delay_s
        self._deliver = deliver
        self._gathered: list[bytes] = []
        self.closed = False
        self.queued_bytes = 0
        self.on_closed: Callable[[], None] | None = None

    async def read(self) -> bytes:
        raise AssertionError("a fed peer does not read")

    def write(self, data: bytes) -> None:
        if self.closed or not data or not self._process.alive:
            return
        if not self._gathered:
            self._process.world.after(self._delay_s, self._arrive)
        self._gathered.append(data)
        self.queued_bytes += len(data)

    def _arrive(self) -> None:
        gathered, self._gathered = self._gathered, []
        self.queued_bytes = 0
        self._deliver(b"".join(gathered))

    def close(self) -> None:
        """The hub closes it: the far end learns that after what was written before."""
        if not self.closed:
            self.closed = True
            if self.on_closed is not None:
                self._process.world.after(self._delay_s, self.on_closed)
