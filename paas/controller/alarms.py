"""Who waits for a time and for nothing else has no task: a heap, and one task for all.

    set(sleeper, at_s) ──> heap ──> run: sleeps until the earliest ──> sleeper.due()

A sleeper has one time at most, the earliest that it asked for; later ones are not noted, since one
who is called too early looks and asks again.  Entries that no longer count stay in the heap until
they are due or are most of it.
"""

from __future__ import annotations

import heapq
import math
from typing import Protocol

import trio

SPARE = 64
"""Entries that do not count and are never swept for themselves."""


class Sleeper(Protocol):
    """Compared by identity."""

    def due(self) -> None:
        """The time has come.  Must not wait."""
        ...


class Alarms:
    """See the module's text.  Times are trio's, in seconds."""

    def __init__(self) -> None:
        self._at_s: dict[Sleeper, float] = {}
        self._heap: list[tuple[float, int, Sleeper]] = []
        self._number = 0
        self._news = trio.Event()

    def __len__(self) -> int:
        return len(self._at_s)

    def set(self, sleeper: Sleeper, at_s: float) -> None:
        if self._at_s.get(sleeper, math.inf) <= at_s:
            return
        self._at_s[sleeper] = at_s
        self._number += 1
        heapq.heappush(self._heap, (at_s, self._number, sleeper))
        if self._heap[0][2] is sleeper:
            self._news.set()

    def forget(self, sleeper: Sleeper) -> None:
        """It is not called any more."""
        self._at_s.pop(sleeper, None)
        if len(self._heap) > 2 * len(self._at_s) + SPARE:
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)

    def clear(self) -> None:
        """Nobody sleeps any more."""
        self._at_s.clear()
        self._heap.clear()

    def _counts(self, entry: tuple[float, int, Sleeper]) -> bool:
        return self._at_s.get(entry[2]) == entry[0]

    async def run(self) -> None:
        while True:
            self._news = trio.Event()
            with trio.move_on_at(self._call_the_due()):
                await self._news.wait()

    def _call_the_due(self) -> float:
        """When the next one is due; infinite when nobody sleeps."""
        now_s = trio.current_time()
        while self._heap:
            entry = self._heap[0]
            counts = self._counts(entry)
            if counts and entry[0] > now_s:
                return entry[0]
            heapq.heappop(self._heap)
            if counts:
                del self._at_s[entry[2]]
                entry[2].due()
        return math.inf
