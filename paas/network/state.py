"""Which node has which addresses for containers, in the cluster state (section "network").

A node claims the network that it chose when it was made (assembly/container_network.py).  The first
claim of an address stands.  A later claim that overlaps with it is answered with a network that is
free, which belongs to the claimer from then on: two nodes that were set up alike choose alike.

Invariants
  - No two networks overlap.  So an address of a container names its node for as long as the node
    belongs to the cluster, and no packet can be meant for two.
  - A network is free again when its node has been removed, not when it is lost: a lost node may
    still believe in its addresses.

Command 670.  Source: platform document §4.4; docs/internals/containers/network.md.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.network import limits
from paas.network.messages import NetworkChanged
from paas.node.messages import NodeChanged
from paas.raft.command import command
from paas.raft.machine import Context


@command(670)
class ClaimNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """The containers of a node have addresses of this network.  Answered with the one granted."""

    node: str
    network: str


class NetworkState:
    """The section "network".  See the module's text."""

    name = "network"
    hears = (NodeChanged,)

    def __init__(self) -> None:
        self._networks: dict[str, str] = {}  # node -> network
        self.commands = {ClaimNetwork: self._claim}

    def network(self, node: str) -> str:
        """Of the containers of this node; empty when none is known."""
        return self._networks.get(node, "")

    def networks(self) -> dict[str, str]:
        """Node to network, by name."""
        return {node: self._networks[node] for node in sorted(self._networks)}

    def _claim(self, cmd: ClaimNetwork, ctx: Context) -> dict[str, Any]:
        wanted = parse_network(cmd.network)
        nodes = ctx.sections.get("nodes")
        if nodes is not None and nodes.get(cmd.node) is None:
            raise PlatformError("no-such-target", f"no node is called {cmd.node!r}")
        taken = [
            ipaddress.IPv4Network(network)
            for node, network in self._networks.items()
            if node != cmd.node
        ]
        granted = str(choose(wanted, taken))
        if self._networks.get(cmd.node) != granted:
            self._networks[cmd.node] = granted
            ctx.emit(NetworkChanged(node=cmd.node, network=granted))
        return {"network": granted}

    def react(self, event: Any, ctx: Context) -> None:
        """Addresses of a node that was removed for good are free."""
        removed = isinstance(event, NodeChanged) and event.state == "destroyed"
        if removed and self._networks.pop(event.node, None) is not None:
            ctx.emit(NetworkChanged(node=event.node, network=""))

    def snapshot(self) -> Any:
        return {"networks": self.networks()}

    def restore(self, plain: Any) -> None:
        self._networks = msgspec.convert(plain["networks"], dict[str, str])


def parse_network(text: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        raise invalid("network", "an IPv4 network such as 10.83.0.0/21") from None
    if not network.is_private or network.prefixlen < 8 or network.num_addresses < 8:
        raise invalid("network", "a private IPv4 network of 8 to 16,777,216 addresses")
    return network


def choose(
    wanted: ipaddress.IPv4Network, taken: list[ipaddress.IPv4Network]
) -> ipaddress.IPv4Network:
    """What was wanted, or the next network of the cluster that nobody has; pure."""
    if not any(wanted.overlaps(other) for other in taken):
        return wanted
    whole = ipaddress.IPv4Network(limits.CLUSTER_NETWORK)
    size = 1 << (32 - limits.NODE_PREFIX_LENGTH)
    first = int(whole.network_address)
    begin = (int(wanted.network_address) - first) // size
    for step in range(limits.NETWORKS_MAX):
        number = (begin + step) % limits.NETWORKS_MAX
        network = ipaddress.IPv4Network((first + number * size, limits.NODE_PREFIX_LENGTH))
        if not any(network.overlaps(other) for other in taken):
            return network
    raise PlatformError("limit-exceeded", f"no network is free in {whole}")
