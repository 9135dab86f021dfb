"""What a container has to do with the world: the elements of the packet filter for it.  Pure.

A record says what the manifest allows (`egress`) and which ports of the node lead here
(`published`).  Of entries of `egress` that are names, only the resolver (`names.py`) knows what
they mean at the moment; what it has found is in a set of its own, and old after a while.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from paas.base.errors import PlatformError
from paas.bundle.egress import parse_all
from paas.container.journal import Record

LINK_LOCAL = "169.254.0.0/16"
"""RFC 3927; clouds serve metadata, and with them credentials, at 169.254.169.254."""

_SETS = (
    *("outgoing", "egress", "entrances", "published", "published_ports"),
    *("outgoing6", "egress6", "entrances6", "published6"),
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Elements = dict[str, list[tuple[str | int, ...]]]


def is_outside(record: Record) -> bool:
    """Has it anything to do with the world?"""
    return bool(record.egress or record.published)


def outside_elements(records: Iterable[Record]) -> Elements:
    """Set to elements, for these containers."""
    found: Elements = {name: [] for name in _SETS}
    for record in records:
        if record.address is None:
            continue
        if record.egress:
            found["outgoing"].append((record.address,))
        if record.egress and record.address6:
            found["outgoing6"].append((record.address6,))
        found["egress"] += _networks(record.address, record.egress, 4)
        if record.address6:
            found["egress6"] += _networks(record.address6, record.egress, 6)
        for name, public in record.published.items():
            host, port = record.endpoints[name]
            for protocol in ("tcp", "udp"):
                found["entrances"].append((host, protocol, port))
                found["published"].append((protocol, public, host))
                found["published_ports"].append((protocol, public, port))
                if record.address6:
                    found["entrances6"].append((record.address6, protocol, port))
                    found["published6"].append((protocol, public, record.address6))
    return found


def _networks(address: str, egress: Sequence[str], version: int) -> list[tuple[str | int, ...]]:
    """Overlapping ones joined: the kernel takes an address once only."""
    joined: dict[tuple[str, int], list[Network]] = {}
    for entry in parse_all(egress):
        network = ipaddress.ip_network(entry.network) if entry.network else None
        if network is not None and network.version == version:
            joined.setdefault((entry.protocol, entry.port), []).append(network)
    return [
        (address, str(network), *what)
        for what, networks in joined.items()
        for network in _collapsed(networks)
    ]


def _collapsed(networks: list[Network]) -> Iterable[Network]:
    """All of one version."""
    return ipaddress.collapse_addresses(networks)  # type: ignore[type-var]


def check_published(wanted: Mapping[str, int], others: Iterable[Record]) -> None:
    """Raises `conflict` when a port of the node leads to another container already."""
    taken = {port: r.component for r in others for port in r.published.values()}
    for name, port in wanted.items():
        if port in taken:
            raise PlatformError(
                "conflict",
                f"port {port} of this node leads to {taken[port][:8]} already",
                hint=f"publish another one: [endpoints.{name}] publish = …",
                port=port,
            )
