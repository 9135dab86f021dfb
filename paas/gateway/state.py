"""What the cluster knows of routes: the section "gateway".  Command numbers: 690-692.

    RouteSet RouteRemoved ──apply──> routes        RoutesFollowed ──apply──> followers

Pure, deterministic, all of it in `snapshot`.  A **follower** is an incarnation of a component that
has asked to be told of routes; it counts for as long as this incarnation lives and is in the group
of a route.  From that the section answers, for a component that is to leave, which gateways have to
be waited for and how long (`departure`); the component controller asks while it applies the order.

Invariants
  - Every route is in canonical form (rules.py).
  - A follower's type says `gateway = true`, and its incarnation has not ended.
  - Members of a route that belongs to an application are of that application: who joins the group
    from outside gets no requests.

`revision` counts what may change who may call whom; it belongs to this replica only.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentEnded, ComponentForgotten
from paas.gateway import limits, rules
from paas.gateway.messages import Route
from paas.raft.command import command

_ENDED = (ComponentEnded, ComponentForgotten)

LIVE = frozenset({"available", "unavailable", "leaving"})
"""States of a gateway that may be sending."""


class Stamp(Protocol):
    """What the proposer drew for a command."""

    @property
    def time_ms(self) -> int: ...


class Context(Protocol):
    """What an apply function is given beside the command."""

    @property
    def stamp(self) -> Stamp: ...

    @property
    def sections(self) -> Mapping[str, Any]: ...

    def emit(self, event: Any, /) -> Any: ...


@command(690)
class RouteSet(msgspec.Struct, frozen=True, kw_only=True):
    """A route is like this from now on."""

    route: Route


@command(691)
class RouteRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """A route is no more.  `application`, if given, is whose it must be."""

    name: str
    application: str = ""


@command(692)
class RoutesFollowed(msgspec.Struct, frozen=True, kw_only=True):
    """This incarnation of a gateway is told of routes, and waited for from now on."""

    gateway: str
    incarnation: int


class RouteChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a route is another, new, or gone (`removed`)."""

    name: str
    removed: bool = False


class FollowersChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a gateway follows routes, or does so no more."""

    gateway: str
    follows: bool


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A route, and since when it is like this (milliseconds since the Unix epoch)."""

    route: Route
    since_ms: int


