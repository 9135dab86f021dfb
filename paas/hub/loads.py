"""How busy the components of other nodes are, and how far those nodes: what is known and how.

    load       own calls in flight (exact)  +  those of others, as its hub last said
    distance   the measured round-trip to the hub of a node, smoothed

A hub says how many calls wait for a component in two ways: in the answer to a forwarded call that
asks for it (`load`), and when asked (`hub.loads`), at most once a second and node.  From the number
said, the own calls of that moment are taken off; what is left are the calls of others, and counts
until the next word, or for `LOADS_STALE_S`.  The question is also the measurement of the distance.

Nothing is asked unless somebody selects by it: no timer runs, questions leave with the calls that
want their answers, and the first call goes by what is known then.  Informative only: nothing of it
is in the log (architecture, rule 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.hub import limits
from paas.hub.messages import LOADS, LoadsResult
from paas.hub.messages import Loads as AskLoads
from paas.rpc.peer import Peer
from paas.wire import codec
from paas.wire.registry import decode

ANSWER_TIMEOUT_S = 2.0
_FIXMAP, _FIXMAP_LAST = 0x80, 0x8F
_KEY = codec.pack("load")
_ANSWER_BYTES_MAX = 1 << 20


class _Loaded(msgspec.Struct, frozen=True):
    load: int = -1


def with_load(answer: bytes, waiting: int) -> bytes:
    """The answer, a packed map, with one more member; unchanged if it is none, or very large."""
    if not answer or not _FIXMAP <= answer[0] < _FIXMAP_LAST or len(answer) > _ANSWER_BYTES_MAX:
        return answer
    return bytes((answer[0] + 1,)) + answer[1:] + _KEY + codec.pack(waiting)


class Loads:
    """See the module's text."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._own: dict[str, int] = {}
        self._others: dict[str, tuple[int, float]] = {}  # component -> calls, when that was said
        self._asked_s: dict[tuple[str, str], float] = {}  # (what, node) -> when
        self._distances: dict[str, float] = {}

    # -- loads -----------------------------------------------------------------------------------

    def began(self, component: str) -> None:
        """A call of this hub is on its way to it."""
        self._own[component] = self._own.get(component, 0) + 1

    def ended(self, component: str) -> None:
        left = self._own.get(component, 0) - 1
        if left > 0:
            self._own[component] = left
        else:
            self._own.pop(component, None)

    def said(self, component: str, waiting: int) -> None:
        """Its hub says that so many calls wait for it, those of this hub included."""
        if len(self._others) >= limits.LOADS_KEPT_MAX:
            self._others.clear()
        others = max(0, waiting - self._own.get(component, 0))
        self._others[component] = (others, self._clock.monotonic_s())

    def heard(self, component: str, answer: bytes | PlatformError) -> None:
        """An answer that may say the load (`with_load`)."""
        if isinstance(answer, PlatformError):
            return
        try:
            load = msgspec.msgpack.decode(answer, type=_Loaded).load
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return
        if load >= 0:
            self.said(component, load)

    def of(self, component: str) -> int:
        """Calls that wait for it, as far as is known."""
        others, said_s = self._others.get(component, (0, 0.0))
        if others and self._clock.monotonic_s() - said_s > limits.LOADS_STALE_S:
            others = 0
        return self._own.get(component, 0) + others

    def ask(self, node: str, peer: Peer, components: Iterable[str]) -> None:
        """Ask the hub of a node for the loads of these, unless it was asked just now."""
        if self._due("loads", node, limits.LOADS_PERIOD_S):
            self._question(node, peer, list(components)[: limits.LOADS_ASKED_MAX])

    # -- distances -------------------------------------------------------------------------------

    def measure(self, node: str, peer: Peer) -> None:
        """Measure the round-trip to a node, unless that was done just now."""
        if self._due("distance", node, limits.DISTANCE_PERIOD_S):
            self._question(node, peer, [])

    def distance_s(self, node: str) -> float:
        """The round-trip to the hub of a node; infinite while it has not been measured."""
        return self._distances.get(node, float("inf"))

    def lost(self, node: str) -> None:
        """It does not answer: how far it is will have to be measured anew."""
        self._distances.pop(node, None)

    def _due(self, what: str, node: str, period_s: float) -> bool:
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s.get((what, node), float("-inf")) < period_s:
            return False
        self._asked_s[what, node] = now_s
        return True

    def _question(self, node: str, peer: Peer, components: list[str]) -> None:
        sent_s = self._clock.monotonic_s()

        def answered(value: bytes | PlatformError) -> None:
            if isinstance(value, PlatformError):
                self.lost(node)
                return
            self._measured(node, self._clock.monotonic_s() - sent_s)
            try:
                said = decode(value, LoadsResult).loads
            except PlatformError:
                return
            for component in components:
                if component in said:
                    self.said(component, said[component])

        body = codec.pack(AskLoads(components=components))
        peer.send_request(LOADS.name, body, answered, timeout_s=ANSWER_TIMEOUT_S)

    def _measured(self, node: str, rtt_s: float) -> None:
        known_s = self._distances.get(node)
        if known_s is not None:
            rtt_s = known_s + limits.DISTANCE_WEIGHT * (rtt_s - known_s)
        self._distances[node] = rtt_s


def answer_loads(params: AskLoads, waiting: Callable[[str], int | None]) -> LoadsResult:
    """What this hub says of its own components; those that are not attached are left out."""
    asked = params.components[: limits.LOADS_ASKED_MAX]
    loads = {component: waiting(component) for component in asked}
    return LoadsResult(loads={c: count for c, count in loads.items() if count is not None})
