"""How fast counters grow: over the last second and the last ten, sampled once a second.

Nothing is computed when something is counted; once a second the growth since the last sample goes
into the newest of ten slots.  What has not grown for ten samples costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

SLOTS = 10
PERIOD_S = 1.0


class Rates:
    """See the module's text."""

    def __init__(self, now_s: float) -> None:
        self._sampled_s = now_s
        self._spans: deque[float] = deque(maxlen=SLOTS)
        self._growth: dict[str, deque[int]] = {}

    def sample(self, now_s: float, growths: Iterable[tuple[str, int]]) -> None:
        """What has grown since the last sample, and by how much."""
        span_s = now_s - self._sampled_s
        if span_s <= 0:
            return
        self._sampled_s = now_s
        self._spans.append(span_s)
        for growth in self._growth.values():
            growth.append(0)
        for name, count in growths:
            known = self._growth.get(name)
            if known is None:
                known = self._growth[name] = deque([0] * len(self._spans), maxlen=SLOTS)
            known[-1] += count
        for name in [name for name, growth in self._growth.items() if not any(growth)]:
            del self._growth[name]

    def of(self, name: str) -> tuple[float, float]:
        """Per second: of the last slot, and of all slots that there are."""
        growth = self._growth.get(name)
        if growth is None:
            return 0.0, 0.0
        short = growth[-1] / self._spans[-1]
        long = sum(growth) / sum(self._spans)
        return round(short, 3), round(long, 3)

    def __len__(self) -> int:
        return len(self._growth)
