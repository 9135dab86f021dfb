"""What a running engine holds on its node: bridge, tables, groups, pools, template, journal, lock.

Built in a thread (`Parts(...)` formats, copies and opens), opened before the first container,
closed without touching a container, removed when nothing of the node is to stay.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

import trio

from paas.base.errors import PlatformError
from paas.container.addresses import Addresses, UserRanges
from paas.container.hooks.contract import Context, Hook
from paas.container.journal import Journal, Record
from paas.container.launcher import TemplateLauncher
from paas.container.plan import Base
from paas.container.pools import ImageLayers, Layers, MemoryLayers, NetworkPool
from paas.container.settings import ContainerSettings
from paas.real import kernel_loop
from paas.real.kernel_bases import prepare_host_base
from paas.real.kernel_cgroups import open_cgroups
from paas.real.kernel_firewall import Firewall
from paas.real.kernel_lease import LeasePlace
from paas.real.kernel_netlink import Links
from paas.real.kernel_store import StateStore, remove_tree
from paas.real.kernel_worker import Worker


class Parts:
    """Everything but the containers themselves."""

    nursery: trio.Nursery
    hooks: Sequence[Hook]

    def __init__(self, settings: ContainerSettings) -> None:
        state = settings.state_dir
        self._state_dir = state
        self.directory = f"{state}/containers"
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        self.groups = open_cgroups(settings.cgroup)
        self.base = prepare_host_base(f"{state}/base-host")
        self.bases = {n: Base(name=n, lower=path) for n, path in settings.bases.items()}
        self.journal = Journal(StateStore(f"{state}/journal"))
        self.users = UserRanges(settings.uid_base)
        self.addresses = Addresses(settings.network)
        self.worker = Worker("container-links")
        self.links = Links(settings.bridge, settings.link_prefix)
        self.firewall = Firewall(settings.table, settings.bridge, settings.link_prefix)
        self.networks = NetworkPool(
            self.worker,
            self.links,
            self.firewall,
            self.addresses,
            settings.link_prefix,
            settings.pool_networks,
        )
        self.layers = _choose_layers(settings)
        self.launcher = TemplateLauncher(settings.harness, self.groups)
        self.lease = LeasePlace(settings.lease_file, state, self.groups.parents)

    async def open(self) -> None:
        """Make what all containers share."""
        self.groups.open()
        length = self.addresses.network.prefixlen
        await self.worker.run(self.links.open_bridge, self.addresses.gateway, length)

    async def close(self, *, remove: bool) -> None:
        """Let go of everything that is no container's; with `remove`, leave nothing on the node."""
        self.launcher.close()
        await self.networks.close()
        self.layers.close()
        try:
            if remove:
                await self.lease.drop()
                await self.firewall.close()
                await self.worker.run(self.links.close_bridge)
                await trio.to_thread.run_sync(self.groups.close)
                await trio.to_thread.run_sync(remove_tree, self._state_dir)
        finally:
            self.lease.close()
            await self.worker.run(self.links.close)
            await trio.to_thread.run_sync(self.worker.close)

    def context(self, record: Record) -> Context:
        """A context whose `save` keeps journal and context in step.

        A full disk keeps nothing from being started unrecorded, and nothing from ending: what ends
        goes on with the old record on the disk, from which the next controller finds out the same.
        """

        def save(changed: Record) -> None:
            try:
                self.journal.save(changed)
            except PlatformError as exc:
                if exc.code != "storage-full" or changed.phase not in ("exited", "destroying"):
                    raise
            context.record = changed

        context = Context(record, save, directory=f"{self.directory}/{record.component}")
        return context


def _choose_layers(settings: ContainerSettings) -> Layers:
    lacking = kernel_loop.missing()
    if settings.disk == "memory" or (settings.disk == "auto" and lacking):
        return MemoryLayers()
    if lacking:
        raise PlatformError("unsupported", f"layers in images need {lacking}")
    return ImageLayers(f"{settings.state_dir}/layers", settings.pool_disks)


def lock_directory(path: str) -> int:
    """One engine per state directory; the lock ends with the process."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise PlatformError(
            "conflict", f"another container controller uses {path}", hint="end it: paas down"
        ) from None
    return fd
