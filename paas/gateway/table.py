"""Which members a route has now, by the cluster's state.  Pure.

    routes of the gateway's groups × members of each route's group ──> entries (route, component)
    entries now, entries told ──difference──> what a gateway is to be told

An entry is told as `serving` only when its path is open; as `leaving` in any case, since a gateway
that is waited for must hear of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from paas.gateway import limits, rules
from paas.gateway.messages import MemberState, Route, RouteMember, TableChange
from paas.gateway.state import GatewayState

STATES: Mapping[str, MemberState] = {"available": "serving", "leaving": "leaving"}
"""Life-cycle states of a component that a route leads to."""

Key = tuple[str, str]
"""Route and component."""


class Groups(Protocol):
    def members(self, group: str) -> list[str]: ...


class Attributes(Protocol):
    """Durable attributes: name to packed value."""

    def of(self, component: str) -> Mapping[str, bytes]: ...


class Surroundings(NamedTuple):
    """The sections of the cluster's state that tables are made of."""

    routes: GatewayState
    controller: Any
    groups: Groups
    attributes: Attributes


class Entry(NamedTuple):
    """One member of a route."""

    route: Route
    member: RouteMember


def entries(around: Surroundings, routes: Iterable[Route], now_ms: int) -> dict[Key, Entry]:
    """The members of these routes that serve or leave, without addresses."""
    found: dict[Key, Entry] = {}
    for route in routes:
        if route.kind == "static":
            continue
        for component in around.groups.members(route.group):
            instance = around.controller.instances.get(component)
            if instance is None or instance.state not in STATES:
                continue
            if not around.routes.admits(route, component, around.controller):
                continue
            if len(found) >= limits.FOLLOWED_MEMBERS_MAX:
                return found
            member = _member(around, route, instance, now_ms)
            found[route.name, component] = Entry(route, member)
    return found


def _member(around: Surroundings, route: Route, instance: Any, now_ms: int) -> RouteMember:
    state = STATES[instance.state]
    until_ms, rest_s = 0, 0.0
    if state == "leaving":
        departure = around.controller.departures.leaving.get(instance.id)
        if departure is not None:
            until_ms = min(departure.until_ms, departure.since_ms + int(route.drain_s * 1000))
            rest_s = min(max(until_ms - now_ms, 0) / 1000, route.drain_s)
    return RouteMember(
        route=route.name,
        component=instance.id,
        incarnation=instance.incarnation,
        node=instance.node,
        host="",
        port=0,
        state=state,
        weight=rules.weight(route, _value(around, route, instance)),
        drain_until=until_ms / 1000,
        drain_s=rest_s,
    )


def _value(around: Surroundings, route: Route, instance: Any) -> str:
    """What the route's weights are about, of this member, as text."""
    kind, _, version = str(instance.type).partition("@")
    if route.weight_by == "version":
        return version
    if route.weight_by == "type":
        return kind
    packed = around.attributes.of(instance.id).get(route.weight_by.partition(":")[2])
    if packed is None:
        return ""
    value = msgspec.msgpack.decode(packed)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def same(a: RouteMember, b: RouteMember) -> bool:
    """Would a gateway do the same with both?  How long it still has is told once."""
    return msgspec.structs.replace(a, drain_s=0.0) == msgspec.structs.replace(b, drain_s=0.0)


def difference(
    told_routes: Mapping[str, Route],
    told: Mapping[Key, RouteMember],
    routes: Mapping[str, Route],
    members: Mapping[Key, RouteMember],
) -> TableChange | None:
    """What is to be told to who knows the first two, that the others hold; None: nothing."""
    changed = [route for name, route in routes.items() if told_routes.get(name) != route]
    removed = [name for name in told_routes if name not in routes]
    news = [m for key, m in members.items() if key not in told or not same(told[key], m)]
    gone = [
        msgspec.structs.replace(m, state="gone")
        for key, m in told.items()
        if key not in members and key[0] in routes
    ]
    if not (changed or removed or news or gone):
        return None
    return TableChange(routes=changed, removed=removed, members=gone + news)
