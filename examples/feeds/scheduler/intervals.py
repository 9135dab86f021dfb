"""When a source is looked at again.  Pure.

    gap_s       how long it usually is between two new items: a moving average of what was seen, and
                never less than half of the time in which nothing came
    interval_s  half of that, shorter for a source that many follow, within [min_s, max_s]; never
                shorter than the source says that its answer is fresh (Cache-Control: max-age)

So a source that changes every ten minutes is asked every five, one that is silent for a week is
asked rarely, and a source has the same number of requests whether one or a thousand people follow
it: the popularity only moves it within its bounds.

    failures    double the interval each time, up to fail_max_s; a Retry-After is kept to
    our own     a fetcher or an indexer was lost: at once again, and nobody else's fault

Polls of sources that began together drift apart by up to a tenth of the interval.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WEIGHT = 0.3
"""Of the newest observation in the average."""

POPULAR_MAX = 4.0
OURS_S = 2.0
GONE_S = 7 * 86_400.0
SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Bounds:
    """The configuration, in seconds."""

    min_s: float = 10.0
    max_s: float = 900.0
    first_s: float = 30.0
    fail_max_s: float = 3_600.0
    stream_lease_s: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.min_s <= self.max_s:
            raise ValueError("interval_min_s: expected more than 0 and at most interval_max_s")


def popularity(subscribers: int) -> float:
    """1 for one subscriber, growing with the logarithm up to POPULAR_MAX."""
    return min(POPULAR_MAX, 1.0 + math.log10(max(1, subscribers)))


def next_poll(
    row: Mapping[str, Any], result: Mapping[str, Any], now_s: float, bounds: Bounds
) -> dict[str, Any]:
    """`due_s` from now, and what to remember: `interval_s`, `gap_s`, `failures`."""
    outcome = result["outcome"]
    gap_s, interval_s = float(row["gap_s"]), float(row["interval_s"]) or bounds.first_s
    failures = int(row["failures"])
    if outcome == "later" or result.get("ours"):
        due_s = float(result.get("retry_after_s", OURS_S))
        return _kept(due_s, interval_s, gap_s, failures)
    if outcome == "gone":
        return _kept(GONE_S, interval_s, gap_s, failures + 1)
    if outcome == "failed":
        backoff_s = min(bounds.fail_max_s, max(bounds.min_s, interval_s) * 2.0 ** min(failures, 12))
        due_s = max(backoff_s, float(result.get("retry_after_s", 0.0)))
        return _kept(due_s + _spread(row, due_s), interval_s, gap_s, failures + 1)
    gap_s = observed_gap(row, result, now_s, bounds)
    if outcome == "stream":
        return _kept(bounds.stream_lease_s / 4, bounds.stream_lease_s / 4, gap_s, 0)
    wanted_s = max(
        gap_s / 2 / popularity(int(row["subscribers"])), float(result.get("max_age_s", 0))
    )
    interval_s = min(bounds.max_s, max(bounds.min_s, wanted_s))
    return _kept(interval_s + _spread(row, interval_s), interval_s, gap_s, 0)


def observed_gap(
    row: Mapping[str, Any], result: Mapping[str, Any], now_s: float, bounds: Bounds
) -> float:
    """The average time between new items, with what this poll has shown."""
    known_s = float(row["gap_s"]) or 2 * bounds.first_s
    new = int(result.get("new", 0))
    since_s = now_s - float(row["new_ms"]) / 1000 if row["new_ms"] else 0.0
    if not row["polls"]:
        return known_s  # the first poll finds old items
    if new and since_s > 0:
        return (1 - WEIGHT) * known_s + WEIGHT * since_s / new
    return max(known_s, since_s / 2)


def _kept(due_s: float, interval_s: float, gap_s: float, failures: int) -> dict[str, Any]:
    return {"due_s": due_s, "interval_s": interval_s, "gap_s": gap_s, "failures": failures}


def _spread(row: Mapping[str, Any], interval_s: float) -> float:
    """Something between nothing and a tenth, the same for the same poll of the same source."""
    number = zlib.crc32(f"{row['source']}:{row['polls']}".encode()) / 2**32
    return SPREAD * number * interval_s
