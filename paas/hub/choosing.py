"""One member of a group for a message: the selectors at work, among those that can be reached.

    members, in joining order ──way()──> available and allowed ──selector──> one

`way(member)` is the router's: the route to a member that is available and that the caller may talk
to, else None.  `hash` asks for the ways it needs along its ring, and raises `RingUnfinished` while
there is none (ring_building.py); the others look at all members.
Whatever is asked of other hubs (loads, distances) is asked in passing and not waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from paas.base.errors import PlatformError
from paas.hub.consistent import Rings
from paas.hub.loads import Loads
from paas.hub.routes import Attachment, Far, Route
from paas.hub.selection import Selector, Turns

Way = Callable[[str], Route | None]


class DurableAttributes(Protocol):
    """Durable attributes, as the cluster state has them (the section `attributes`)."""

    def of(self, component: str) -> Mapping[str, bytes]:
        """Those of the component itself: name to packed, canonical value."""
        ...


class Chooser:
    """See the module's text.  `attributes` is None where there are none."""

    def __init__(self, loads: Loads, attributes: DurableAttributes | None = None) -> None:
        self._loads = loads
        self.attributes = attributes
        self.rings = Rings()
        self._turns: Mapping[str, Turns] = {
            word: Turns() for word in ("any", "nearest", "least-loaded", "attribute")
        }

    def one(self, group: str, selector: Selector, members: Sequence[str], way: Way) -> Route | None:
        """The way to the chosen member; None when none can be reached."""
        if selector.word == "hash":
            for member in self.rings.owners(group, members, selector.key):
                route = way(member)
                if route is not None:
                    return route
            return None
        if selector.word == "attribute":
            members = self.having(members, selector)
        routes = {m: route for m in members if (route := way(m)) is not None}
        if not routes:
            return None
        if selector.word == "nearest":
            routes = self._nearest(routes)
        elif selector.word == "least-loaded":
            routes = self._least_loaded(routes)
        return routes[self._turns[selector.word].any(group, list(routes))]

    def having(self, members: Sequence[str], selector: Selector) -> list[str]:
        """The members whose attribute has the selector's value."""
        if self.attributes is None:
            raise PlatformError("unsupported", "this hub keeps no attributes")
        of, name, value = self.attributes.of, selector.key, selector.value
        return [member for member in members if of(member).get(name) == value]

    def _nearest(self, routes: dict[str, Route]) -> dict[str, Route]:
        here: dict[str, Route] = {
            m: route for m, route in routes.items() if isinstance(route, Attachment)
        }
        if here:
            return here
        nodes = {route.node: route.peer for route in routes.values() if isinstance(route, Far)}
        if len(nodes) < 2:
            return routes
        for node, peer in nodes.items():
            self._loads.measure(node, peer)
        shortest_s = min(map(self._loads.distance_s, nodes))
        return {
            m: route
            for m, route in routes.items()
            if isinstance(route, Far) and self._loads.distance_s(route.node) == shortest_s
        }

    def _least_loaded(self, routes: dict[str, Route]) -> dict[str, Route]:
        far: dict[str, list[Far]] = {}
        waiting = {}
        for member, route in routes.items():
            if isinstance(route, Far):
                far.setdefault(route.node, []).append(route)
                waiting[member] = self._loads.of(member)
            elif isinstance(route, Attachment):
                waiting[member] = route.waiting
        for node, found in far.items():
            self._loads.ask(node, found[0].peer, (route.component for route in found))
        least = min(waiting.values())
        return {member: routes[member] for member, count in waiting.items() if count == least}

    def left(self, group: str, member: str) -> None:
        """It is no member any more."""
        for turns in self._turns.values():
            turns.left(group, member)

    def groups(self) -> set[str]:
        """The groups that something is remembered of."""
        return self.rings.groups().union(*(turns.groups() for turns in self._turns.values()))

    def forget(self, group: str) -> None:
        """The group has no members any more."""
        self.rings.forget(group)
        for turns in self._turns.values():
            turns.forget(group)
