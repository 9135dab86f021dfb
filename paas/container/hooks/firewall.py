"""What other containers this one may reach, and who may reach it: at first nothing and nobody.

Preparing opens nothing.  Destroying takes away everything that names the container's link or
address, before the address can be given to somebody else (the network is removed after this).
"""

from __future__ import annotations

from paas.container.hooks.contract import Context, PacketFilter


class FirewallHook:
    name = "firewall"

    def __init__(self, packet_filter: PacketFilter) -> None:
        self._filter = packet_filter

    async def prepare(self, context: Context) -> None:
        if context.record.address is None:
            raise AssertionError("the network is prepared before the firewall")

    async def destroy(self, context: Context) -> None:
        link, address = context.record.link, context.record.address
        if link is not None and address is not None:
            await self._filter.forget(link, address)
