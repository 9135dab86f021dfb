"""What a gateway was told: routes, members, and whom it may let go of.  Pure.

    table, changes ──> routes, members (one object for each route and incarnation)
    leaving, and nothing under way ──> may be acknowledged
    an incarnation that is over ──> `ended`, on every route; the data path cuts what waits for it

A `Member` stays the same object while its incarnation lives, as requests under way hold it.  One
whose route is gone, or that is gone itself, is kept until nothing is under way with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from paas.gateway.backends import Member
from paas.gateway.messages import Route, RouteMember, Table, TableChange
from paas.gateway.router import Router


class Incarnation(NamedTuple):
    """Of a component."""

    component: str
    number: int


class Book:
    """See the module's text.  Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self.router = Router()
        self._members: dict[str, dict[str, Member]] = {}
        self._lists: dict[str, list[Member]] = {}
        self._all: dict[str, dict[int, list[Member]]] = {}
        """By component and incarnation."""

    def members(self, route: Route) -> Sequence[Member]:
        """Those that serve or leave."""
        return self._lists.get(route.name, ())

    # -- what is told ----------------------------------------------------------------------------

    def replace(self, table: Table, now: float) -> None:
        """This is everything; what is not in it is gone."""
        told = {(m.route, m.component, m.incarnation) for m in table.members}
        for route, members in self._members.items():
            for member in list(members.values()):
                if (route, member.component, member.incarnation) not in told:
                    self._gone(route, member.component)
        self._route({route.name: route for route in table.routes})
        for member_now in table.members:
            self._put(member_now, now)
        self._list()

    def change(self, change: TableChange, now: float) -> None:
        """This is different from before."""
        if change.routes or change.removed:
            routes = {**self.router.routes, **{route.name: route for route in change.routes}}
            for name in change.removed:
                routes.pop(name, None)
            self._route(routes)
        for member in change.members:
            if member.state == "gone":
                known = self._members.get(member.route, {}).get(member.component)
                if known is not None and known.incarnation == member.incarnation:
                    self._gone(member.route, member.component)
            else:
                self._put(member, now)
        for over in change.ended:
            self._end(Incarnation(over.component, over.incarnation))
        self._list()

    def _route(self, routes: Mapping[str, Route]) -> None:
        for name in [name for name in self._members if name not in routes]:
            for component in list(self._members[name]):
                self._gone(name, component)
            del self._members[name]
        if dict(routes) != self.router.routes:
            self.router = Router(routes.values())

    def _put(self, told: RouteMember, now: float) -> None:
        members = self._members.setdefault(told.route, {})
        member = members.get(told.component)
        if member is not None and member.incarnation != told.incarnation:
            self._gone(told.route, told.component)
            member = None
        if member is None:
            member = Member(told.component, told.host, told.port, incarnation=told.incarnation)
            members[told.component] = member
            known = self._all.setdefault(told.component, {})
            known.setdefault(told.incarnation, []).append(member)
            for number in [number for number in known if number < told.incarnation]:
                self._end(Incarnation(told.component, number))
        member.host, member.port, member.node = told.host, told.port, told.node
        member.weight = told.weight
        if told.state == "leaving":
            until = now + told.drain_s
            member.drain_until = min(member.drain_until or until, until)
        else:
            member.drain_until = 0.0
        member.state = told.state

    def _gone(self, route: str, component: str) -> None:
        member = self._members[route].pop(component, None)
        if member is not None:
            member.state = "gone"
            self._forget(Incarnation(component, member.incarnation))

    def _end(self, incarnation: Incarnation) -> None:
        """It is over, on every route."""
        for route, members in self._members.items():
            member = members.get(incarnation.component)
            if member is not None and member.incarnation == incarnation.number:
                self._gone(route, incarnation.component)
        for member in self._known(incarnation):
            member.ended = True

    def _known(self, incarnation: Incarnation) -> Sequence[Member]:
        return self._all.get(incarnation.component, {}).get(incarnation.number, ())

    def _forget(self, incarnation: Incarnation) -> None:
        """What nobody leads to and nothing is under way with."""
        present = self._present(incarnation.component)
        kept = [m for m in self._known(incarnation) if m.in_flight or m in present]
        numbers = self._all.get(incarnation.component, {})
        if kept:
            numbers[incarnation.number] = kept
            return
        numbers.pop(incarnation.number, None)
        if not numbers:
            self._all.pop(incarnation.component, None)

    def _present(self, component: str) -> list[Member]:
        return [m for ms in self._members.values() if (m := ms.get(component)) is not None]

    def _list(self) -> None:
        self._lists = {route: list(members.values()) for route, members in self._members.items()}

    def table(self) -> list[RouteMember]:
        """The members that serve or leave, as they were told, for another data path."""
        return [
            RouteMember(
                route=route,
                component=member.component,
                incarnation=member.incarnation,
                node=member.node,
                host=member.host,
                port=member.port,
                state=member.state,
                weight=member.weight,
            )
            for route, members in self._lists.items()
            for member in members
        ]

    # -- departures ------------------------------------------------------------------------------

    def leaving(self) -> Iterable[Incarnation]:
        """Members that are told to leave, and are still told of."""
        found = {
            Incarnation(member.component, member.incarnation): None
            for members in self._lists.values()
            for member in members
            if member.state == "leaving"
        }
        return list(found)

    def is_idle(self, incarnation: Incarnation) -> bool:
        """Is nothing under way with it, on any route?"""
        return not any(member.in_flight for member in self._known(incarnation))

    def ended(self, member: Member) -> Incarnation | None:
        """Something that was under way is over; who may be let go of now, if anybody."""
        if member.state == "serving" or member.in_flight:
            return None
        incarnation = Incarnation(member.component, member.incarnation)
        if member.state == "gone":
            self._forget(incarnation)
            present = self._present(member.component)
            if not any(
                m.state == "leaving" for m in present if m.incarnation == member.incarnation
            ):
                return None  # on another route it may be leaving still
        return incarnation if self.is_idle(incarnation) else None
