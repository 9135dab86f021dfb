"""What both sides of a joining say in the same words: addresses, and clocks that differ."""

from __future__ import annotations

import re

from paas.base.errors import PlatformError, invalid
from paas.certificates.limits import ADDRESS_CHARACTERS_MAX

_address = re.compile(
    r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9.-]{1,20})?\]):([0-9]{1,5})"
)


def check_address(address: str) -> None:
    """Raise `invalid` unless this is host:port, with IPv6 addresses in brackets."""
    match = _address.fullmatch(address) if len(address) <= ADDRESS_CHARACTERS_MAX else None
    if match is None or not 0 < int(match[1]) < 65_536:
        raise invalid("address", "expected host:port, or [IPv6 address]:port")


def split_address(address: str) -> tuple[str, int]:
    """Host and port; raises `invalid`."""
    check_address(address)
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def clocks_differ(ahead_s: int, *, at_least: bool = False) -> PlatformError:
    """The error for a node whose clock cannot be worked with."""
    how = "ahead of" if ahead_s > 0 else "behind"
    least = "at least " if at_least else ""
    return PlatformError(
        "refused",
        f"the clocks differ: this node's clock is {least}{abs(ahead_s)} s {how} the cluster's",
        hint="set this node's clock, for example by NTP, then join again with the same token",
        clock_ahead_s=ahead_s,
    )
