"""Requests about names: who may publish what, and lists of it.

A component publishes below its application, in the incarnation that it lives; an operator wherever
no name follows from the cluster state.  Pure but for proposing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.dns import limits, messages, names, records
from paas.dns.cluster import AGENT, APP, COMPONENT, GROUP, NODE
from paas.dns.names import Labels, below
from paas.dns.state import DnsState, PublishRecord, WithdrawRecords
from paas.dns.zone import Zone
from paas.rpc.dispatch import Context, Dispatcher

_DERIVED = (COMPONENT, GROUP, NODE, AGENT)


class Log(Protocol):
    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...


class Publishers(Protocol):
    """Who components are."""

    def application_of(self, component: str, /) -> str:
        """Empty for one that does not exist."""
        ...

    def incarnation_of(self, component: str, /) -> int: ...


class DnsApi:
    """Handlers of `dns.*`."""

    def __init__(
        self,
        *,
        origin: Labels,
        state: DnsState,
        zone: Zone,
        log: Log,
        publishers: Publishers,
        status: Callable[[], messages.Status],
    ) -> None:
        self._origin = origin
        self._state = state
        self._zone = zone
        self._log = log
        self._publishers = publishers
        self._status = status

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(messages.PUBLISH, self._publish)
        dispatcher.task(messages.WITHDRAW, self._withdraw)
        dispatcher.plain(messages.LIST, self._list)
        dispatcher.plain(messages.STATUS, lambda _params, _context: self._status())

    async def _publish(self, params: messages.Publish, context: Context) -> messages.Published:
        owner = str(context.peer.info.get("component", ""))
        labels = self._allowed(params.name, owner)
        kind = params.kind.upper()
        data = records.from_text(kind, params.data, self._origin)
        if not limits.TTL_PUBLISHED_S_MIN <= params.ttl <= limits.TTL_PUBLISHED_S_MAX:
            raise invalid(
                "ttl",
                f"{limits.TTL_PUBLISHED_S_MIN} to {limits.TTL_PUBLISHED_S_MAX} seconds",
            )
        if not labels and kind == "CNAME":
            raise invalid("kind", "not CNAME at the zone itself, which has an SOA")
        command = PublishRecord(
            name=_written(labels),
            kind=records.KINDS[kind],
            data=data,
            ttl_s=params.ttl,
            owner=owner,
            incarnation=self._publishers.incarnation_of(owner) if owner else 0,
        )
        done = await self._log.propose(command, timeout_s=context.timeout_s)
        return messages.Published(name=names.text(labels + self._origin), serial=done["serial"])

    async def _withdraw(self, params: messages.Withdraw, context: Context) -> messages.Withdrawn:
        owner = str(context.peer.info.get("component", ""))
        labels = self._allowed(params.name, owner)
        kind = params.kind.upper()
        if kind and kind not in records.PUBLISHABLE:
            raise invalid("kind", f"one of {', '.join(records.PUBLISHABLE)}")
        if params.data and not kind:
            raise invalid("data", "nothing without a kind")
        data = records.from_text(kind, params.data, self._origin) if params.data else b""
        command = WithdrawRecords(
            name=_written(labels),
            kind=records.KINDS[kind] if kind else 0,
            data=data,
            owner=owner,
        )
        done = await self._log.propose(command, timeout_s=context.timeout_s)
        if not done["count"]:
            shown = names.text(labels + self._origin)
            raise PlatformError(
                "no-such-target",
                f"nothing like this was published at {shown}",
                hint="list what was: paas dns list",
            )
        return messages.Withdrawn(count=done["count"], serial=done["serial"])

    def _allowed(self, name: str, owner: str) -> Labels:
        """The name within the zone; raises `invalid` or `denied`."""
        labels = self._relative(name)
        if owner:
            application = self._publishers.application_of(owner)
            if len(labels) < 3 or labels[-1] != APP or labels[-2].decode() != application:
                raise PlatformError(
                    "denied",
                    f"name: a component of {application or 'no application'} publishes below"
                    f" {application}.app only, not {name!r}",
                    hint=f"for example: www.{application}.app",
                    field="name",
                )
        elif labels and labels[-1] in _DERIVED:
            raise PlatformError(
                "denied",
                f"name: what is below {labels[-1].decode()} follows from the cluster's state",
                hint="publish below an application (www.shop.app), or any other name",
                field="name",
            )
        return labels

    def _relative(self, name: str) -> Labels:
        if name in ("", "@"):
            return ()
        labels = names.parse(name)
        within = below(labels, self._origin)
        if within is not None:
            return within
        if name.endswith("."):
            zone = names.text(self._origin)
            raise invalid("name", f"a name within {zone}, or one without a dot at its end")
        if len(names.wire(labels + self._origin)) > limits.NAME_BYTES_MAX:
            raise invalid("name", "253 characters at most, with the zone")
        return labels

    # -- looking ---------------------------------------------------------------------------------

    def _list(self, params: messages.ListRecords, _context: Context) -> messages.Records:
        end = self._relative(params.below) if params.below else ()
        limit = min(max(params.limit, 1), 10 * limits.PUBLISHED_MAX)
        source = self._whole() if params.all else self._published()
        found: list[messages.Record] = []
        more = False
        for labels, record in source:
            if end and below(labels, end) is None:
                continue
            if len(found) == limit:
                more = True
                break
            found.append(record)
        found.sort(key=lambda r: (r.name.split(".")[::-1], r.kind, r.data))
        zone = names.text(self._origin)
        return messages.Records(zone=zone, serial=self._zone.serial, records=found, more=more)

    def _published(self) -> Any:
        for name in self._state.names():
            labels = tuple(name.encode().split(b".")) if name else ()
            for entry in self._state.entries(name):
                yield labels, self._record(labels, entry.kind, entry.data, entry.ttl_s, entry.owner)

    def _whole(self) -> Any:
        for labels in self._zone.names():
            for kind, found in (self._zone.find(labels) or {}).items():
                for data in found.all:
                    yield labels, self._record(labels, kind, data, found.ttl_s, "")

    def _record(
        self, labels: Labels, kind: int, data: bytes, ttl_s: int, owner: str
    ) -> messages.Record:
        return messages.Record(
            name=names.text(labels + self._origin),
            kind=records.kind_name(kind),
            data=records.to_text(kind, data),
            ttl=ttl_s,
            owner=owner,
        )


def _written(labels: Labels) -> str:
    return b".".join(labels).decode()
