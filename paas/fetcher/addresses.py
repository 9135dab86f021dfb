"""Which addresses may be connected to: the defence against being aimed at what is inside.

    name ── resolver ──> addresses ── judge ──> those that may be ──> connect to exactly these

The judgement is on the address that is connected to, not on the name, so that a name whose meaning
changes between the look and the connection ("DNS rebinding") gains nothing.  Refused is what is not
of the global Internet (RFC 6890 and the registries that follow it), unless a network of the
settings holds it; an IPv6 address that carries one of IPv4 (mapped, NAT64, 6to4, Teredo) is judged
by that one too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/128", "::1/128", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32"),
        *("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
"""The IANA registries of special purpose addresses, as of 2026, and multicast."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks as they stand in settings.  Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def carried(address: Address) -> list[Address]:
    """The addresses that this one stands for, itself first."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    inner: list[Address] = [address]
    if address in _NAT64 or address in _NAT64_LOCAL:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner.extend(address.teredo)
    return inner


def is_inside(text: str) -> bool:
    """Is this an address that is not of the global Internet?"""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return True
    return any(_holds(_REFUSED, one) for one in carried(address))


def permitted(text: str, allowed: Sequence[Network]) -> bool:
    """May this address be connected to?  `allowed`: networks that are not of the Internet."""
    if not is_inside(text):
        return True
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return all(_holds(allowed, one) for one in carried(address) if _holds(_REFUSED, one))


def _holds(some: Sequence[Network], address: Address) -> bool:
    return any(address.version == network.version and address in network for network in some)
