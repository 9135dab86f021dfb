"""What others answered, for as long as they said it holds (RFC 1034 §4.3.4, RFC 2308).  Pure.

Bounded in entries, records and time; when it is full, what was put in first goes.  Times are those
of any clock in seconds that goes on.
"""

from __future__ import annotations

from typing import NamedTuple

from paas.dns import limits
from paas.dns.names import Labels


class Found(NamedTuple):
    """A record that others told of."""

    owner: Labels
    kind: int
    ttl_s: int
    data: bytes


class Told(NamedTuple):
    """What others said to one question: a code, and records from the name that was asked on."""

    code: int
    records: tuple[Found, ...]
    ttl_s: int
    """How long all of it holds."""


class Cache:
    """See the module's text."""

    def __init__(self, entries_max: int = limits.CACHE_ENTRIES_MAX) -> None:
        self._entries: dict[tuple[Labels, int], tuple[float, float, Told]] = {}
        self._entries_max = entries_max
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, labels: Labels, kind: int, now_s: float) -> Told | None:
        """What is known, with the time that is left of it."""
        entry = self._entries.get((labels, kind))
        if entry is None or entry[1] <= now_s:
            self.misses += 1
            if entry is not None:
                del self._entries[labels, kind]
            return None
        self.hits += 1
        put_s, _, told = entry
        age_s = int(now_s - put_s)
        aged = tuple(one._replace(ttl_s=max(one.ttl_s - age_s, 0)) for one in told.records)
        return told._replace(records=aged, ttl_s=max(told.ttl_s - age_s, 0))

    def put(self, labels: Labels, kind: int, told: Told, now_s: float) -> None:
        key = (labels, kind)
        self._entries.pop(key, None)
        while len(self._entries) >= self._entries_max:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (now_s, now_s + told.ttl_s, told)
