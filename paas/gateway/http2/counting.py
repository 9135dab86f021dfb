"""What an HTTP/2 connection may do without asking for anything: a number in a stretch of time.

- Streams that are opened and abandoned again cost us their beginning and the sender nothing (rapid
  reset, CVE-2023-44487).
- PING, SETTINGS, PRIORITY, empty DATA and the like are answered or read for nothing
  (CVE-2019-9512, -9515, -9518).  A receiver of much data sends many WINDOW_UPDATEs by right, so
  what it has received pays for them.

Beyond, the connection ends with ENHANCE_YOUR_CALM (RFC 9113 §7, §10.5).
"""

from __future__ import annotations

BYTES_A_CONTROL = 2_048


class Patience:
    """Counts of one connection.  Times in seconds."""

    def __init__(self, resets_max: int, controls_max: int, window_s: float) -> None:
        self._resets_max = resets_max
        self._controls_max = controls_max
        self._window_s = window_s
        self._since = 0.0
        self._resets = 0
        self._controls = 0.0

    def reset(self, now: float) -> bool:
        """A stream was abandoned before it was answered; False: too often."""
        self._turn(now)
        self._resets += 1
        return self._resets <= self._resets_max

    def control(self, now: float) -> bool:
        """A frame that carries nothing; False: too many."""
        self._turn(now)
        self._controls += 1
        return self._controls <= self._controls_max

    def sent(self, count: int) -> None:
        """Data went to the browser, which it will acknowledge."""
        self._controls -= count / BYTES_A_CONTROL

    def _turn(self, now: float) -> None:
        if now - self._since > self._window_s:
            self._since = now
            self._resets = 0
            self._controls = min(self._controls, 0.0)
