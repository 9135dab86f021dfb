"""The hub's face for other sub-systems of the same process.

The component controller and the log store live in the hub's process; they reach harnesses and
watches through these protocols, which `paas.hub.agent` and `paas.hub.watches` implement.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from paas.harness.messages import Event, Hello, PhaseChange, Records
from paas.rpc.peer import Peer
from paas.wire.registry import Method, P, R


class WatchBook(Protocol):
    """Watches: numbers on a peer, topics of `(kind, key)` (see `paas.hub.watches`)."""

    def open(self, peer: Peer, kind: str, key: str, detail: Any = None) -> int: ...

    def close(self, peer: Peer, number: int) -> None: ...

    def watchers(self, kind: str, key: str) -> Iterator[tuple[Peer, int, Any]]: ...

    def publish(self, kind: str, key: str, event: Event) -> int: ...

    def emit(self, peer: Peer, number: int, event: Event) -> None: ...


class Harnesses(Protocol):
    """Requests to the harness of a component."""

    async def request(self, component: str, method: Method[P, R], params: P, timeout_s: float) -> R:
        """Raises `not-available` when the harness is not attached, or what it answered."""
        ...

    def attached(self, component: str) -> bool: ...


class HarnessListener(Protocol):
    """Who wants to know what harnesses say: the component controller."""

    def harness_attached(self, component: str, hello: Hello) -> None: ...

    def harness_phase(self, component: str, change: PhaseChange) -> None: ...

    def harness_detached(self, component: str) -> None: ...


class RecordSink(Protocol):
    """Where the harnesses' log records go."""

    async def deliver(self, component: str, batch: Records) -> None:
        """Returns when the batch is kept."""
        ...
