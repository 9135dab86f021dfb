"""Back-off as data: how long to wait before try n, bounded, with jitter over the upper half."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off.  Times in seconds."""

    first_s: float
    factor: float = 2.0
    cap_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.first_s <= self.cap_s or self.factor < 1:
            raise ValueError("a back-off needs 0 <= first <= cap and a factor of at least 1")

    def delay_s(self, attempt: int, fraction: float) -> float:
        """Wait before repetition `attempt` (from 1); the caller draws `fraction` from [0, 1)."""
        exponent = min(max(attempt, 1) - 1, 64)
        whole: float = min(self.first_s * self.factor**exponent, self.cap_s)
        return whole * (0.5 + 0.5 * fraction)
