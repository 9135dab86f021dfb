"""A circuit breaker for one member: who fails again and again is left alone for a while.

    closed ── FAILURES_MAX failures in a row ──> open ── its time is over ──> half open
      ^                                           ^ (twice as long each time)     │ one trial
      └──────────────── it answered ──────────────┴──────── it failed ────────────┘

A failure is a connection refused, cut off, or an answer that came too late or is none; an answer
with status 500 is an answer.  Times are given, in seconds of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES_MAX = 5
OPEN_S = 0.5
OPEN_S_MAX = 10.0


@dataclass(slots=True)
class Breaker:
    """See the module's text."""

    failures: int = 0
    open_until: float = 0.0
    open_s: float = OPEN_S
    trial: bool = False

    def allows(self, now: float) -> bool:
        """May a request be sent?"""
        if self.failures < FAILURES_MAX:
            return True
        return now >= self.open_until and not self.trial

    def began(self) -> None:
        """A request is sent; while the breaker is not closed, it is the trial."""
        if self.failures >= FAILURES_MAX:
            self.trial = True

    def succeeded(self) -> None:
        self.failures = 0
        self.open_s = OPEN_S
        self.trial = False

    def failed(self, now: float) -> None:
        self.failures += 1
        self.trial = False
        if self.failures >= FAILURES_MAX:
            self.open_until = now + self.open_s
            self.open_s = min(2 * self.open_s, OPEN_S_MAX)

    def given_up(self) -> None:
        """The request ended without telling anything about the member."""
        self.trial = False
