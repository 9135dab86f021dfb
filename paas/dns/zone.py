"""What a zone is to who answers about it, and a zone that is written down.  Pure.

    find(labels) ──> kinds to sets of records       the name exists
                     {}                             it exists, being above one that does (RFC 4592
                                                    §2.2.2: "empty non-terminal")
                     None                           it does not

Names are without the zone's own labels.  A set lists what is near before what is far (`cluster.py`
knows what that means); within the two the order is nobody's, and answers turn it round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from paas.dns import limits, names, records
from paas.dns.names import Labels


class Set(NamedTuple):
    """All records of one kind at one name; TTL in seconds."""

    ttl_s: int
    near: tuple[bytes, ...]
    far: tuple[bytes, ...] = ()
    related: tuple[Labels, ...] = ()
    """Names, without the zone, whose addresses spare a second question (RFC 2782: "additional")."""

    @property
    def all(self) -> tuple[bytes, ...]:
        return self.near + self.far

    def turned(self, by: int) -> tuple[bytes, ...]:
        """The records in another order, the near ones first all the same."""
        return _turned(self.near, by) + _turned(self.far, by)

    @property
    def orders(self) -> int:
        """How many different orders are worth keeping."""
        return min(limits.ROTATIONS_MAX, max(len(self.near), len(self.far), 1))


def _turned(items: tuple[bytes, ...], by: int) -> tuple[bytes, ...]:
    if len(items) < 2:
        return items
    by %= len(items)
    return items[by:] + items[:by]


Sets = Mapping[int, Set]


class Zone(Protocol):
    """See the module's text.  The apex (no labels) has an SOA and NS."""

    @property
    def origin(self) -> Labels: ...

    @property
    def serial(self) -> int: ...

    def find(self, labels: Labels, /) -> Sets | None: ...

    def names(self) -> Iterator[Labels]:
        """All names that have records, in no order; for transfers."""
        ...


def apex(origin: Labels, serial: int, servers: tuple[Labels, ...]) -> dict[int, Set]:
    """SOA and NS of a zone that these machines, named without the zone, serve."""
    primary = servers[0] if servers else (b"ns",)
    data = records.soa(primary + origin, (b"hostmaster", *origin), serial, limits.TTL_NEGATIVE_S)
    ns = tuple(names.wire(server + origin) for server in servers or (primary,))
    return {
        records.SOA: Set(limits.TTL_ZONE_S, (data,)),
        records.NS: Set(limits.TTL_ZONE_S, ns, related=servers),
    }


class StaticZone:
    """A zone whose records are given at once; for a server without a cluster, and for tests."""

    def __init__(
        self, origin: Labels, content: Mapping[Labels, Mapping[int, Set]], serial: int = 1
    ) -> None:
        self.origin = origin
        self.serial = serial
        self._sets: dict[Labels, dict[int, Set]] = {}
        for labels, sets in content.items():
            self._sets[labels] = dict(sets)
        server = (b"ns",)
        self._sets.setdefault((), {})
        self._sets[()] = {**apex(origin, serial, (server,)), **self._sets[()]}
        self._above = {labels[i:] for labels in self._sets for i in range(len(labels))}

    def find(self, labels: Labels, /) -> Sets | None:
        found = self._sets.get(labels)
        if found is None and labels in self._above:
            return {}
        return found

    def names(self) -> Iterator[Labels]:
        yield from self._sets
