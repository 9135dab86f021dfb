"""Which certificate fits a host name: exact before wildcard, the default for everything else.

A wildcard stands for exactly one label (RFC 6125 §6.4.3), unlike that of a route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def find(table: Mapping[str, T], name: str) -> T | None:
    """The entry of a host name, lower-case; None when only the default is left."""
    name = name.rstrip(".")
    found = table.get(name)
    if found is None and "." in name:
        found = table.get("*." + name.partition(".")[2])
    return found


def covers(names: frozenset[str], host: str) -> bool:
    """Is the host one of a certificate's names?"""
    return host in names or ("." in host and "*." + host.partition(".")[2] in names)
