"""A network in memory for meshes of one process: delays, cuts in one or both directions, breaks.

Behaves as TCP does towards the mesh.  Bytes arrive in order after the delay of their direction.
While a direction is cut nothing arrives, and what was sent is not lost but waits; when the cut
lasts `SILENCE_S` the connections break at both ends.  Dialling across a cut ends without an answer
after `CONNECT_S`.  Nothing happens at once that takes time in reality: dialling takes a round trip.

Deterministic: waits only with trio (so a mock clock works), draws nothing, and iterates in the
order of making.  Names are believed, as a `MeshNetwork` has proven them.

    world = MeshWorld()
    mesh = Mesh(node="n1", network=world.network("n1"), …)
    world.cut(["n1"], ["n2", "n3"]); …; world.heal()

An address is the name of the node that answers there, with or without ":port".
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from paas.base.errors import PlatformError
from paas.rpc.mesh import Accepted
from paas.rpc.mesh_limits import CONNECT_S, MESH_OUTBOX_BYTES_MAX, SILENCE_S


class MeshWorld:
    """The wires between the nodes.  Delays in seconds, per direction."""

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.dialled = 0
        self._delays: dict[tuple[str, str], float] = {}
        self._cut: dict[tuple[str, str], float] = {}
        self._serving: dict[str, tuple[trio.Nursery, Accepted]] = {}
        self._links: dict[MemoryLink, None] = {}

    def network(self, node: str) -> MemoryMeshNetwork:
        """What the mesh of this node is given."""
        return MemoryMeshNetwork(self, node)

    def set_delay(self, source: str, target: str, delay_s: float) -> None:
        """For what is sent from now on; it never overtakes what was sent before."""
        self._delays[source, target] = delay_s

    def cut(self, some: Iterable[str], others: Iterable[str], *, one_way: bool = False) -> None:
        """Nothing passes from `some` to `others`, nor back unless `one_way`."""
        rest = list(others)
        for a in some:
            for b in rest:
                for pair in [(a, b)] if one_way else [(a, b), (b, a)]:
                    self._cut.setdefault(pair, trio.current_time())
        self._changed()

    def heal(self) -> None:
        """Everything passes again, what waited first."""
        self._cut.clear()
        self._changed()

    def break_connections(self, some: str, other: str) -> None:
        """End all connections of the two at once, with what is on its way."""
        for link in list(self._links):
            if {link.here, link.there} == {some, other}:
                link.fail(errno.ECONNRESET)

    @property
    def links(self) -> list[MemoryLink]:
        """Ends of connections that are open, oldest first."""
        return list(self._links)

    # -- for networks and links ------------------------------------------------------------------

    def delay(self, source: str, target: str) -> float:
        return self._delays.get((source, target), self.delay_s)

    def cut_since(self, source: str, target: str) -> float | None:
        return self._cut.get((source, target))

    def _changed(self) -> None:
        for link in self._links:
            link.wake()

    def serve(self, node: str, nursery: trio.Nursery, accepted: Accepted) -> None:
        self._serving[node] = (nursery, accepted)

    def unserve(self, node: str) -> None:
        del self._serving[node]

    async def dial(self, source: str, target: str, channel: str) -> MemoryLink:
        self.dialled += 1
        round_trip_s = self.delay(source, target) + self.delay(target, source)
        unreachable = (source, target) in self._cut or (target, source) in self._cut
        await trio.sleep(CONNECT_S if unreachable else round_trip_s)
        if unreachable or (source, target) in self._cut or (target, source) in self._cut:
            raise PlatformError("unavailable", f"nobody answers at {target}: no answer")
        if target not in self._serving:
            raise PlatformError("unavailable", f"nobody answers at {target}: Connection refused")
        ours, theirs = MemoryLink(self, source, target), MemoryLink(self, target, source)
        ours.join(theirs)
        self._links[ours] = self._links[theirs] = None
        nursery, accepted = self._serving[target]
        nursery.start_soon(_run, accepted, source, channel, theirs)
        return ours

    def forget(self, link: MemoryLink) -> None:
        self._links.pop(link, None)


async def _run(accepted: Accepted, node: str, channel: str, link: MemoryLink) -> None:
    try:
        await accepted(node, channel, link)
    finally:
        link.close()


class MemoryMeshNetwork:
    """The `MeshNetwork` of one node of a world."""

    def __init__(self, world: MeshWorld, node: str) -> None:
        self._world = world
        self._node = node

    async def dial(
        self, node: str, address: str, channel: str, nursery: trio.Nursery
    ) -> MemoryLink:
        answers = address.partition(":")[0]
        link = await self._world.dial(self._node, answers, channel)
        if answers != node:
            link.close()
            raise PlatformError("denied", f"{address} is the hub of {answers}, not of {node}")
        return link

    async def serve(
        self, accepted: Accepted, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as nursery:
            self._world.serve(self._node, nursery, accepted)
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._world.unserve(self._node)


@dataclass(slots=True)
class _Flight:
    """Bytes on their way, the end of the stream when there are none."""

    due_s: float
    data: bytes


@dataclass(eq=False, slots=True)
class MemoryLink:
    """One end of a connection: `here` is the node that holds it."""

    world: MeshWorld
    here: str
    there: str
    closed: bool = False
    overflowed: bool = False
    reason: str = ""
    _other: MemoryLink | None = None
    _flight: deque[_Flight] = field(default_factory=deque)  # towards us
    _flight_bytes: int = 0
    _error: int = 0
    _news: trio.Event = field(default_factory=trio.Event)

    def join(self, other: MemoryLink) -> None:
        self._other, other._other = other, self

    @property
    def queued_bytes(self) -> int:
        return self._other._flight_bytes if self._other is not None else 0

    def write(self, data: bytes) -> None:
        other = self._other
        if self.closed or not data or other is None or other.closed:
            return
        other._expect(data)
        if other._flight_bytes > MESH_OUTBOX_BYTES_MAX:
            self.overflowed = True
            self.close()

    def _expect(self, data: bytes) -> None:
        due_s = trio.current_time() + self.world.delay(self.there, self.here)
        if self._flight:
            due_s = max(due_s, self._flight[-1].due_s)
        self._flight.append(_Flight(due_s, data))
        self._flight_bytes += len(data)
        self.wake()

    async def read(self) -> bytes:
        while not self.closed:
            await trio.lowlevel.checkpoint()
            self._news = trio.Event()
            self._judge_silence()
            if self._error:
                raise OSError(self._error, os.strerror(self._error))
            arrived = self._arrived()
            if arrived is not None:
                return arrived
            with trio.move_on_at(self._next_s()):
                await self._news.wait()
        return b""

    def _arrived(self) -> bytes | None:
        """What may be read now; None: nothing yet, b"": the end."""
        if self.world.cut_since(self.there, self.here) is not None:
            return None
        pieces: list[bytes] = []
        while self._flight and self._flight[0].due_s <= trio.current_time():
            if not self._flight[0].data:
                break
            pieces.append(self._flight.popleft().data)
        self._flight_bytes -= sum(map(len, pieces))
        if pieces:
            return b"".join(pieces)
        ended = self._flight and self._flight[0].due_s <= trio.current_time()
        return b"" if ended else None

    def _silence_s(self) -> float:
        """When the kernel would give up, for a direction that is cut."""
        cuts = (
            self.world.cut_since(self.here, self.there),
            self.world.cut_since(self.there, self.here),
        )
        return min((since + SILENCE_S for since in cuts if since is not None), default=float("inf"))

    def _judge_silence(self) -> None:
        if trio.current_time() >= self._silence_s():
            self.fail(errno.ETIMEDOUT)

    def _next_s(self) -> float:
        """When to look again, if there is no news before."""
        cut = self.world.cut_since(self.there, self.here) is not None
        due = self._flight[0].due_s if self._flight and not cut else float("inf")
        return min(due, self._silence_s())

    def fail(self, number: int) -> None:
        """This end breaks with an error of the system, and so does the other, as it will learn."""
        for end in (self, self._other):
            if end is not None and not end.closed and not end._error:
                end._error = number
                end.reason = os.strerror(number)
                end.wake()

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.world.forget(self)
        self._flight.clear()
        self._flight_bytes = 0
        self.wake()
        if self._other is not None and not self._other.closed:
            self._other._expect(b"")
