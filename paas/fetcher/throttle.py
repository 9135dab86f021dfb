"""How fast one host is asked: a start time for each request, in the order of asking.

Two starts at one host are `interval_s` apart at least; a host that said `Retry-After` is left alone
until then.  How many are under way at a time is counted by whoever sends (client.py).  Pure: times
are handed in.
"""

from __future__ import annotations

from paas.fetcher.limits import HOSTS_MAX


class Throttle:
    """When the next request to a host may start."""

    def __init__(self, interval_s: float = 0.0, hosts_max: int = HOSTS_MAX) -> None:
        self._interval_s = interval_s
        self._next: dict[str, float] = {}
        self._max = hosts_max

    def __len__(self) -> int:
        return len(self._next)

    def due(self, host: str, now: float) -> float:
        """The earliest start of a request; nothing is reserved."""
        return max(now, self._next.get(host, now))

    def reserve(self, host: str, now: float) -> float:
        """The start of this request, which is taken by it."""
        start = self.due(host, now)
        self._keep(host, start + self._interval_s, now)
        return start

    def leave_alone(self, host: str, until: float, now: float) -> None:
        """The host asked for it (RFC 9110 §10.2.3)."""
        self._keep(host, max(until, self._next.get(host, now)), now)

    def _keep(self, host: str, moment: float, now: float) -> None:
        if moment <= now:
            self._next.pop(host, None)
            return
        self._next[host] = moment
        if len(self._next) > self._max:
            self._next = {h: at for h, at in self._next.items() if at > now}
            while len(self._next) > self._max:
                del self._next[min(self._next, key=self._next.__getitem__)]
