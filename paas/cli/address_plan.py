"""Which addresses the machines of a development cluster get: pure arithmetic.

    10.128.0.0/24 … 10.191.255.0/24   one for the machines of a cluster: n3 has .3, the host .254
    10.64.0.0/21 … 10.127.248.0/21    one for the containers of each node

Both begin with the one that the cluster's short name points at, and pass over those that the host
has a route to (/proc/net/route, proc(5)).  The networks of the containers of one cluster are
different from each other, so that a component's address says which node it is on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from paas.base.errors import PlatformError

ROUTES = Path("/proc/net/route")
HOST_NUMBER = 254
MACHINES = (IPv4Network("10.128.0.0/10"), 24)
CONTAINERS = (IPv4Network("10.64.0.0/10"), 21)


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """The networks of one cluster: of its machines, and of the containers of each of them."""

    machines: str
    containers: tuple[str, ...]

    def address(self, number: int) -> str:
        """Of the node with this number, from 1."""
        return str(IPv4Network(self.machines)[number])

    @property
    def host(self) -> str:
        return self.address(HOST_NUMBER)


def plan(short: str, nodes: int, taken: list[IPv4Network]) -> AddressPlan:
    """Networks that nobody here uses; `short` is hexadecimal digits that tell clusters apart."""
    begin = int(short[:4], 16)
    machines = _free(*MACHINES, begin, 1, taken)
    containers = _free(*CONTAINERS, begin, nodes, taken)
    return AddressPlan(machines[0], tuple(containers))


def _free(
    whole: IPv4Network, length: int, begin: int, count: int, taken: list[IPv4Network]
) -> list[str]:
    candidates = 1 << (length - whole.prefixlen)
    size = 1 << (32 - length)
    found: list[str] = []
    for step in range(candidates):
        first = int(whole.network_address) + (begin + step) % candidates * size
        network = IPv4Network((first, length))
        if not any(network.overlaps(other) for other in taken):
            found.append(str(network))
        if len(found) == count:
            return found
    raise PlatformError("unsupported", f"this machine has routes to every network in {whole}")


def overlapping(network: str, taken: list[IPv4Network]) -> str | None:
    """The first of `taken` that shares addresses with the network."""
    wanted = IPv4Network(network)
    return next((str(other) for other in taken if wanted.overlaps(other)), None)


def routes(table: str, *, but: str = "") -> list[IPv4Network]:
    """The destinations of a routing table, without the default route and the link `but`."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[0] == but:
            continue
        address, mask = (struct.pack("<I", int(words[place], 16)) for place in (1, 7))
        length = int.from_bytes(mask, "big").bit_count()
        if length:
            found.append(IPv4Network((address, length), strict=False))
    return found
