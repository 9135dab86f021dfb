"""A network namespace with one link to the node's bridge, one address, and a way to the world where
the manifest asks for one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from paas.container import plan
from paas.container.hooks.contract import Context, Networks
from paas.container.journal import Record

OpenGate = Callable[[Record, int], Awaitable[None]]
"""(record, descriptor of the namespace)"""


class NetworkHook:
    name = "network"

    def __init__(self, networks: Networks, open_gate: OpenGate) -> None:
        """`open_gate` makes the way to the world that the record speaks of."""
        self._networks = networks
        self._open_gate = open_gate

    async def prepare(self, context: Context) -> None:
        network = await self._networks.take()
        context.network = network
        spec = context.wanted()
        ports = plan.endpoints(spec, network.address)
        # Not saved yet: until pid 1 is in it, the namespace is held by the descriptor only, and the
        # link and the address end with it.
        context.record = replace(
            context.record,
            link=network.link,
            address=network.address,
            address6=network.address6,
            endpoints=ports,
            egress=spec.egress,
            published=spec.published,
        )
        await self._open_gate(context.record, network.fd)

    async def destroy(self, context: Context) -> None:
        if context.network is not None:
            context.network.release()
            context.network = None
        link, address = context.record.link, context.record.address
        if link is not None and address is not None:
            await self._networks.remove(link, address)
            context.save(replace(context.record, link=None, address=None, address6=""))
