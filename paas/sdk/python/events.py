"""Events of watches on their way to the program: in order, and bounded.

A program that does not keep up must not make its process grow: a watch keeps `WATCH_EVENTS_MAX`
events of `WATCH_BYTES_MAX` together.  Beyond that events are dropped and counted; once those that
are here have been taken, one event `gap` says how many were dropped, and the watch goes on.  So
the gap is told where it was.
"""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WATCH_EVENTS_MAX = 10_000
WATCH_BYTES_MAX = 16 << 20
"""Bytes, as they came, of the events of one watch that the program has not taken yet."""


class Backlog:
    """Events that the program has not taken yet; filled by one thread, taken by any."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._lock = threading.Lock()
        self._events: deque[tuple[dict[str, Any], int]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._ended = False

    def put(self, event: dict[str, Any], size: int = 0) -> bool:
        """Keep it; False if there is nothing more to be taken than before."""
        with self._lock:
            if self._ended:
                return False
            if (
                self._dropped
                or len(self._events) >= WATCH_EVENTS_MAX
                or (self._events and self._bytes + size > WATCH_BYTES_MAX)
            ):
                self._dropped += 1
                return self._dropped == 1
            self._events.append((event, size))
            self._bytes += size
            return True

    def taken(self) -> tuple[dict[str, Any], int] | None:
        """The next event and its size, or what was dropped; None if there is nothing."""
        with self._lock:
            if self._events:
                event = self._events.popleft()
                self._bytes -= event[1]
                return event
            if not self._dropped:
                return None
            dropped, self._dropped = self._dropped, 0
            return {"watch": self.number, "event": "gap", "index": 0, "dropped": dropped}, 0

    def adopt(self, early: Backlog) -> int:
        """What came before it was known whose it is; how often something can be taken."""
        with self._lock:
            self._events, self._bytes, self._dropped = early._events, early._bytes, early._dropped
            return len(self._events) + bool(self._dropped)

    def opened(self, answer: dict[str, Any]) -> None:
        """The hub has opened the watch."""
        self.number = answer["watch"]

    def end(self) -> None:
        """No more events will come; those that are here can be taken."""
        self._ended = True

    def forget(self) -> None:
        """The program wants no more of them."""
        self._ended = True
        with self._lock:
            self._events.clear()
            self._bytes = self._dropped = 0


class Told(Backlog):
    """Events for a callback: `deliver(function)` lets the front end run it, one after the other."""

    def __init__(
        self, callback: Callable[[dict[str, Any]], Any], deliver: Callable[..., None]
    ) -> None:
        super().__init__()
        self._callback = callback
        self._deliver = deliver

    def put(self, event: dict[str, Any], size: int = 0) -> bool:
        more = super().put(event, size)
        if more:
            self._deliver(self._tell, None)
        return more

    def adopt(self, early: Backlog) -> int:
        number = super().adopt(early)
        for _ in range(number):
            self._deliver(self._tell, None)
        return number

    def _tell(self, _nothing: None) -> Any:
        event = self.taken()
        return None if event is None else self._callback(event[0])


class Watch(Backlog):
    """Events of one watch, to be iterated over; a front end says how one waits for the next."""

    def __init__(self, component: Any, method: str, what: dict[str, Any]) -> None:
        super().__init__()
        self._component = component
        self._method = method
        self._what = what
        self.index = 0
        self.snapshot: Any = None
        self.answer: dict[str, Any] = {}

    def opened(self, answer: dict[str, Any]) -> None:
        super().opened(answer)
        self.answer = answer
        self.index = answer.get("index", 0)
        self.snapshot = answer.get("snapshot")

    def put(self, event: dict[str, Any], size: int = 0) -> bool:
        more = super().put(event, size)
        if more:
            self._wake()
        return more

    def _next(self) -> dict[str, Any] | None:
        """The next event that is here."""
        found = self.taken()
        if found is None:
            return None
        event = found[0]
        self.index = event.get("index") or self.index
        return event

    def end(self) -> None:
        super().end()
        self._wake()

    def forget(self) -> None:
        super().forget()
        self._wake()

    def _wake(self) -> None:
        """Somebody may wait for an event."""
