"""Things that take a while to make, kept ready: network namespaces and writable layers.

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
from typing import Protocol

import trio

from paas.base.errors import PlatformError
from paas.bundle.files import reporting_full_disk
from paas.container import limits
from paas.container.addresses import Addresses
from paas.real import kernel_loop, kernel_netns
from paas.real.kernel_firewall import Firewall
from paas.real.kernel_loop import Disk
from paas.real.kernel_netlink import Links
from paas.real.kernel_worker import Worker


@dataclass(slots=True)
class ReadyNetwork:
    """A configured namespace that nobody is in yet."""

    fd: int
    link: str
    address: str

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


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
    ) -> None:
        self._worker = worker
        self._links = links
        self._firewall = firewall
        self._addresses = addresses
        self._prefix = link_prefix
        self._size = size
        self._ready: deque[ReadyNetwork] = deque()
        self._wanted = trio.Event()

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
        try:
            fd = await self._worker.run(
                kernel_netns.make,
                partial(self._links.connect, link),
                address,
                self._addresses.gateway,
                str(self._addresses.network),
            )
        except BaseException:
            await self._worker.run(self._links.disconnect, link)
            self._addresses.give_back(address)
            raise
        return ReadyNetwork(fd, link, address)

    async def _discard(self, network: ReadyNetwork) -> None:
        network.release()
        await self._firewall.forget(network.link, network.address)
        await self.remove(network.link, network.address)

    async def remove(self, link: str, address: str) -> None:
        """Remove the link and free the address; repeating it changes nothing."""
        await self._worker.run(self._links.disconnect, link)
        self._addresses.give_back(address)

    async def close(self) -> None:
        while self._ready:
            await self._discard(self._ready.popleft())


class Layers(Protocol):
    """Where writable layers come from."""

    async def take(self, size_bytes: int) -> Disk | None: ...

    async def run(self) -> None: ...

    def close(self) -> None: ...


class MemoryLayers:
    """Layers are tmpfs, made by the container itself; nothing is needed beforehand."""

    async def take(self, size_bytes: int) -> None:
        return None

    async def run(self) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        return None


class ImageLayers:
    """File systems in sparse files; the sizes asked for most lately are kept ready."""

    def __init__(self, directory: str, size: int) -> None:
        self._directory = directory
        self._size = size
        self._ready: dict[int, deque[Disk]] = {}
        self._wanted = trio.Event()
        self._formatting = trio.Lock()
        self._formatted: set[int] = set()
        os.makedirs(directory, mode=0o700, exist_ok=True)

    async def take(self, size_bytes: int) -> Disk:
        ready = self._ready.pop(size_bytes, deque())
        self._ready[size_bytes] = ready  # now the one asked for most lately
        while len(self._ready) > limits.POOL_DISK_SIZES:
            for disk in self._ready.pop(next(iter(self._ready))):
                disk.release()
        self._wanted.set()
        return ready.popleft() if ready else await self._make(size_bytes)

    async def run(self) -> None:
        """Keep the pool filled."""
        while True:
            self._wanted = trio.Event()
            for size_bytes, ready in list(self._ready.items()):
                if len(ready) < self._size:
                    try:
                        disk = await self._make(size_bytes)
                    except (PlatformError, OSError):
                        await trio.sleep(limits.POOL_RETRY_S)
                        self._wanted.set()
                        continue
                    if self._ready.get(size_bytes) is ready:
                        ready.append(disk)
                        self._wanted.set()
                    else:
                        disk.release()
            await self._wanted.wait()
            await trio.sleep(limits.POOL_PAUSE_S)

    async def _make(self, size_bytes: int) -> Disk:
        blank = f"{self._directory}/blank-{size_bytes}.img"
        with trio.CancelScope(shield=True), reporting_full_disk():
            async with self._formatting:
                if size_bytes not in self._formatted:
                    await trio.to_thread.run_sync(kernel_loop.format_blank, blank, size_bytes)
                    self._formatted.add(size_bytes)
            return await trio.to_thread.run_sync(kernel_loop.make_disk, blank, self._directory)
        raise AssertionError("a shielded scope is left by return only")

    def close(self) -> None:
        for ready in self._ready.values():
            for disk in ready:
                disk.release()
        self._ready.clear()
