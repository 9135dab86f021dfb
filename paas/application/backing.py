"""When a step may be tried, after it failed, or after what it made has failed.  Pure.

One `Patience` belongs to one hub, which remembers it only as long as it decides: who takes over
begins without waiting.  Times in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable

from paas.application import limits
from paas.base.retry import Backoff

Key = tuple[str, str]
"""An application, and what of it: a role, `route NAME`, or `application`."""


class Patience:
    """Failures by key, and until when to wait because of them."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures: dict[Key, int] = {}
        self._until_s: dict[Key, float] = {}

    def due_s(self, key: Key) -> float:
        """When the next try may be; in the past: now."""
        return self._until_s.get(key, 0.0)

    def failed(self, key: Key, now_s: float, backoff: Backoff = limits.STEP_BACKOFF) -> float:
        """It failed once more; how long to wait."""
        count = self._failures[key] = self._failures.pop(key, 0) + 1
        while len(self._failures) > limits.FAILURES_KEPT_MAX:
            oldest = next(iter(self._failures))
            del self._failures[oldest]
            self._until_s.pop(oldest, None)
        wait_s = backoff.delay_s(count, self._jitter())
        self._until_s[key] = now_s + wait_s
        return wait_s

    def fine(self, key: Key) -> None:
        """All is well with it."""
        self._failures.pop(key, None)
        self._until_s.pop(key, None)

    def forget(self, application: str) -> None:
        """Another revision, or another decides: what was does not count."""
        for key in [key for key in self._failures if key[0] == application]:
            self.fine(key)
