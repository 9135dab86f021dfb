"""Which addresses the containers of a node get: a network that nothing else on the machine uses.

    10.64.0.0/21 … 10.127.248.0/21, beginning with the one that the cluster's name points at

Two clusters on one machine, or a cluster beside somebody's virtual private network, with the same
addresses would take each other's packets: the host's routes decide between containers' links.  So
the choice looks at the routes that are there (proc(5), /proc/net/route), and is written down, since
containers that run on keep their addresses when their controller is started anew.  A kept choice
that somebody else uses by now is given up once no container is recorded.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import struct
from pathlib import Path

ROUTES = Path("/proc/net/route")
FIRST = 64
COUNT = 64 * 32
KEPT_FILE = "network"


def choose_network(directory: str, bridge: str, name: str, routes: Path = ROUTES) -> str:
    """The network of the node with this `directory` for containers; written there."""
    taken = taken_networks(routes.read_text(), but=bridge)
    kept = _kept(directory)
    if kept and (not _overlaps(kept, taken) or _records(directory)):
        return kept
    begin = int(name[:2], 16) % 64 * 32 + int(name[2:4], 16) // 8
    candidates = [_network((begin + step) % COUNT) for step in range(COUNT)]
    chosen = next((c for c in candidates if not _overlaps(c, taken)), candidates[0])
    temporary = f"{directory}/{KEPT_FILE}.new"
    Path(temporary).write_text(chosen)
    os.replace(temporary, f"{directory}/{KEPT_FILE}")
    return chosen


def tunnel_number(cluster: str) -> int:
    """Of the tunnels between the nodes of a cluster: other clusters' packets are not ours."""
    digest = hashlib.sha256(f"tunnels of {cluster}".encode()).digest()
    return int.from_bytes(digest[:3], "big") or 1


def local_prefix(cluster: str) -> str:
    """Of the cluster's containers by IPv6 (RFC 4193): the same on each node, hardly another's."""
    digest = hashlib.sha256(f"local addresses of {cluster}".encode()).digest()
    return str(ipaddress.IPv6Network((bytes((0xFD, *digest[:5], *bytes(10))), 64)))


def _network(number: int) -> str:
    return f"10.{FIRST + number // 32}.{number % 32 * 8}.0/21"


def taken_networks(table: str, *, but: str) -> list[ipaddress.IPv4Network]:
    """Destinations of a routing table, without the default route and those of one link."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[0] == but:
            continue
        address, mask = (struct.pack("<I", int(words[place], 16)) for place in (1, 7))
        length = int.from_bytes(mask, "big").bit_count()
        if length:
            found.append(ipaddress.IPv4Network((address, length), strict=False))
    return found


def _overlaps(network: str, taken: list[ipaddress.IPv4Network]) -> bool:
    wanted = ipaddress.IPv4Network(network)
    return any(wanted.overlaps(other) for other in taken)


def _kept(directory: str) -> str:
    try:
        return str(ipaddress.IPv4Network(Path(directory, KEPT_FILE).read_text()))
    except (OSError, ValueError):
        return ""


def _records(directory: str) -> bool:
    try:
        return bool(os.listdir(f"{directory}/journal"))
    except FileNotFoundError:
        return False
