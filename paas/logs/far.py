"""Log records of the other nodes: each node keeps those of its components; readers want all (io).

    reader ── log.query ──> hub ── log.query ──> every hub that can be reached (role "hub")
                             └─ merges by time, keeps the newest
    reader ── log.follow ─> hub ── log.follow ─> …, and their events go on under the reader's watch

A hub that is asked by a hub answers for itself only.  Records are informative state (architecture,
rule 5): those of a node that is lost or out of reach are missing from the answer, no one waits for
them.  A node that comes back is followed again from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.harness.messages import Event
from paas.hub.client import WatchBook
from paas.hub.messages import UNWATCH, Unwatch
from paas.logs import limits, messages
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.wire.registry import decode

TOPIC = ("logs", "")


class Links(Protocol):
    """Connections to the other hubs."""

    def peer(self, node: str) -> Peer | None: ...

    def connected(self) -> Sequence[str]: ...


@dataclass(slots=True, eq=False)
class _Following:
    """One reader's watch, and the watches that carry it on other nodes."""

    peer: Peer
    number: int
    params: messages.Follow
    far: dict[str, int]


class FarLogs:
    """See the module's text.  `soon` runs a task beside, for as long as the hub lives."""

    def __init__(self, links: Links, watches: WatchBook, soon: Callable[..., None]) -> None:
        self._links = links
        self._watches = watches
        self._soon = soon
        self._following: list[_Following] = []

    async def query(self, params: messages.Query) -> list[messages.Record]:
        """What the other nodes have."""
        plain = msgspec.structs.replace(params, timeout=None, deadline=None)
        found: list[messages.Record] = []

        async def ask(peer: Peer) -> None:
            try:
                answer = await peer.call(messages.QUERY, plain, timeout_s=limits.FAR_TIMEOUT_S)
            except PlatformError:
                return
            found.extend(answer.records)

        async with trio.open_nursery() as nursery:
            for node in self._links.connected():
                peer = self._links.peer(node)
                if peer is not None:
                    nursery.start_soon(ask, peer)
        return found

    def follow(self, params: messages.Follow, peer: Peer, number: int) -> None:
        """Bring new records of the other nodes to a reader's watch."""
        plain = msgspec.structs.replace(params, timeout=None, deadline=None, limit=0)
        following = _Following(peer, number, plain, {})
        self._following.append(following)
        for node in self._links.connected():
            self._open(following, node)

    def connected(self, node: str, _peer: Peer) -> None:
        """A node can be reached (again): its old watches ended with the old connection."""
        for following in self._following:
            following.far.pop(node, None)
            self._open(following, node)

    def connection_closed(self, peer: Peer) -> None:
        """A reader is gone."""
        for following in [f for f in self._following if f.peer is peer]:
            self._end(following)

    def event(self, peer: Peer, request: Request) -> None:
        """Handler of `component.event` from another hub."""
        event = decode(request.params, Event)
        node = peer.info.get("node", "")
        for following in self._following:
            if following.far.get(node) == event.watch:
                if self._wanted(following):
                    self._watches.emit(following.peer, following.number, event)
                else:
                    self._end(following)
                return

    def _wanted(self, following: _Following) -> bool:
        """Has the reader closed its watch meanwhile?"""
        return any(
            peer is following.peer and number == following.number
            for peer, number, _ in self._watches.watchers(*TOPIC)
        )

    def _open(self, following: _Following, node: str) -> None:
        async def open_there() -> None:
            peer = self._links.peer(node)
            if peer is None:
                return
            try:
                answer = await peer.call(
                    messages.FOLLOW, following.params, timeout_s=limits.FAR_TIMEOUT_S
                )
            except PlatformError:
                return
            following.far[node] = answer.watch
            if not self._wanted(following):
                self._end(following)

        self._soon(open_there)

    def _end(self, following: _Following) -> None:
        if following in self._following:
            self._following.remove(following)
        for node, number in sorted(following.far.items()):
            peer = self._links.peer(node)
            if peer is not None and not peer.closed:
                peer.notify(UNWATCH, Unwatch(watch=number))
        following.far.clear()
