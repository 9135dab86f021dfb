"""A network namespace with one link to the node's bridge and one address."""

from __future__ import annotations

from msgspec.structs import replace

from paas.container import plan
from paas.container.hooks.contract import Context, Networks


class NetworkHook:
    name = "network"

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def prepare(self, context: Context) -> None:
        network = await self._networks.take()
        context.network = network
        ports = plan.endpoints(context.wanted(), network.address)
        # Not saved yet: until pid 1 is in it, the namespace is held by the descriptor only, and the
        # link and the address end with it.
        context.record = replace(
            context.record, link=network.link, address=network.address, endpoints=ports
        )

    async def destroy(self, context: Context) -> None:
        if context.network is not None:
            context.network.release()
            context.network = None
        link, address = context.record.link, context.record.address
        if link is not None and address is not None:
            await self._networks.remove(link, address)
            context.save(replace(context.record, link=None, address=None))
