"""What one gateway was told, and what it is to be told next.  Pure.

    look ──> missing: paths that have to be opened first        (the agent opens them: `opened`)
         └─> change:  the difference to what was told, which is told then

A path is of a member's incarnation and endpoint; it stays open while the component lives, so it is
remembered while some route wants it.

Who was told of once is remembered until its incarnation is over, which is told too, whatever became
of its routes meanwhile: a gateway may be waiting for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from paas.gateway.messages import EndedMember, Route, RouteMember, Table, TableChange
from paas.gateway.table import Entry, Key, Surroundings, difference, entries


class Members(Protocol):
    def groups_of(self, component: str) -> list[str]: ...


class Path(NamedTuple):
    """A way to one endpoint of one incarnation of a member."""

    component: str
    incarnation: int
    endpoint: str


class Follower:
    """See the module's text."""

    def __init__(self, component: str, around: Surroundings, groups: Members) -> None:
        self.component = component
        self.told = False
        """Was the table answered, so that changes may follow?"""
        self._around = around
        self._groups = groups
        self._routes: dict[str, Route] = {}
        self._members: dict[Key, RouteMember] = {}
        self._living: dict[tuple[str, int], None] = {}
        """Component and incarnation of everybody that was told of, and is not over."""
        self._open: dict[Path, dict[str, Any]] = {}
        self.opening: set[Path] = set()

    def look(self, now_ms: int) -> tuple[TableChange | None, dict[Path, Route]]:
        """What is to be told now, which counts as told; and the paths that are to be opened."""
        groups = frozenset(self._groups.groups_of(self.component))
        routes = {route.name: route for route in self._around.routes.of_gateways(groups)}
        wanted = entries(self._around, routes.values(), now_ms)
        missing: dict[Path, Route] = {}
        members: dict[Key, RouteMember] = {}
        needed: dict[Path, dict[str, Any]] = {}
        for key, entry in wanted.items():
            path = _path(entry)
            if path is None:
                members[key] = entry.member
            elif path in self._open:
                needed[path] = self._open[path]
                members[key] = _addressed(entry.member, self._open[path])
            elif entry.member.state == "leaving":
                members[key] = entry.member
            elif path not in self.opening:
                missing[path] = entry.route
        self._open = needed
        change = difference(self._routes, self._members, routes, members)
        self._routes, self._members = routes, members
        if ended := self._ended():
            change = msgspec.structs.replace(change or TableChange(), ended=ended)
        self._living.update(dict.fromkeys((m.component, m.incarnation) for m in members.values()))
        return change, missing

    def _ended(self) -> list[EndedMember]:
        """Those that were told of before, and are over now."""
        instances = self._around.controller.instances
        found = []
        for component, incarnation in list(self._living):
            instance = instances.get(component)
            if instance is None or instance.is_over(incarnation):
                del self._living[component, incarnation]
                found.append(EndedMember(component=component, incarnation=incarnation))
        return found

    def opened(self, path: Path, endpoint: Mapping[str, Any]) -> None:
        """The path is open; the next look tells of the member."""
        self.opening.discard(path)
        self._open[path] = dict(endpoint)

    def table(self) -> Table:
        """Everything that counts as told."""
        return Table(routes=list(self._routes.values()), members=list(self._members.values()))


def _path(entry: Entry) -> Path | None:
    """None for what is reached through the hub."""
    if entry.route.kind != "endpoint":
        return None
    member = entry.member
    return Path(member.component, member.incarnation, entry.route.endpoint)


def _addressed(member: RouteMember, endpoint: Mapping[str, Any]) -> RouteMember:
    return msgspec.structs.replace(member, host=endpoint["host"], port=endpoint["port"])
