"""Figures of one process: counters, gauges and timings under declared names.

A series is a name and its labels.  A counter only grows; a gauge is what was said last; a timing
keeps count, sum, maximum and a histogram over powers of two, from which quantiles are estimated
(within a factor of two, always upwards).  `statistics()` gives everything as plain data.

The number of series is bounded: labels that come from outside (names of components) could grow
without end, so figures of a series too many are dropped and counted.  Platform document §4.3.1,
"monitoring"; style A25.  Storing and rules are for `monitor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from paas.telemetry.limits import SERIES_MAX

BUCKETS_S = tuple(2.0**power for power in range(-20, 7))
"""Upper bounds of the histogram: 1 µs to 64 s; slower ones count in one bucket more."""

Series = tuple[str, tuple[tuple[str, str], ...]]


class Timing:
    """Durations of one kind."""

    __slots__ = ("buckets", "count", "max_s", "sum_s")

    def __init__(self) -> None:
        self.count = 0
        self.sum_s = 0.0
        self.max_s = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)

    def add(self, duration_s: float) -> None:
        self.count += 1
        self.sum_s += duration_s
        self.max_s = max(self.max_s, duration_s)
        # 2**-20 is the first bound: frexp gives the exponent e with duration <= 2**e.
        mantissa, exponent = math.frexp(duration_s) if duration_s > 0 else (0.0, -20)
        place = exponent + 20 - (1 if mantissa == 0.5 else 0)
        self.buckets[min(max(place, 0), len(BUCKETS_S))] += 1

    def quantile_s(self, share: float) -> float:
        """An upper bound of the `share` quantile, never above the maximum."""
        wanted, seen = math.ceil(self.count * share), 0
        for bound, count in zip((*BUCKETS_S, math.inf), self.buckets, strict=True):
            seen += count
            if seen >= wanted:
                return min(bound, self.max_s)
        return self.max_s

    def statistics(self) -> dict[str, float]:
        return {
            "count": self.count,
            "sum_s": self.sum_s,
            "max_s": self.max_s,
            "p50_s": self.quantile_s(0.5),
            "p99_s": self.quantile_s(0.99),
        }


class Metrics:
    """The figures of one process, or of one part of it."""

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        self._series_max = series_max
        self._counters: dict[Series, float] = {}
        self._gauges: dict[Series, float] = {}
        self._timings: dict[Series, Timing] = {}
        self._sources: dict[str, Callable[[], Any]] = {}
        self._dropped = 0

    def count(self, name: str, by: float = 1, /, **labels: str) -> None:
        """Add to a counter."""
        series = _series(name, labels)
        if self._admits(series, self._counters):
            self._counters[series] = self._counters.get(series, 0) + by

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        series = _series(name, labels)
        if self._admits(series, self._gauges):
            self._gauges[series] = value

    def timing(self, name: str, duration_s: float, /, **labels: str) -> None:
        """Add a duration."""
        series = _series(name, labels)
        if self._admits(series, self._timings):
            self._timings.setdefault(series, Timing()).add(duration_s)

    def source(self, name: str, statistics: Callable[[], Any]) -> None:
        """Ask this whenever figures are wanted: for parts that keep their own."""
        self._sources[name] = statistics

    def statistics(self) -> dict[str, Any]:
        """Everything as plain data, sorted by name."""
        figures: dict[str, Any] = {_text(series): v for series, v in self._counters.items()}
        figures |= {_text(series): v for series, v in self._gauges.items()}
        figures |= {_text(series): t.statistics() for series, t in self._timings.items()}
        figures |= {name: ask() for name, ask in self._sources.items()}
        if self._dropped:
            figures["telemetry.series_dropped"] = self._dropped
        return dict(sorted(figures.items()))

    def _admits(self, series: Series, table: Mapping[Series, Any]) -> bool:
        if series in table:
            return True
        if len(self._counters) + len(self._gauges) + len(self._timings) < self._series_max:
            return True
        self._dropped += 1
        return False


def _series(name: str, labels: dict[str, str]) -> Series:
    return (name, tuple(sorted(labels.items())))


def _text(series: Series) -> str:
    name, labels = series
    return name + ("{" + ",".join(f"{k}={v}" for k, v in labels) + "}" if labels else "")
