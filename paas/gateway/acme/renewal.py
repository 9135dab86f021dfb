"""When a certificate is renewed, and when a failed attempt is made again.  Pure.

A certificate is due after two thirds of its life (what is left is a third, enough for an authority
that is away for days), a little earlier or later by the names, so that many do not come at once.
After a failure: back-off from a minute to six hours, never sooner than the authority asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from paas.base.retry import Backoff
from paas.gateway.acme import limits

_BACKOFF = Backoff(first_s=limits.RETRY_FIRST_S, cap_s=limits.RETRY_CAP_S)


def due_at(begin_s: float, end_s: float, names: tuple[str, ...]) -> float:
    """The moment from which on it is to be renewed; all in seconds since the epoch."""
    draw = int.from_bytes(hashlib.sha256(" ".join(names).encode()).digest()[:4]) / 2**32
    share = limits.RENEW_AT + limits.RENEW_JITTER * (2 * draw - 1)
    return begin_s + (end_s - begin_s) * share


def again_at(now: float, failures: int, data: Mapping[str, Any], fraction: float) -> float:
    """When to try after failure number `failures`; `data` of the error."""
    wait_s = _BACKOFF.delay_s(failures, fraction)
    if data.get("after") == "never":
        wait_s = limits.RETRY_CAP_S
    asked = data.get("retry_after_s")
    if isinstance(asked, int | float):
        wait_s = max(wait_s, min(float(asked), limits.RETRY_AFTER_MOST_S))
    return now + wait_s
