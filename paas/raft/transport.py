"""How replicas reach each other: an interface, and a network in memory for several in one process.

A transport carries whole messages between known peers.  What it must hold (rule T0): the name of
a peer is proven, not claimed; there is one live connection per pair, each new one with a larger
epoch; messages of one connection arrive in order, once, or are lost with the connection; queues
towards a peer are bounded, and a peer that does not read is disconnected.

The receiver's methods only take note: they may be called at any time on the event loop's thread.
What is no message of the log makes `on_message` raise RemoteError; the transport then ends that
connection, tells so, and may make a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from paas.base.errors import LocalError, RemoteError


class Receiver(Protocol):
    """Whom a transport tells."""

    def on_connected(self, peer: str, epoch: int) -> None: ...

    def on_disconnected(self, peer: str, epoch: int) -> None: ...

    def on_message(self, peer: str, epoch: int, data: bytes) -> None:
        """Raises RemoteError."""
        ...


class Transport(Protocol):
    """What a replica needs of the network."""

    def attach(self, receiver: Receiver) -> None:
        """Begin: the receiver hears of the peers that are connected, and of changes."""
        ...

    def detach(self) -> None: ...

    def send(self, peer: str, data: bytes) -> None:
        """Queue a message; it is dropped when there is no connection."""
        ...


class MemoryNetwork:
    """Connects transports of one process.  Delivery is immediate; links can be cut and healed."""

    def __init__(self) -> None:
        self._ends: dict[str, MemoryTransport] = {}
        self._cut: set[frozenset[str]] = set()
        self._epochs: dict[frozenset[str], int] = {}

    def transport(self, name: str) -> MemoryTransport:
        return MemoryTransport(self, name)

    def cut(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Part the two sides."""
        rest = list(others)
        for a in some:
            for b in rest:
                self._set(a, b, connected=False)

    def heal(self) -> None:
        for link in sorted(self._cut, key=sorted):
            self._set(*sorted(link), connected=True)

    def _set(self, a: str, b: str, *, connected: bool) -> None:
        link = frozenset((a, b))
        was = self._up(a, b)
        (self._cut.discard if connected else self._cut.add)(link)
        if was != self._up(a, b):
            self._tell(a, b)

    def _up(self, a: str, b: str) -> bool:
        return a in self._ends and b in self._ends and frozenset((a, b)) not in self._cut

    def _tell(self, a: str, b: str) -> None:
        link = frozenset((a, b))
        up = self._up(a, b)
        epoch = self._epochs[link] = self._epochs.get(link, 0) + up
        for name, peer in ((a, b), (b, a)):
            end = self._ends.get(name)
            if end is not None and end.receiver is not None:
                (end.receiver.on_connected if up else end.receiver.on_disconnected)(peer, epoch)

    def join(self, end: MemoryTransport) -> None:
        if end.name in self._ends:
            raise LocalError(f"{end.name} is on this network already")
        self._ends[end.name] = end
        for peer in sorted(self._ends):
            if peer != end.name and self._up(end.name, peer):
                self._tell(end.name, peer)

    def leave(self, end: MemoryTransport) -> None:
        if self._ends.get(end.name) is end:
            peers = [p for p in sorted(self._ends) if p != end.name and self._up(end.name, p)]
            del self._ends[end.name]
            for peer in peers:
                self._tell(end.name, peer)

    def deliver(self, source: str, target: str, data: bytes) -> None:
        if self._up(source, target):
            receiver = self._ends[target].receiver
            if receiver is None:
                return
            try:
                receiver.on_message(source, self._epochs[frozenset((source, target))], data)
            except RemoteError:
                self._set(source, target, connected=False)
                self._set(source, target, connected=True)


class MemoryTransport:
    """One end of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self.name = name
        self.receiver: Receiver | None = None
        self._network = network

    def attach(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._network.join(self)

    def detach(self) -> None:
        self._network.leave(self)
        self.receiver = None

    def send(self, peer: str, data: bytes) -> None:
        self._network.deliver(self.name, peer, data)
