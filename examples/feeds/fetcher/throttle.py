"""How often one host is asked, whoever wants something of it.  Pure.

    next free moment of a host = the last one given + gap_s, or later if the host said Retry-After
    at most `together` requests of a host are on their way at the same time

All sources of one host are fetched by the same fetcher (the scheduler sends by the hash of the
host), so what is kept here is true for the whole application.  Who would have to wait for more than
PATIENCE_S is told to come later instead, and a slow host costs the others no threads.
"""

from __future__ import annotations

PATIENCE_S = 2.0
HOSTS_MAX = 10_000
RETRY_AFTER_S_MAX = 3_600.0


class Throttle:
    """The hosts that have been asked lately."""

    def __init__(self, gap_s: float = 0.1, together: int = 4) -> None:
        self._gap_s = gap_s
        self._together = together
        self._free_s: dict[str, float] = {}
        self._running: dict[str, int] = {}

    def begin(self, host: str, now_s: float) -> tuple[bool, float]:
        """(True, wait so long first) or (False, come again after so long).

        True must be followed by `end`.
        """
        wait_s = max(0.0, self._free_s.get(host, 0.0) - now_s)
        if self._running.get(host, 0) >= self._together:
            return False, max(wait_s, 1.0)
        if wait_s > PATIENCE_S:
            return False, wait_s
        self._forget(now_s)
        self._free_s[host] = now_s + wait_s + self._gap_s
        self._running[host] = self._running.get(host, 0) + 1
        return True, wait_s

    def end(self, host: str) -> None:
        left = self._running[host] - 1
        if left:
            self._running[host] = left
        else:
            del self._running[host]

    def retry_after(self, host: str, seconds: float, now_s: float) -> None:
        """The host asked to be left alone for so long."""
        until_s = now_s + min(seconds, RETRY_AFTER_S_MAX)
        self._free_s[host] = max(self._free_s.get(host, 0.0), until_s)

    def _forget(self, now_s: float) -> None:
        if len(self._free_s) >= HOSTS_MAX:
            self._free_s = {h: s for h, s in self._free_s.items() if s > now_s}
        while len(self._free_s) >= HOSTS_MAX:  # all of them asked for time: the oldest goes
            del self._free_s[next(iter(self._free_s))]
