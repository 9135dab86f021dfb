"""Paths between containers: which are open, kept across restarts, closed with either end.

A grant names components; the packet filter knows addresses.  What is granted is in the journal, so
that a controller that starts anew restores the filter as it was, less what has gone meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from paas.base.errors import PlatformError, invalid
from paas.container.hooks.contract import Context
from paas.container.messages import Grant
from paas.container.parts import Parts


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

    async def restore(self, parts: Parts) -> None:
        """After a start: the filter says exactly what the journal and the containers say."""
        self._grants = {g for g in parts.journal.load_grants() if self._addresses_of(g)}
        records = [c.context.record for c in self._engine.containers.values()]
        sources = [(r.link, r.address) for r in records if r.link and r.address]
        grants = [self._rule(g) for g in self._grants]
        await parts.firewall.open(grants, sources)

    async def forget(self, parts: Parts, component: str) -> None:
        """Close every path that begins or ends at this component."""
        gone = {g for g in self._grants if component in (g.source, g.target)}
        if gone:
            await parts.firewall.revoke(*(self._rule(g) for g in gone if self._addresses_of(g)))
            self._grants -= gone
            parts.journal.save_grants(self._grants)

    def _addresses_of(self, grant: Grant) -> tuple[str, str] | None:
        found = []
        for component in (grant.source, grant.target):
            container = self._engine.containers.get(component)
            if container is None or container.context.record.address is None:
                return None
            found.append(container.context.record.address)
        return found[0], found[1]

    def _rule(self, grant: Grant) -> tuple[str, str, str, int]:
        addresses = self._addresses_of(grant)
        if addresses is None:
            raise AssertionError("a grant is between containers that have addresses")
        return (*addresses, grant.protocol, grant.port)


def _grant(source: str, target: str, port: int, protocol: str) -> Grant:
    if not 0 < port < 1 << 16:
        raise invalid("port", "between 1 and 65535")
    if protocol == "tcp":
        return Grant(source=source, target=target, port=port, protocol="tcp")
    if protocol == "udp":
        return Grant(source=source, target=target, port=port, protocol="udp")
    raise invalid("protocol", "tcp or udp")
