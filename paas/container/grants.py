"""Paths of containers: which are open, kept across restarts, closed with either end.

A grant names components; the packet filter knows addresses (those of version 6 go with those of
version 4).  What is granted is in the journal, so that a controller that starts anew restores the
filter as it was, less what has gone meanwhile.

A path to or from another node (`FarPath`) is here with its one end that is on this node.  The
address of the other end was checked by who asked, and is in the network of the node it is said to
be on (`between.py`).  A path of an earlier life of its component is never opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from paas.base.errors import PlatformError, invalid
from paas.container.hooks.contract import Context
from paas.container.messages import Grant
from paas.container.outside import outside_elements
from paas.container.parts import Parts
from paas.network.messages import FarPath

Rule = tuple[str, str, str, int]
"""(source, target, protocol, port), as the packet filter wants it."""


class Granted(Protocol):
    """A container, as far as its grants are concerned."""

    context: Context


class Containers(Protocol):
    """What is asked of the engine."""

    @property
    def containers(self) -> Mapping[str, Granted]: ...

    def ready(self) -> Parts: ...

    def find(self, component: str) -> Granted: ...


class Grants:
    """The open paths of one node."""

    def __init__(self, engine: Containers) -> None:
        self._engine = engine
        self._grants: set[Grant] = set()
        self._far: set[FarPath] = set()

    @property
    def far(self) -> list[FarPath]:
        """The paths to and from other nodes."""
        return sorted(self._far)

    async def grant(self, source: str, target: str, port: int, protocol: str = "tcp") -> None:
        """Let `source` open connections to `port` of `target`; repeating it changes nothing."""
        parts, grant = self._engine.ready(), _grant(source, target, port, protocol)
        for component in (source, target):
            self._engine.find(component)
        if not self._addresses_of(grant):
            raise PlatformError("not-available", "both containers must be running")
        await parts.firewall.grant(self._rule(grant))
        self._grants.add(grant)
        parts.journal.save_grants(self._grants)

    async def revoke(self, source: str, target: str, port: int, protocol: str = "tcp") -> None:
        """Close the path, for connections that exist too; repeating it changes nothing."""
        parts, grant = self._engine.ready(), _grant(source, target, port, protocol)
        if grant in self._grants:
            await parts.firewall.revoke(self._rule(grant))
            self._grants.discard(grant)
            parts.journal.save_grants(self._grants)

    async def admit(self, path: FarPath) -> str:
        """Open this node's end of a path; the address of the component here."""
        parts = self._engine.ready()
        record = self._engine.find(path.component).context.record
        address = record.address
        if record.incarnation != path.incarnation:
            raise PlatformError("conflict", f"{path.component[:8]} has begun anew meanwhile")
        if address is None or record.phase != "running":
            raise PlatformError("not-available", "the container must be running")
        if path.end == "target" and path.port not in {p for _, p in record.endpoints.values()}:
            raise invalid("port", "one of the component's endpoints")
        # Before the filter: what is open and not in the journal nobody would ever close.
        self._far.add(path)
        parts.journal.save_far(self._far)
        await parts.firewall.grant(_far_rule(path, address))
        return address

    async def shut(self, paths: Iterable[FarPath]) -> None:
        """Close this node's end of these; one that is not open is no error."""
        parts, gone = self._engine.ready(), self._far & set(paths)
        await self._close_far(parts, gone)

    async def _close_far(self, parts: Parts, gone: set[FarPath]) -> None:
        if gone:
            left = {self._rule_of(path) for path in self._far - gone}
            rules = {self._rule_of(path) for path in gone} - left
            await parts.firewall.revoke(*(rule for rule in rules if rule is not None))
            self._far -= gone
            parts.journal.save_far(self._far)

    async def restore(self, parts: Parts) -> None:
        """After a start: the filter says exactly what the journal and the containers say."""
        self._grants = {g for g in parts.journal.load_grants() if self._addresses_of(g)}
        self._far = {p for p in parts.journal.load_far() if self._rule_of(p) is not None}
        records = [c.context.record for c in self._engine.containers.values()]
        sources = [(r.link, r.address) for r in records if r.link and r.address]
        grants = [self._rule(g) for g in self._grants]
        far = [rule for p in self._far if (rule := self._rule_of(p)) is not None]
        outside = outside_elements(records)
        if not parts.prefix6:
            outside = {name: listed for name, listed in outside.items() if name[-1] != "6"}
        await parts.firewall.open(
            {
                "grants": grants + far,
                "sources": sources,
                "resolvers": [(parts.addresses.gateway,)],
                **parts.uplinks(),
                **outside,
            }
        )

    async def forget(self, parts: Parts, component: str) -> None:
        """Close every path that begins or ends at this component."""
        gone = {g for g in self._grants if component in (g.source, g.target)}
        if gone:
            await parts.firewall.revoke(*(self._rule(g) for g in gone if self._addresses_of(g)))
            self._grants -= gone
            parts.journal.save_grants(self._grants)
        await self._close_far(parts, {p for p in self._far if p.component == component})

    def _addresses_of(self, grant: Grant) -> tuple[str, str] | None:
        found = []
        for component in (grant.source, grant.target):
            container = self._engine.containers.get(component)
            if container is None or container.context.record.address is None:
                return None
            found.append(container.context.record.address)
        return found[0], found[1]

    def _rule(self, grant: Grant) -> Rule:
        addresses = self._addresses_of(grant)
        if addresses is None:
            raise AssertionError("a grant is between containers that have addresses")
        return (*addresses, grant.protocol, grant.port)

    def _rule_of(self, path: FarPath) -> Rule | None:
        """None when the component here has no address any more, or is another life of it."""
        container = self._engine.containers.get(path.component)
        record = None if container is None else container.context.record
        if record is None or record.address is None or record.incarnation != path.incarnation:
            return None
        return _far_rule(path, record.address)


def _far_rule(path: FarPath, address: str) -> Rule:
    ends = (address, path.peer_address)
    source, target = ends if path.end == "source" else ends[::-1]
    return source, target, path.protocol, path.port


def _grant(source: str, target: str, port: int, protocol: str) -> Grant:
    if not 0 < port < 1 << 16:
        raise invalid("port", "between 1 and 65535")
    if protocol == "tcp":
        return Grant(source=source, target=target, port=port, protocol="tcp")
    if protocol == "udp":
        return Grant(source=source, target=target, port=port, protocol="udp")
    raise invalid("protocol", "tcp or udp")
