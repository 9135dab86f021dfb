"""Who is told what: the live connections of browsers.  Pure.

    published {items}  ->  every connection of somebody who follows the source of an item
    alert, marked      ->  every connection of that person

A connection has a queue; who does not read loses the connection, not the memory of the frontend,
and comes back and asks for what it missed.  `seen` is the number of the last item that was
announced: an announcement that does not continue from there means that one was lost, and everybody
is asked after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CONNECTIONS_MAX = 5_000
CONNECTIONS_A_USER_MAX = 20
QUEUE_MESSAGES_MAX = 256

Deliver = Callable[[str], None]


@dataclass(eq=False)
class Connection:
    """One browser tab.  `deliver` puts a message into its queue; `drop` ends it."""

    user: str
    deliver: Deliver
    drop: Callable[[], None]
    sources: set[int] = field(default_factory=set)
    seq: int = 0
    """The last item that it certainly has."""

    queued: int = 0


class Live:
    """All connections of this frontend."""

    def __init__(self) -> None:
        self.seen = 0
        self.told = 0
        self.dropped = 0
        self._of_user: dict[str, set[Connection]] = {}
        self._of_source: dict[int, set[Connection]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def may_open(self, user: str) -> bool:
        mine = len(self._of_user.get(user, ()))
        return self._count < CONNECTIONS_MAX and mine < CONNECTIONS_A_USER_MAX

    def open(self, connection: Connection, sources: Iterable[int]) -> None:
        self._of_user.setdefault(connection.user, set()).add(connection)
        self._count += 1
        self._follow(connection, set(sources))

    def close(self, connection: Connection) -> None:
        mine = self._of_user.get(connection.user, set())
        if connection not in mine:
            return
        self._count -= 1
        self._follow(connection, set())
        mine.discard(connection)
        if not mine:
            del self._of_user[connection.user]

    def users(self) -> list[str]:
        return list(self._of_user)

    def connections(self, user: str = "") -> list[Connection]:
        if user:
            return list(self._of_user.get(user, ()))
        return [one for mine in self._of_user.values() for one in mine]

    def follow(self, user: str, sources: Iterable[int]) -> None:
        """Somebody follows other sources now."""
        wanted = set(sources)
        for connection in self.connections(user):
            self._follow(connection, set(wanted))

    def _follow(self, connection: Connection, sources: set[int]) -> None:
        for source in connection.sources - sources:
            others = self._of_source[source]
            others.discard(connection)
            if not others:
                del self._of_source[source]
        for source in sources - connection.sources:
            self._of_source.setdefault(source, set()).add(connection)
        connection.sources = sources

    def published(self, told: Mapping[str, Any]) -> bool:
        """Tell everybody of new items; was an announcement before this one lost?"""
        lost = bool(self.seen) and int(told["before"]) > self.seen
        self.seen = max(self.seen, int(told["seq"]))
        texts: dict[tuple[int, ...], str] = {}
        wanted: dict[Connection, list[int]] = {}
        items = told["items"]
        for index, item in enumerate(items):
            for connection in self._of_source.get(int(item["source"]), ()):
                wanted.setdefault(connection, []).append(index)
        for connection, indices in wanted.items():
            key = tuple(indices)
            if key not in texts:
                mine = [{**items[index], "unread": True} for index in indices]
                texts[key] = message("items", items=mine)
            self._deliver(connection, texts[key])
            if not lost:
                connection.seq = max(connection.seq, self.seen)
        return lost

    def tell(self, user: str, text: str) -> int:
        """All tabs of a person; how many."""
        mine = self.connections(user)
        for connection in mine:
            self._deliver(connection, text)
        return len(mine)

    def _deliver(self, connection: Connection, text: str) -> None:
        if connection.queued >= QUEUE_MESSAGES_MAX:
            self.dropped += 1
            self.close(connection)
            connection.drop()
            return
        connection.queued += 1
        self.told += 1
        connection.deliver(text)


def message(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":"))
