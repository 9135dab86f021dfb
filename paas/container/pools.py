"""Network namespaces kept ready (writable layers: `filesystems/images.py`).

A pool is filled in the background and when a start finds it empty the thing is made there and then,
so a pool changes how long a start takes and nothing else.  One that cannot be filled (a full disk,
no address left) is tried again later; the start that needs the thing hears why.  Whatever is in a
pool is held by a descriptor only: when the controller is killed, the kernel removes it.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from functools import partial

import trio

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.addresses import Addresses
from paas.real import kernel_netns
from paas.real.kernel_firewall import Firewall
from paas.real.kernel_netlink import Links
from paas.real.kernel_netns6 import Inside6
from paas.real.kernel_worker import Worker


@dataclass(slots=True)
class ReadyNetwork:
    """A configured namespace that nobody is in yet."""

    fd: int
    link: str
    address: str
    gateway: str
    address6: str = ""

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def gateway6(addresses: Addresses) -> str:
    """The bridge's address of version 6 with the length of its network's prefix; or empty."""
    return addresses.twin(f"{addresses.gateway}/{addresses.network.prefixlen}")


class NetworkPool:
    """Network namespaces, each with its link on the bridge and its address."""

    def __init__(
        self,
        worker: Worker,
        links: Links,
        firewall: Firewall,
        addresses: Addresses,
        link_prefix: str,
        size: int,
        *,
        reach: str,
        gateway_hardware: str = "",
    ) -> None:
        """`reach`: a network to which containers have a way besides their node's own.
        `gateway_hardware`: the bridge's hardware address, for IPv6."""
        self._reach = reach
        self._gateway_hardware = gateway_hardware
        self._worker = worker
        self._links = links
        self._firewall = firewall
        self._addresses = addresses
        self._prefix = link_prefix
        self._size = size
        self._ready: deque[ReadyNetwork] = deque()
        self._wanted = trio.Event()
        self._making = trio.Lock()

    def link_name(self, address: str) -> str:
        """The link's name tells the address: its place in the network, in base 16."""
        parts = [int(part) for part in address.split(".")]
        number = int.from_bytes(bytes(parts), "big") - int(self._addresses.network.network_address)
        return f"{self._prefix}{number:x}"

    async def take(self) -> ReadyNetwork:
        """A network from the pool, or a new one."""
        if self._ready:
            network = self._ready.popleft()
            self._wanted.set()
            return network
        return (await self._make(1))[0]

    async def run(self) -> None:
        """Keep the pool filled."""
        while True:
            while (missing := self._size - len(self._ready)) > 0:
                try:
                    self._ready.extend(await self._make(min(missing, self._size)))
                except (PlatformError, OSError):
                    await trio.sleep(limits.POOL_RETRY_S)
            self._wanted = trio.Event()
            await self._wanted.wait()
            await trio.sleep(limits.POOL_PAUSE_S)

    async def _make(self, count: int) -> list[ReadyNetwork]:
        made: list[ReadyNetwork] = []
        # A thing that was begun is finished and then undone: half a network has no owner.
        with trio.CancelScope(shield=True):
            async with self._making:
                try:
                    while len(made) < count:
                        made.append(await self._make_one())
                    await self._firewall.allow_source(*((n.link, n.address) for n in made))
                except BaseException:
                    for network in made:
                        await self._discard(network)
                    raise
        return made

    async def _make_one(self) -> ReadyNetwork:
        address = self._addresses.take()
        link = self.link_name(address)
        inside6 = self._inside6(address)
        try:
            fd = await self._worker.run(
                kernel_netns.make,
                partial(self._links.connect, link, address6=inside6.address if inside6 else ""),
                address,
                self._addresses.gateway,
                (str(self._addresses.network), self._reach),
                inside6,
            )
        except BaseException:
            await self.remove(link, address)
            raise
        address6 = inside6.address if inside6 else ""
        return ReadyNetwork(fd, link, address, self._addresses.gateway, address6)

    def _inside6(self, address: str) -> Inside6 | None:
        """None where containers have no IPv6."""
        twin = self._addresses.twin
        if not self._addresses.prefix6:
            return None
        return Inside6(
            address=twin(address),
            gateway=twin(self._addresses.gateway),
            hardware=self._gateway_hardware,
            networks=(twin(str(self._addresses.network)), twin(self._reach)),
        )

    async def _discard(self, network: ReadyNetwork) -> None:
        network.release()
        await self._firewall.forget(network.link, network.address)
        await self.remove(network.link, network.address)

    async def remove(self, link: str, address: str) -> None:
        """Remove the link and free the address; repeating it changes nothing."""
        await self._worker.run(self._links.disconnect, link, self._addresses.twin(address))
        self._addresses.give_back(address)

    async def renumber(self, network: str) -> None:
        """Take another network; raises `conflict` while a container has an address."""
        async with self._making:
            await self.close()
            self._addresses.renumber(network)
            await self._worker.run(
                self._links.move_bridge,
                self._addresses.gateway,
                self._addresses.network.prefixlen,
                gateway6(self._addresses),
            )
        self._wanted.set()

    async def close(self) -> None:
        while self._ready:
            await self._discard(self._ready.popleft())
