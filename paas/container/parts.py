"""What a running engine holds on its node: bridge, tables, groups, pools, template, journal, lock.

Built in a thread (`Parts(...)` formats, copies and opens), opened before the first container,
closed without touching a container, removed when nothing of the node is to stay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import trio

from paas.base import locks
from paas.base.errors import PlatformError
from paas.container.addresses import Addresses, UserRanges
from paas.container.backends import launchers
from paas.container.filesystems.choose import open_files
from paas.container.hooks.contract import Context, Hook
from paas.container.journal import Journal, Record
from paas.container.launcher import TemplateLauncher
from paas.container.outside import Elements
from paas.container.plan import Base
from paas.container.pools import NetworkPool, gateway6
from paas.container.settings import ContainerSettings
from paas.container.volumes import Volumes
from paas.real import kernel_netns6
from paas.real.kernel_bases import prepare_host_base
from paas.real.kernel_cgroups import open_cgroups
from paas.real.kernel_firewall import Firewall
from paas.real.kernel_lease import LeasePlace
from paas.real.kernel_log import KernelLog
from paas.real.kernel_netlink import Links, hardware_address
from paas.real.kernel_store import StateStore, remove_tree
from paas.real.kernel_tables import Names
from paas.real.kernel_ways import Ways, is_bridge, set_forwarding
from paas.real.kernel_worker import Worker

NETWORK_FILE = "network"
"""In the state directory: the network that this node has, read where it is chosen."""


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
        self.kernel_log = KernelLog()
        self.base = prepare_host_base(f"{state}/base-host")
        self.bases = {n: Base(name=n, lower=path) for n, path in settings.bases.items()}
        self.journal = Journal(StateStore(f"{state}/journal"))
        self.users = UserRanges(settings.uid_base)
        self.reach = settings.reach
        self.zone, self.names_socket = settings.zone, settings.names_socket
        self.prefix6 = usable_prefix(settings.ipv6, settings.prefix6)
        self.addresses = Addresses(_kept_network(state) or settings.network, self.prefix6)
        self.worker = Worker("container-links")
        self.links = Links(settings.bridge, settings.link_prefix)
        network = str(self.addresses.network)
        self.ways = Ways(
            settings.tunnel,
            settings.tunnel_id,
            network,
            mode=settings.between,
            network6=self.addresses.twin(network),
        )
        self.firewall = Firewall(
            Names(
                table=settings.table,
                bridge=settings.bridge,
                link_prefix=settings.link_prefix,
                reach=settings.reach,
                tunnel_id=settings.tunnel_id,
                prefix6=self.prefix6,
            )
        )
        self.networks = NetworkPool(
            self.worker,
            self.links,
            self.firewall,
            self.addresses,
            settings.link_prefix,
            settings.pool_networks,
            reach=settings.reach,
            gateway_hardware=hardware_address(settings.bridge),
        )
        self.layers = open_files(settings)
        launchers.require(settings.backend)
        self.launcher = TemplateLauncher(settings.harness, self.groups)
        self.volumes = Volumes(settings.volumes_dir)
        self.lease = LeasePlace(settings.lease_file, state, self.groups.parents)

    async def open(self) -> None:
        """Make what all containers share."""
        self.groups.open()
        if not self.prefix6:  # it may have been switched off since
            self._forward_no_more6()
        length = self.addresses.network.prefixlen
        await self.worker.run(
            self.links.open_bridge, self.addresses.gateway, length, gateway6(self.addresses)
        )

    async def close(self, *, remove: bool) -> None:
        """Let go of everything that is no container's; with `remove`, leave nothing on the node."""
        self.launcher.close()
        self.kernel_log.close()
        await self.networks.close()
        self.layers.close()
        self.volumes.close()
        try:
            if remove:
                await self.lease.drop()
                await self.worker.run(self.ways.clear)
                for link in self.journal.load_uplinks():
                    set_forwarding(link, on=False)
                self._forward_no_more6()
                await self.firewall.close()
                await self.worker.run(self.links.close_bridge)
                await trio.to_thread.run_sync(self.groups.close)
                await self.layers.remove_all()
                await trio.to_thread.run_sync(remove_tree, self._state_dir)
        finally:
            self.lease.close()
            await self.worker.run(self.ways.close)
            await self.worker.run(self.links.close)
            await trio.to_thread.run_sync(self.worker.close)

    def _forward_no_more6(self) -> None:
        links = self.journal.load_uplinks6()
        for link in links:
            kernel_netns6.set_forwarding(link, on=False)
        if links:
            self.journal.save_uplinks6([])

    def uplinks(self) -> Elements:
        """What keeps packets that come in by links of the machine to our bridge.

        What passes between the ports of a link that is a bridge itself is not routed, and not ours
        to stop: where br_netfilter is loaded the filter sees that, too (set `bridged`).
        """
        links, links6 = self.journal.load_uplinks(), self.journal.load_uplinks6()
        found: Elements = {
            "uplinks": [(link,) for link in links],
            "bridged": [(link, link) for link in sorted({*links, *links6}) if is_bridge(link)],
        }
        if self.prefix6:
            found["uplinks6"] = [(link,) for link in links6]
        return found

    def keep_network(self, network: str) -> None:
        """The node's containers have these addresses from the next start on, too."""
        path = f"{self._state_dir}/{NETWORK_FILE}"
        Path(f"{path}.new").write_text(network)
        os.replace(f"{path}.new", path)

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


def usable_prefix(ipv6: str, prefix6: str) -> str:
    """The prefix of version 6, if containers have any here."""
    return "" if ipv6 == "off" or kernel_netns6.lacking() else prefix6


def _kept_network(state: str) -> str:
    """The network of the node's containers, if it is another one than that of its settings."""
    try:
        return Path(state, NETWORK_FILE).read_text().strip()
    except FileNotFoundError:
        return ""


def lock_directory(path: str) -> int:
    """One engine per state directory; the lock ends with the process."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    try:
        return locks.take(f"{path}/lock")
    except BlockingIOError:
        raise PlatformError(
            "conflict", f"another container controller uses {path}", hint="end it: paas down"
        ) from None
