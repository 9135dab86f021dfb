"""Which troubles with other nodes are told, so that a stranger cannot fill our log.

The same text about the same party is told once in `TROUBLE_REPEAT_S`, the next time with the number
of those that were left out.  In that time at most `TROUBLE_BURST` different ones are told; then one
line says how many were not.  Bounded memory: what was heard least recently is forgotten.  Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from paas.rpc.mesh_limits import TROUBLE_BURST, TROUBLE_KEYS_MAX, TROUBLE_REPEAT_S


@dataclass(slots=True)
class _Told:
    at_s: float
    omitted: int = 0


class Troubles:
    """`note` what happens; it calls `tell(party, text)` for some of it."""

    def __init__(self, tell: Callable[[str, str], None], now_s: Callable[[], float]) -> None:
        self.count = 0
        """All that were noted."""
        self._tell = tell
        self._now_s = now_s
        self._told: OrderedDict[tuple[str, str], _Told] = OrderedDict()
        self._window_s = -TROUBLE_REPEAT_S
        self._in_window = 0
        self._omitted = 0

    def note(self, party: str, text: str) -> None:
        self.count += 1
        now = self._now_s()
        self._turn_window(now)
        key = (party, text)
        told = self._told.get(key)
        if told is not None and now - told.at_s < TROUBLE_REPEAT_S:
            told.omitted += 1
            self._told.move_to_end(key)
            return
        if self._in_window >= TROUBLE_BURST:
            self._omitted += 1
            return
        self._in_window += 1
        again = f" ({told.omitted} times more since)" if told is not None and told.omitted else ""
        self._told[key] = _Told(now)
        self._told.move_to_end(key)
        if len(self._told) > TROUBLE_KEYS_MAX:
            self._told.popitem(last=False)
        self._tell(party, text + again)

    def _turn_window(self, now: float) -> None:
        if now - self._window_s < TROUBLE_REPEAT_S:
            return
        self._window_s, self._in_window = now, 0
        if self._omitted:
            omitted, self._omitted = self._omitted, 0
            self._tell("mesh", f"{omitted} further troubles were not told")
