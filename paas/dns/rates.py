"""How many answers a network of askers gets: against floods, and being used for them.  Pure.

The address of a datagram is anybody's claim.  Who claims another's makes that one get our answers
("reflection"), which are larger than questions ("amplification"): so to one network go only so many
a second, whatever they say.  Beyond that, each second answer is an empty one with TC, as long as
its question: who really asked goes on by TCP, where nobody can claim an address (RFC 5358, and
response rate limiting as BIND has it).

Counted by second and by network: 24 bits of an address of version 4, 56 of version 6.  When too
many networks speak in one second, those that come later share one count: what is kept is bounded,
and who was there first is not hurt by a flood of invented addresses.
"""

from __future__ import annotations

import enum
import ipaddress

from paas.dns import limits


class Verdict(enum.Enum):
    """What becomes of an answer."""

    SEND = enum.auto()
    SLIP = enum.auto()
    """An empty one that says TC."""
    DROP = enum.auto()


_SHARED = ""


class Rates:
    """See the module's text.  `rate_per_s` 0: no limit."""

    def __init__(self, rate_per_s: int = limits.RATE_PER_S) -> None:
        self.rate_per_s = rate_per_s
        self._second = -1
        self._counts: dict[str, int] = {}
        self.slipped = 0
        self.dropped = 0

    def judge(self, source: str, now_s: float) -> Verdict:
        """One answer to this address, which counts."""
        if not self.rate_per_s:
            return Verdict.SEND
        if (second := int(now_s)) != self._second:
            self._second = second
            self._counts.clear()
        network = network_of(source)
        counts = self._counts
        if network not in counts and len(counts) >= limits.RATE_NETWORKS_MAX:
            network = _SHARED
        count = counts[network] = counts.get(network, 0) + 1
        over = count - self.rate_per_s
        if over <= 0:
            return Verdict.SEND
        if over % limits.SLIP == 0:
            self.slipped += 1
            return Verdict.SLIP
        self.dropped += 1
        return Verdict.DROP


def network_of(source: str) -> str:
    """What stands for the network of an address in text form."""
    if ":" not in source:
        return source[: source.rfind(".")]
    packed = ipaddress.IPv6Address(source.partition("%")[0]).packed
    return packed[:7].hex()
