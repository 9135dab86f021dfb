"""The address of version 6 that goes with one of version 4 (pure).

Who has the one has the other: a pool, a register, a rule need only know of the first.
"""

from __future__ import annotations

import ipaddress


def twin(prefix: str, address: str) -> str:
    """The address, or network, within `prefix` (a /96 at most) whose last bits are `address`."""
    base = int(ipaddress.IPv6Network(prefix).network_address)
    text, slash, length = address.partition("/")
    own = ipaddress.IPv6Address(base | int(ipaddress.IPv4Address(text)))
    return f"{own}/{96 + int(length)}" if slash else str(own)
