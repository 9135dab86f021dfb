"""Which nodes keep a copy of a bundle.

Every node computes the same order of nodes for a digest, each node's place in it by a hash of both
(rendezvous hashing): a node that comes or goes changes only what it keeps itself, and the bundles
are spread evenly.  The first `COPIES` of the nodes that are present keep one.  More copies, made
because a component ran somewhere, are nobody's concern.

Pure.  Source: D. Thaler, C. Ravishankar, "A name-based mapping scheme for rendezvous", 1998.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from paas.bundle.limits import COPIES


def ranked(digest: str, nodes: Iterable[str]) -> list[str]:
    """The nodes, those that should keep the bundle first."""
    return sorted(nodes, key=lambda node: (_weight(digest, node), node))


def keepers(digest: str, nodes: Iterable[str]) -> list[str]:
    """The nodes that should keep the bundle."""
    return ranked(digest, nodes)[:COPIES]


def copies_at_upload(nodes: int) -> int:
    """On how many of the nodes that are present a bundle must be before its upload is acknowledged.

    A majority, as for what the log says about it, but not more than are kept for good.
    """
    return min(nodes // 2 + 1, COPIES)


def _weight(digest: str, node: str) -> bytes:
    return hashlib.sha256(f"{digest}\0{node}".encode()).digest()
