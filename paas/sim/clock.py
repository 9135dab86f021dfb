"""A clock that moves only when the simulation says so, plus a hair at every reading.

The hair matters: code that waits for a deadline in a loop would never end on a clock that stands
still, while on every real machine time passes between two readings.
"""

from __future__ import annotations

READING_S = 2e-5


class SimClock:
    """`base.ports.Clock` in virtual time."""

    def __init__(self, *, start_s: float = 1_000.0, wall_ms: int = 1_700_000_000_000) -> None:
        self._now_s = start_s
        self._wall_ms = wall_ms
        self._start_s = start_s

    def now_ms(self) -> int:
        return self._wall_ms + int((self._now_s - self._start_s) * 1_000)

    def monotonic_s(self) -> float:
        self._now_s += READING_S
        return self._now_s

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
