"""Connections between replicas, as the transport promises them (rule T0), and what befalls them.

One connection for a pair, with an epoch larger than every one of the pair before; whole messages,
in order, each once, or lost with the connection.  On that promise the links do their worst: delay
of any shape, one direction that is blocked while the other goes on, connections that break with
everything that was under way, ends that notice it at different times, and messages of a connection
that was given up and still arrive (with its old epoch, so that the replica can drop them).

A blocked direction keeps its messages, as TCP does: they arrive when the block ends, unless the
connection was given up before.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from paas.sim.consensus import limits

Pair = tuple[str, str]
"""Two names in order."""


class Host(Protocol):
    """What the links need of the world they are in."""

    random: random.Random

    @property
    def now_s(self) -> float: ...

    def after(self, delay_s: float, action: Callable[[], None]) -> None: ...

    def alive(self, name: str) -> bool: ...

    def note(self, name: str, peer: str, epoch: int, data: bytes | None, up: bool) -> bool:
        """Put something into a replica's inbox; false when that is full."""
        ...

    def count(self, what: str) -> None: ...


class Connection:
    """One epoch of a pair."""

    __slots__ = ("closed", "due_s", "epoch", "pair", "queues")

    def __init__(self, pair: Pair, epoch: int) -> None:
        self.pair = pair
        self.epoch = epoch
        self.closed = False
        self.queues: dict[str, deque[tuple[float, bytes]]] = {name: deque() for name in pair}
        self.due_s = dict.fromkeys(pair, 0.0)  # towards whom -> when the last message arrives


class Links:
    """All connections of a world."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connections: dict[Pair, Connection] = {}
        self._blocked: dict[Pair, int] = {}  # (source, target) -> how many faults block it
        self._epoch = 0
        self._names: list[str] = []
        self.delay_s: Callable[[str, str], float] = lambda source, target: 0.0005
        self.late_chance = 0.0
        """How often messages of a broken connection arrive after all, on the old epoch."""

        self.drop_when_full = False
        """What does not fit into an inbox is lost alone, instead of with its connection."""

    # -- who is there ------------------------------------------------------------------------------

    def join(self, name: str) -> None:
        if name not in self._names:
            self._names.append(name)
            self._names.sort()
        for other in self._names:
            if other != name:
                self._dial(_pair(name, other))

    def leave(self, name: str) -> None:
        """Its process ended; the others notice at once (their machine is told)."""
        for pair in [p for p in self._connections if name in p]:
            self._break(self._connections[pair])

    def _dial(self, pair: Pair) -> None:
        """Try to connect; again later while that makes sense."""
        host = self._host
        if pair in self._connections or not all(host.alive(name) for name in pair):
            return
        if pair in self._blocked or (pair[1], pair[0]) in self._blocked:
            return
        self._epoch += 1
        connection = self._connections[pair] = Connection(pair, self._epoch)
        for name, peer in (pair, (pair[1], pair[0])):
            host.note(name, peer, connection.epoch, None, True)

    def connected(self, a: str, b: str) -> bool:
        return _pair(a, b) in self._connections

    # -- messages ----------------------------------------------------------------------------------

    def send(self, source: str, target: str, data: bytes) -> None:
        pair = (source, target) if source < target else (target, source)
        connection = self._connections.get(pair)
        if connection is None:
            return
        now_s = self._host.now_s
        due_s = max(connection.due_s[target], now_s + self.delay_s(source, target))
        connection.due_s[target] = due_s
        connection.queues[target].append((due_s, data))
        self._host.after(due_s - now_s, partial(self._arrive, connection, source, target))

    def _arrive(self, connection: Connection, source: str, target: str) -> None:
        queue, host = connection.queues[target], self._host
        if connection.closed or (self._blocked and (source, target) in self._blocked):
            return
        until_s = host.now_s + 1e-9
        while queue and queue[0][0] <= until_s:
            _, data = queue.popleft()
            if not host.note(target, source, connection.epoch, data, True):
                host.count("inbox-full")
                if self.drop_when_full:
                    continue
                self._break(connection)
                return

    # -- misfortune --------------------------------------------------------------------------------

    def reset(self, a: str, b: str) -> bool:
        """The connection breaks; false when there was none."""
        connection = self._connections.get(_pair(a, b))
        if connection is not None:
            self._break(connection)
        return connection is not None

    def _break(self, connection: Connection, *, noticed_s: float = 0.02) -> None:
        """Both ends notice, each in its time; what was under way is lost, or comes too late."""
        if connection.closed:
            return
        host, pair = self._host, connection.pair
        connection.closed = True
        del self._connections[pair]
        for name, peer in (pair, (pair[1], pair[0])):
            delay_s = host.random.random() * noticed_s
            host.after(delay_s, self._notice(name, peer, connection.epoch))
            for _, data in connection.queues[name]:
                if self.late_chance and host.random.random() < self.late_chance:
                    late_s = host.random.random() * 2
                    host.after(late_s, self._late(name, peer, connection.epoch, data))
        host.after(0.02 + host.random.random() * 0.3, lambda: self._dial(pair))

    def _notice(self, name: str, peer: str, epoch: int) -> Callable[[], None]:
        return lambda: void(self._host.note(name, peer, epoch, None, False))

    def _late(self, name: str, peer: str, epoch: int, data: bytes) -> Callable[[], None]:
        def arrive() -> None:
            if self._host.alive(name):
                self._host.count("old-connection")
                self._host.note(name, peer, epoch, data, True)

        return arrive

    def block(self, directions: Iterable[Pair], *, silent: bool) -> Callable[[], None]:
        """Nothing gets through; gives what ends it.  Silent: the ends are not told at once."""
        held = [d for d in directions if d[0] != d[1]]
        for direction in held:
            self._blocked[direction] = self._blocked.get(direction, 0) + 1
        for pair in sorted({_pair(*d) for d in held} & self._connections.keys()):
            connection = self._connections[pair]
            if silent:
                wait_s = limits.SILENT_S * (0.3 + self._host.random.random())
                self._host.after(wait_s, lambda c=connection: self._give_up(c))  # type: ignore[misc]
            else:
                self._break(connection)
        return lambda: self._unblock(held)

    def _give_up(self, connection: Connection) -> None:
        a, b = connection.pair
        if not connection.closed and ((a, b) in self._blocked or (b, a) in self._blocked):
            self._break(connection, noticed_s=2.0)

    def _unblock(self, held: list[Pair]) -> None:
        for direction in held:
            left = self._blocked[direction] - 1
            if left:
                self._blocked[direction] = left
                continue
            del self._blocked[direction]
            pair = _pair(*direction)
            connection = self._connections.get(pair)
            if connection is None:
                self._host.after(self._host.random.random() * 0.3, lambda p=pair: self._dial(p))  # type: ignore[misc]
            else:
                self._arrive(connection, *direction)


def _pair(a: str, b: str) -> Pair:
    return (a, b) if a < b else (b, a)


def void(_value: object) -> None:
    """For callbacks whose answer does not matter."""
