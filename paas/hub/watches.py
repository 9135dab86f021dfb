"""Watches: who wants to hear of what, on which connection.

A watch is a number on one peer and a topic, `(kind, key)`: ("group", "greeters"), ("components",
""), ("down", <id>), ("logs", …).  Whoever owns the kind publishes events to the topic; they leave
as `component.event` notifications, in order.  A peer that goes takes its watches with it.  A watch
costs its sender nothing when the receiver is slow: the link's bounded outbox decides (rpc.link).

A replica that was left behind takes over a whole state, and the events in between are never told.
Whoever owns a kind looks through its watches with `of_kind` then, and shows what is there now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.base.limits import WATCHES_MAX
from paas.harness.messages import EVENT, Event
from paas.rpc.peer import Peer

Topic = tuple[str, str]


class Watches:
    """The watches of all peers of this hub; `dropped` is told the detail of each that ends."""

    def __init__(self, dropped: Callable[[Any], None] = lambda detail: None) -> None:
        self._dropped = dropped
        self._topics: dict[Topic, dict[tuple[Peer, int], Any]] = {}
        self._peers: dict[Peer, dict[int, Topic]] = {}
        self._last: dict[Peer, int] = {}

    def open(self, peer: Peer, kind: str, key: str, detail: Any = None) -> int:
        """A new watch of `peer`; `detail` is the owner's (a filter).  Raises `limit-exceeded`, or
        `not-available` for a peer that has gone, whose watches nobody would close.
        """
        if peer.closed:
            raise PlatformError("not-available", "the connection is closed")
        held = self._peers.setdefault(peer, {})
        if len(held) >= WATCHES_MAX:
            raise PlatformError("limit-exceeded", f"{WATCHES_MAX} watches of this connection exist")
        number = self._last.get(peer, 0) + 1
        self._last[peer] = number
        held[number] = (kind, key)
        self._topics.setdefault((kind, key), {})[peer, number] = detail
        return number

    def close(self, peer: Peer, number: int) -> None:
        """End one watch; raises `no-such-target` for a number that the peer does not have."""
        topic = self._peers.get(peer, {}).pop(number, None)
        if topic is None:
            raise PlatformError("no-such-target", f"this connection has no watch {number}")
        self._drop(topic, peer, number)

    def close_peer(self, peer: Peer) -> None:
        self._last.pop(peer, None)
        for number, topic in self._peers.pop(peer, {}).items():
            self._drop(topic, peer, number)

    def _drop(self, topic: Topic, peer: Peer, number: int) -> None:
        watchers = self._topics.get(topic)
        if watchers is not None:
            detail = watchers.pop((peer, number), None)
            if not watchers:
                del self._topics[topic]
            self._dropped(detail)

    def of_peer(self, peer: Peer) -> Mapping[int, Topic]:
        """The watches of a peer: number and topic."""
        return self._peers.get(peer, {})

    def watchers(self, kind: str, key: str) -> Iterator[tuple[Peer, int, Any]]:
        """Who watches a topic: peer, number, detail."""
        for (peer, number), detail in list(self._topics.get((kind, key), {}).items()):
            yield peer, number, detail

    def publish(self, kind: str, key: str, event: Event) -> int:
        """Send an event to all watchers of a topic; returns how many there are."""
        count = 0
        for peer, number, _ in self.watchers(kind, key):
            self.emit(peer, number, event)
            count += 1
        return count

    def of_kind(self, kind: str) -> Iterator[tuple[str, Peer, int, Any]]:
        """All watches of a kind: key, peer, number, detail."""
        for (found, key), watchers in list(self._topics.items()):
            if found == kind:
                for (peer, number), detail in list(watchers.items()):
                    yield key, peer, number, detail

    @staticmethod
    def emit(peer: Peer, number: int, event: Event) -> None:
        """Send an event on one watch."""
        peer.notify(EVENT, msgspec.structs.replace(event, watch=number))

    def __len__(self) -> int:
        return sum(len(held) for held in self._peers.values())
