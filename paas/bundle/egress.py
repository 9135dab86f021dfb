"""What a component may reach outside of the cluster: `[egress] allow = [...]` of its manifest.

    api.example.com:443     a name: the addresses that the node's resolver finds for it
    *.example.org:443       every name below it, not the name itself
    192.0.2.0/24:5432       addresses of a network
    192.0.2.7:53/udp        one address, UDP
    [2001:db8::/32]:443     the same by IPv6

Pure; the same check for who writes a manifest and for the node that carries it out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

ALLOW_MAX = 64
"""Entries of one manifest; each of a name costs a look at every question that is asked."""

EXPECTED = (
    'a list of destinations such as "api.example.com:443", "*.example.org:443",'
    ' "192.0.2.0/24:5432" or "192.0.2.7:53/udp"'
)
_ENTRY = re.compile(
    r"(?P<where>[^\s:\[\]]+|\[[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?\])"
    r":(?P<port>[0-9]{1,5})(?:/(?P<protocol>tcp|udp))?"
)
_NAME = re.compile(
    r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


@dataclass(frozen=True, slots=True)
class Destination:
    """One entry: either a name or a network, of version 4 or 6."""

    name: str
    network: str
    protocol: str
    port: int

    def covers(self, name: str) -> bool:
        """Is this name, in lower case and without a dot at its end, one of those allowed?"""
        if self.name.startswith("*."):
            return name.endswith(self.name[1:]) and len(name) > len(self.name) - 1
        return bool(self.name) and name == self.name

    def __str__(self) -> str:
        suffix = "" if self.protocol == "tcp" else f"/{self.protocol}"
        network = f"[{self.network}]" if ":" in self.network else self.network
        return f"{self.name or network}:{self.port}{suffix}"


def parse(entry: str) -> Destination:
    """One entry; raises ValueError."""
    found = _ENTRY.fullmatch(entry)
    if found is None or not 0 < int(found["port"]) < 1 << 16:
        raise ValueError(EXPECTED)
    port, protocol = int(found["port"]), found["protocol"] or "tcp"
    where = found["where"].lower()
    if where[0] == "[":
        wide = ipaddress.IPv6Network(where[1:-1], strict=False)
        return Destination("", str(wide), protocol, port)
    if where[0].isdigit() and where.replace("/", "").replace(".", "").isdigit():
        network = ipaddress.IPv4Network(where, strict=False)
        return Destination("", str(network), protocol, port)
    if len(where) > 253 or not _NAME.fullmatch(where):
        raise ValueError(EXPECTED)
    return Destination(where, "", protocol, port)


def parse_all(entries: Sequence[str]) -> list[Destination]:
    """All entries; raises ValueError for the first that is none."""
    return [parse(entry) for entry in entries]


def has_names(entries: Sequence[str]) -> bool:
    """Does it need a resolver?"""
    return any(destination.name for destination in parse_all(entries))


def check(value: object) -> tuple[str, ...]:
    """The canonical form of a manifest's list: sorted, each written out."""
    if not isinstance(value, list | tuple) or len(value) > ALLOW_MAX:
        raise ValueError(f"{EXPECTED}, at most {ALLOW_MAX} of them")
    if not all(isinstance(entry, str) for entry in value):
        raise ValueError(EXPECTED)
    try:
        return tuple(sorted({str(parse(entry)) for entry in value}))
    except ValueError:
        raise ValueError(EXPECTED) from None
