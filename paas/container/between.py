"""What a node's containers have to do with other nodes: their addresses, the ways there.

The hub says which nodes there are and what their networks are (`network.neighbours`); here that
becomes routes or tunnels (`real.kernel_ways`) and what the packet filter is told of them.  Ways
stay when the controller ends, as the containers do.

Links that other nodes come in by must forward packets (`gate.forward_by`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sized
from typing import Protocol

from paas.base.errors import PlatformError, invalid
from paas.container.gate import forward_by
from paas.container.parts import Parts
from paas.network.messages import FarPath, NetworkFacts, SetNeighbours
from paas.real.kernel_ways import Way


class Grants(Protocol):
    @property
    def far(self) -> list[FarPath]: ...

    async def admit(self, path: FarPath) -> str: ...


class Containers(Protocol):
    """What is asked of the engine."""

    @property
    def containers(self) -> Sized: ...

    @property
    def paths(self) -> Grants: ...

    def ready(self) -> Parts: ...


class Between:
    """See the module's text."""

    def __init__(self, engine: Containers) -> None:
        self._engine = engine
        self._networks: Mapping[str, ipaddress.IPv4Network] = {}

    def facts(self) -> NetworkFacts:
        parts = self._engine.ready()
        return NetworkFacts(
            network=str(parts.addresses.network), containers=len(self._engine.containers)
        )

    async def have(self, wanted: SetNeighbours) -> None:
        """Have ways to these nodes' containers and to no others."""
        parts = self._engine.ready()
        networks = {n.node: _network(n.network) for n in wanted.neighbours}
        own = parts.addresses.network
        if any(own.overlaps(network) for network in networks.values()):
            raise PlatformError("conflict", f"{own} is this node's own network")
        ways = [(n.network, _address(n.address)) for n in wanted.neighbours]
        twin = parts.addresses.twin
        self._networks = networks
        try:
            fresh = await parts.worker.run(
                parts.ways.have, wanted.address, [Way(*way, twin(way[0])) for way in ways]
            )
        except OSError as exc:
            raise PlatformError(
                "unsupported",
                f"no way to the containers of other nodes can be made here: {exc.strerror}",
                hint="where routers are between nodes, the kernel must have vxlan: modprobe vxlan",
            ) from exc
        await forward_by(parts, fresh)
        await parts.firewall.replace("neighbours", [(address,) for _, address in ways])

    async def admit(self, path: FarPath) -> str:
        """This end of a path; the other one must be where it is said to be."""
        network = self._networks.get(path.peer_node)
        if network is None or _ip(path.peer_address) not in network:
            raise PlatformError(
                "conflict", f"{path.peer_address} is not known as an address of {path.peer_node}"
            )
        return await self._engine.paths.admit(path)

    async def renumber(self, network: str) -> None:
        """Take another network; only without containers."""
        parts = self._engine.ready()
        if str(parts.addresses.network) == network:
            return
        if len(self._engine.containers):
            raise PlatformError(
                "conflict",
                f"this node's containers are in {parts.addresses.network}, as another node's are",
                hint="empty it, then it takes other addresses: paas nodes drain NODE",
            )
        wanted = _network(network)
        await parts.networks.renumber(str(wanted))
        twin = parts.addresses.twin(str(wanted))
        await parts.worker.run(parts.ways.renumber, str(wanted), twin)
        parts.keep_network(str(wanted))
        await parts.firewall.replace("resolvers", [(parts.addresses.gateway,)])


def _network(text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        raise invalid("network", "an IPv4 network such as 10.83.0.0/21") from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise invalid("address", "an IPv4 address") from None


def _ip(text: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(_address(text))
