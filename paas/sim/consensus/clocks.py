"""Virtual time: one true time, and for each node a clock that runs a little wrong.

A node's monotonic clock has its own rate and origin; its wall clock may besides be set.  Every
reading is a hair later than the one before: code that waits for a deadline in a loop would never
end on a clock that stands still.
"""

from __future__ import annotations

from paas.sim.clock import READING_S


class TrueTime:
    """What nobody in the simulated world can read."""

    __slots__ = ("now_s",)

    def __init__(self) -> None:
        self.now_s = 0.0


class NodeClock:
    """`base.ports.Clock` of one node."""

    def __init__(self, true: TrueTime, *, rate: float, origin_s: float) -> None:
        self._true = true
        self.rate = rate
        self._origin_s = origin_s
        self._last_s = 0.0
        self.wall_offset_ms = 0

    def now_ms(self) -> int:
        return 1_700_000_000_000 + self.wall_offset_ms + int(self._true.now_s * 1_000)

    def monotonic_s(self) -> float:
        local = self._origin_s + self._true.now_s * self.rate
        last = self._last_s + READING_S
        self._last_s = local = local if local > last else last
        return local

    def true_s(self, local_s: float) -> float:
        """When this clock will show that."""
        return (local_s - self._origin_s) / self.rate
