"""One watch of groups, components, attributes or signals: what it wants, and what it was told.

    kind          key                          told of
    group         name of the group            joined, left, changed
    components    (empty)                      changed
    attributes    component, or group:<name>   changed; of a group also joined, left
    signals       component, or group:<name>   signal, gap

What comes from the log is told once: `since` is the index up to which everything was told or shown,
`skip` how many of the later events the watcher has seen before it came here.  Pure: matching and
the making of events; sending is watching.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from paas.controller.messages import ComponentChanged
from paas.harness.messages import Event
from paas.hub.attribute_messages import NULL
from paas.hub.attributes import AttributesChanged
from paas.hub.history import Record
from paas.hub.interest import Key
from paas.hub.messages import Member
from paas.hub.state import MemberJoined, MemberLeft
from paas.rpc.peer import Peer

GROUP = "group"
COMPONENTS = "components"
ATTRIBUTES = "attributes"
SIGNALS = "signals"
OF_LOG = (GROUP, COMPONENTS, ATTRIBUTES)

GROUP_PREFIX = "group:"
NOT_YET = 1 << 62


@dataclass(slots=True, eq=False)
class Sight:
    """See the module's text."""

    kind: str
    key: str
    peer: Peer
    number: int = 0
    since: int = 0
    skip: int = 0
    object: str = ""
    names: tuple[str, ...] | None = None
    only: str = ""
    """`durable` or `volatile`: these attributes only."""
    signal: str = ""
    interest: Key | None = None
    volatile: bool = False
    """It was shown volatile attributes, which no log has."""
    gathering: Any = None
    """While its snapshot is put together (gathering.py): it is told nothing then."""
    again: bool = False
    """What is put together is out of date already: once more, when it is done."""
    lagging: bool = False
    dropped: int = 0
    broken: list[str] = field(default_factory=list)
    """Nodes with sources of what it wants, to which the link was lost."""

    @property
    def group(self) -> str:
        """The group that it is about, or empty."""
        if self.kind == GROUP:
            return self.key
        return self.key[len(GROUP_PREFIX) :] if self.key.startswith(GROUP_PREFIX) else ""

    def wanted(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the names that it wants."""
        if self.names is None:
            return dict(attributes)
        return {name: attributes[name] for name in self.names if name in attributes}


def raw(attributes: Mapping[str, bytes | None]) -> dict[str, msgspec.Raw]:
    """Packed values as they go into messages."""
    return {n: NULL if v is None else msgspec.Raw(v) for n, v in attributes.items()}


def packed(attributes: Mapping[str, msgspec.Raw]) -> dict[str, bytes | None]:
    """And back."""
    return {n: None if bytes(v) == b"\xc0" else bytes(v) for n, v in attributes.items()}


def volatile_event(sight: Sight, component: str, name: str, changed: Mapping[str, Any]) -> Event:
    """Volatile attributes have other values now."""
    return Event(
        watch=sight.number,
        index=0,
        event="changed",
        component=component,
        name=name,
        group=sight.group,
        object=sight.object,
        kind="volatile",
        attributes=raw(changed),
    )


class Events:
    """Events of the log as a sight sees them."""

    def __init__(
        self,
        member: Callable[[str], Member],
        attributes: Callable[[str, str], Mapping[str, bytes]],
    ) -> None:
        self._member = member
        self._attributes = attributes

    def of(self, sight: Sight, record: Record) -> Event | None:
        """The event, its watch left open; None when it is not about what the sight wants."""
        event = record.event
        if sight.kind == ATTRIBUTES:
            return self._of_attributes(sight, record)
        if isinstance(event, ComponentChanged):
            return Event(
                watch=0,
                index=record.index,
                event="changed",
                group=sight.group,
                component=event.component,
                name=self._member(event.component).name,
                state=event.state,
                previous=event.previous,
                reason=event.reason,
                time=event.time_ms / 1000,
            )
        if isinstance(event, MemberJoined | MemberLeft):
            return self._membership(event, record.index)
        return None

    def _membership(self, event: MemberJoined | MemberLeft, index: int) -> Event:
        member = self._member(event.component)
        return Event(
            watch=0,
            index=index,
            event="joined" if isinstance(event, MemberJoined) else "left",
            group=event.group,
            component=event.component,
            name=member.name,
            state=member.state,
        )

    def _of_attributes(self, sight: Sight, record: Record) -> Event | None:
        event = record.event
        if isinstance(event, AttributesChanged):
            if event.object != sight.object or sight.only == "volatile":
                return None
            changed = sight.wanted(event.attributes)
            if not changed:
                return None
            return Event(
                watch=0,
                index=record.index,
                event="changed",
                group=sight.group,
                component=event.component,
                name=self._member(event.component).name,
                object=sight.object,
                kind="durable",
                attributes=raw(changed),
            )
        if isinstance(event, MemberJoined | MemberLeft):
            said = self._membership(event, record.index)
            if isinstance(event, MemberLeft) or sight.only == "volatile":
                return said
            held = sight.wanted(self._attributes(event.component, sight.object))
            return msgspec.structs.replace(said, object=sight.object, attributes=raw(held))
        return None


def merged(values: Iterable[Mapping[str, bytes]], sight: Sight) -> dict[str, msgspec.Raw]:
    """Attributes of one component, later kinds over earlier ones, as a sight is shown them."""
    shown: dict[str, bytes] = {}
    for attributes in values:
        shown.update(sight.wanted(attributes))
    return raw(shown)
