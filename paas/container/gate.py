"""Opens the way between a container and the world, as far as its manifest says (`outside.py`).

    route out of its namespace ── filter: egress, masquerade ── links of this machine that forward
    port of this machine ── filter: published, entrances ──> its endpoint
    questions for names ──> the resolver at the bridge's address (`names.py`)

A container without `egress` and published endpoints has no route to anywhere; the resolver, which
is on its own link, answers it about names of the cluster only.
What is opened is taken away by the filter's `forget` when the container goes; the resolver and the
forwarding stay until the node is cleared, which is when `journal.load_uplinks` is put back.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio

from paas.base.errors import PlatformError
from paas.bundle.egress import Destination, has_names, parse_all
from paas.container.hooks.contract import Context
from paas.container.journal import Record
from paas.container.names import Names
from paas.container.outside import LINK_LOCAL, check_published, is_outside, outside_elements
from paas.container.parts import Parts
from paas.dns.client import ZoneLink
from paas.real import kernel_netns, kernel_netns6
from paas.real.kernel_tables import FORBIDDEN6
from paas.real.kernel_ways import set_forwarding


class Container(Protocol):
    context: Context


class Containers(Protocol):
    """What is asked of the engine."""

    @property
    def containers(self) -> Mapping[str, Container]: ...

    def ready(self) -> Parts: ...


@dataclass(frozen=True, slots=True)
class ClusterNames:
    """Implements `names.Cluster`."""

    zone: str
    names: ZoneLink
    component: Callable[[str], str]


class Gate:
    """See the module's text."""

    def __init__(self, engine: Containers) -> None:
        self._engine = engine
        self._serving = ""
        self._names: Names | None = None
        self._link: ZoneLink | None = None
        self._starting = trio.Lock()

    async def open(self, parts: Parts, record: Record, network_fd: int) -> None:
        """The way of a container that is being prepared; its record is not saved yet."""
        if not has_names(record.egress):
            with contextlib.suppress(PlatformError):  # it can do without names of the cluster
                await self._serve_names(parts)
        if not is_outside(record):
            return
        others = [r for r in self._records() if r.component != record.component]
        check_published(record.published, others)
        for name, port in record.published.items():
            _require_free(name, port, ipv6=bool(record.address6))
        await self._forward(parts)
        gateway = parts.addresses.gateway
        await parts.worker.run(kernel_netns.add_default_route, network_fd, gateway)
        if record.address6:
            twin = parts.addresses.twin(gateway)
            await parts.worker.run(kernel_netns6.add_default_route, network_fd, twin)
        if has_names(record.egress):
            await self._serve_names(parts)
        await parts.firewall.change(add=outside_elements([record]))

    async def resume(self, parts: Parts) -> None:
        """After a start: the filter is restored already, the resolver is not."""
        running = [r for r in self._records() if r.address]
        asking = [r.address for r in running if r.address and has_names(r.egress)]
        if asking:
            names = await self._serve_names(parts)
            parts.nursery.start_soon(_refresh, names, asking)
        elif running:
            with contextlib.suppress(PlatformError):
                await self._serve_names(parts)

    def _records(self) -> list[Record]:
        return [container.context.record for container in self._engine.containers.values()]

    async def _forward(self, parts: Parts) -> None:
        """Let packets from the world in by the machine's links, to the bridge only."""
        await forward_by(parts, await parts.worker.run(parts.ways.idle_links))
        if parts.prefix6:
            await _forward6(parts, await parts.worker.run(parts.ways.idle_links6))

    # -- names -----------------------------------------------------------------------------------

    async def _serve_names(self, parts: Parts) -> Names:
        async with self._starting:
            gateway = parts.addresses.gateway
            if self._names is not None and self._serving == gateway:
                return self._names
            names = Names(
                self._allowed,
                partial(_is_forbidden, parts),
                parts.firewall,
                other=partial(self._other, parts),
                cluster=self._cluster(parts),
            )
            try:
                await parts.nursery.start(names.serve, gateway)
            except OSError as exc:
                raise PlatformError(
                    "unsupported",
                    f"no names can be resolved for containers at {gateway}:53: {exc.strerror}",
                    hint="end what listens on port 53 of all addresses, or allow addresses only",
                ) from exc
            self._serving, self._names = gateway, names
            return names

    def _cluster(self, parts: Parts) -> ClusterNames | None:
        """The way to the cluster's own names, if there is one."""
        if not parts.names_socket:
            return None
        if self._link is None:
            self._link = ZoneLink(parts.names_socket)
            parts.nursery.start_soon(self._link.run)
        return ClusterNames(parts.zone, self._link, self._component)

    def _component(self, source: str) -> str:
        return next((r.component for r in self._records() if r.address == source), "")

    def stopped(self) -> None:
        """The engine has ended, and with it the resolver."""
        self._names = self._link = None

    async def _other(self, parts: Parts, source: str) -> str:
        """The address of version 6 of a container, if that leads to the world."""
        found = next((r.address6 for r in self._records() if r.address == source), "")
        leads = bool(found) and await parts.worker.run(parts.ways.has_world6)
        return found if leads else ""

    def _allowed(self, source: str) -> list[Destination] | None:
        for record in self._records():
            if record.address == source:
                return parse_all(record.egress)
        return None


def _is_forbidden(parts: Parts, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Of the cluster, this machine or the link: no name may lead there."""
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        kept6 = (*FORBIDDEN6, *filter(None, [parts.prefix6]))
        within = any(address in ipaddress.IPv6Network(network) for network in kept6)
        return within or _is_own(str(address))
    kept = (LINK_LOCAL, parts.reach, str(parts.addresses.network))
    if any(address in ipaddress.IPv4Network(network) for network in kept):
        return True
    return parts.firewall.has("neighbours", (str(address),)) or _is_own(str(address))


async def _refresh(names: Names, addresses: list[str]) -> None:
    for address in addresses:
        await names.refresh(address)


async def forward_by(parts: Parts, links: list[str]) -> None:
    """Let packets come in by these links of the machine, which did not forward any until now.

    It is by our doing, so the filter, first, keeps them to our bridge (set `uplinks`); the journal
    remembers them, and when the node is cleared they are put back.
    """
    if links:
        known = sorted({*parts.journal.load_uplinks(), *links})
        parts.journal.save_uplinks(known)
        await parts.firewall.change(add=parts.uplinks())
        for link in links:
            set_forwarding(link, on=True)


async def _forward6(parts: Parts, links: list[str]) -> None:
    """The same for version 6."""
    if links:
        known = sorted({*parts.journal.load_uplinks6(), *links})
        parts.journal.save_uplinks6(known)
        await parts.firewall.change(add=parts.uplinks())
        for link in links:
            kernel_netns6.set_forwarding(link, on=True)


def _require_free(name: str, port: int, *, ipv6: bool) -> None:
    """Raises `conflict` when a program of this machine listens on the port."""
    everywhere = [(socket.AF_INET, "0.0.0.0"), *([(socket.AF_INET6, "::")] if ipv6 else [])]
    for family, host, kind in (
        (*where, kind) for where in everywhere for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    ):
        with socket.socket(family, kind) as tried:
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                tried.bind((host, port))
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    continue
                raise PlatformError(
                    "conflict",
                    f"a program of this machine listens on port {port}",
                    hint=f"publish another one: [endpoints.{name}] publish = …",
                    port=port,
                ) from None


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind((address, 0))
        except OSError:
            return False
        return True
