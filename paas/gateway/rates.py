"""Requests a second for each route and source: a token bucket, two numbers for each.

A bucket holds one second's worth (at least one) and is forgotten when it is full again.  Sources
come from outside, so the table is bounded: when it is full, the oldest entries go, which lets their
sources begin anew; a flood from many addresses is bounded by connections instead.  An IPv6 source
is its /64, since one browser has that many addresses.
"""

from __future__ import annotations

import ipaddress

from paas.gateway.http.limits import SOURCES_MAX
from paas.gateway.messages import Route


class Rates:
    """See the module's text.  Times in seconds of one clock."""

    def __init__(self, sources_max: int = SOURCES_MAX) -> None:
        self._max = sources_max
        self._left: dict[tuple[str, str], tuple[float, float]] = {}

    def wait_s(self, route: Route, remote: str, now: float) -> float:
        """0: the request may pass, and is counted; else how long to wait for the next one."""
        key = (route.name, source(remote))
        full = max(route.rate, 1.0)
        left, since = self._left.pop(key, (full, now))
        left = min(full, left + (now - since) * route.rate)
        passes = left >= 1
        self._left[key] = (left - 1 if passes else left, now)
        if len(self._left) > self._max:
            del self._left[next(iter(self._left))]
        return 0.0 if passes else (1 - left) / route.rate

    def __len__(self) -> int:
        return len(self._left)


def source(remote: str) -> str:
    """What counts as one source."""
    if ":" not in remote:
        return remote
    try:
        return str(ipaddress.ip_network(f"{remote}/64", strict=False).network_address)
    except ValueError:
        return remote
