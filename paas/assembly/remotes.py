"""Requests to the hubs of other nodes, for the parts that know a node by its name."""

from __future__ import annotations

from paas.base.errors import PlatformError
from paas.hub.routes import Links
from paas.wire.registry import Method, P, R


class Remotes:
    """Implements `controller.ports.Remote` on the mesh."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def request(self, node: str, method: Method[P, R], params: P, timeout_s: float) -> R:
        """What the hub of that node answers; `not-available` when it cannot be reached."""
        peer = self._links.peer(node)
        if peer is None:
            raise PlatformError("not-available", f"node {node} cannot be reached", node=node)
        return await peer.call(method, params, timeout_s=timeout_s)
