"""When to look at a feed again: often while it changes, seldom while it does not.  Pure.

After a change the interval halves, without one it grows by half, after a failure it doubles; always
between MIN_S and MAX_S.  So a feed costs its source few requests, and news are seen soon.
"""

from __future__ import annotations

MIN_S = 5.0
MAX_S = 600.0
FIRST_S = 10.0


def next_interval(interval_s: float, outcome: str) -> float:
    """The interval after an outcome: `changed`, `unchanged` or `failed`."""
    factor = {"changed": 0.5, "unchanged": 1.5, "failed": 2.0}[outcome]
    return min(MAX_S, max(MIN_S, interval_s * factor))