class GatewayState:
    """See the module's text."""

    name = "gateway"

    def __init__(self) -> None:
        self._routes: dict[str, Kept] = {}
        self._followers: dict[str, int] = {}  # gateway -> its incarnation
        self._by_group: dict[str, list[Route]] = {}
        self.revision = 0
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            RouteSet: self._set,
            RouteRemoved: self._remove,
            RoutesFollowed: self._follow,
        }

    # -- what others read ------------------------------------------------------------------------

    def route(self, name: str) -> Kept:
        """A known route; raises `no-such-target`."""
        kept = self._routes.get(name)
        if kept is None:
            close = difflib.get_close_matches(
                name[:128], self._routes, n=limits.ROUTE_SUGGESTIONS_MAX
            )
            raise PlatformError(
                "no-such-target",
                f"no route is called {name[:128]!r}",
                hint=f"did you mean {close[0]!r}?" if close else "list them: paas gateway routes",
                did_you_mean=close,
            )
        return kept

    def find(self, name: str) -> Route | None:
        kept = self._routes.get(name)
        return None if kept is None else kept.route

    def routes(self) -> Iterator[Kept]:
        """All, by name."""
        for name in sorted(self._routes):
            yield self._routes[name]

    def of_gateways(self, groups: frozenset[str]) -> list[Route]:
        """The routes of these groups of gateways, by name."""
        return [kept.route for kept in self.routes() if kept.route.gateway in groups]

    def to_group(self, group: str) -> list[Route]:
        """The routes that members of this group answer, by name."""
        return self._by_group.get(group, [])

    @property
    def followers(self) -> Mapping[str, int]:
        """Gateway to incarnation."""
        return self._followers

    def departure(self, component: str, sections: Mapping[str, Any]) -> tuple[list[str], float]:
        """The gateways that may be sending to a component, and the longest `drain_s` in seconds."""
        if not self._followers:
            return [], 0.0
        gateways: set[str] = set()
        drain_s = 0.0
        groups, controller = sections["groups"], sections["controller"]
        for group in groups.groups_of(component):
            for route in self.to_group(group):
                live = self._live(route, groups, controller) - {component}
                if live and self.admits(route, component, controller):
                    gateways |= live
                    drain_s = max(drain_s, route.drain_s)
        return sorted(gateways), drain_s

    def _live(self, route: Route, groups: Any, controller: Any) -> set[str]:
        """The followers that serve a route now."""
        found = set()
        for gateway in groups.members(route.gateway):
            instance = controller.instances.get(gateway)
            if (
                instance is not None
                and self._followers.get(gateway) == instance.incarnation
                and instance.state in LIVE
            ):
                found.add(gateway)
        return found

    @staticmethod
    def admits(route: Route, component: str, controller: Any) -> bool:
        """May this member of the route's group answer for it?"""
        if not route.application:
            return True
        instance = controller.instances.get(component)
        return instance is not None and application_of(controller, instance) == route.application

    # -- commands --------------------------------------------------------------------------------

    def _set(self, cmd: RouteSet, ctx: Context) -> dict[str, Any]:
        route = rules.check(cmd.route)
        known = self._routes.get(route.name)
        if known is not None and known.route == route:
            return {"changed": False}
        if known is not None and known.route.application != route.application:
            owner = known.route.application or "the operator"
            raise PlatformError(
                "conflict",
                f"the route {route.name} belongs to {owner}",
                hint="give this one another name, or remove that one: paas gateway remove",
                route=route.name,
            )
        if known is None and len(self._routes) >= limits.ROUTES_MAX:
            raise PlatformError("limit-exceeded", f"there are {limits.ROUTES_MAX} routes already")
        self._routes[route.name] = Kept(route=route, since_ms=ctx.stamp.time_ms)
        self._index()
        ctx.emit(RouteChanged(name=route.name))
        return {"changed": True}

    def _remove(self, cmd: RouteRemoved, ctx: Context) -> dict[str, Any]:
        known = self._routes.get(cmd.name)
        if known is None or (cmd.application and known.route.application != cmd.application):
            return {"changed": False}
        del self._routes[cmd.name]
        self._index()
        ctx.emit(RouteChanged(name=cmd.name, removed=True))
        return {"changed": True}

    def _follow(self, cmd: RoutesFollowed, ctx: Context) -> dict[str, Any]:
        controller = ctx.sections["controller"]
        instance = controller.instances.get(cmd.gateway)
        if instance is None or instance.is_over(cmd.incarnation):
            raise PlatformError("not-available", f"component {cmd.gateway[:8]} has ended")
        if not is_gateway(controller, instance):
            raise not_a_gateway(instance.type)
        if self._followers.get(cmd.gateway) != cmd.incarnation:
            if cmd.gateway not in self._followers and len(self._followers) >= limits.GATEWAYS_MAX:
                raise PlatformError("limit-exceeded", f"{limits.GATEWAYS_MAX} gateways follow")
            self._followers[cmd.gateway] = cmd.incarnation
            self.revision += 1
            ctx.emit(FollowersChanged(gateway=cmd.gateway, follows=True))
        return {}

    # -- reactions -------------------------------------------------------------------------------

    def react(self, event: Any, ctx: Context) -> None:
        """A gateway has ended; or memberships have changed, of which others remember answers."""
        kind = type(event).__name__
        if kind in ("MemberJoined", "MemberLeft"):
            self.revision += 1
        elif isinstance(event, _ENDED):
            known = self._followers.get(event.component, 0)
            over = event.incarnation if isinstance(event, ComponentEnded) else known
            if known and over >= known:
                del self._followers[event.component]
                self.revision += 1
                ctx.emit(FollowersChanged(gateway=event.component, follows=False))

    def _index(self) -> None:
        self.revision += 1
        self._by_group = {}
        for kept in self.routes():
            if kept.route.group:
                self._by_group.setdefault(kept.route.group, []).append(kept.route)

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """Plain values, in one order whatever the order of the commands."""
        return {
            "routes": [msgspec.to_builtins(kept) for kept in self.routes()],
            "followers": dict(sorted(self._followers.items())),
        }

    def restore(self, plain: Any) -> None:
        """Become what a snapshot says."""
        kept = [msgspec.convert(item, Kept) for item in plain["routes"]]
        self._routes = {item.route.name: item for item in kept}
        self._followers = msgspec.convert(plain["followers"], dict[str, int])
        self._index()


def is_gateway(controller: Any, instance: Any) -> bool:
    """Does the manifest of its type say `gateway = true`?"""
    types = controller.types
    declared: bool = types.manifest(types.resolve(instance.type)).component.gateway
    return declared


def application_of(controller: Any, instance: Any) -> str:
    """The application of its type."""
    types = controller.types
    name: str = types.manifest(types.resolve(instance.type)).component.application
    return name


def not_a_gateway(kind: str) -> PlatformError:
    return PlatformError(
        "denied",
        f"{kind} is no gateway",
        hint="an operator registers types of gateways; their manifests say: "
        "[component] gateway = true",
        type=kind,
    )
