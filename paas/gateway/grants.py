"""Who may call whom because of a route.  Pure; asked for calls that no manifest allows.

    gateway of the route ──operations of the route──> member of the route's group
    member, or any component of the route's application ──gateway.send──> gateway of the route

An answer is remembered until a route, a follower or a membership changes (`revision`): it is asked
on the way of every request, of pairs that are few.
"""

from __future__ import annotations

from typing import Any, Protocol

from paas.gateway import limits, rules
from paas.gateway.messages import SEND_OPERATION, Route
from paas.gateway.state import GatewayState, application_of, is_gateway


class Groups(Protocol):
    """Who is in a group."""

    def is_in_one_of(self, groups: frozenset[str], component: str) -> bool: ...


class RouteGrants:
    """Implements `hub.authorisation.Grants` over the cluster's state."""

    def __init__(self, routes: GatewayState, controller: Any, groups: Groups) -> None:
        self._routes = routes
        self._controller = controller
        self._groups = groups
        self._revision = -1
        self._known: dict[tuple[str, str, str], bool] = {}

    def granted(self, caller: str, target: str, operation: str) -> bool:
        """May the one call this operation of the other, by some route?"""
        if self._revision != self._routes.revision:
            self._revision = self._routes.revision
            self._known.clear()
        key = (caller, target, operation)
        answer = self._known.get(key)
        if answer is None:
            if len(self._known) >= limits.GRANTS_KEPT_MAX:
                self._known.clear()
            answer = self._known[key] = self._judge(caller, target, operation)
        return answer

    def _judge(self, caller: str, target: str, operation: str) -> bool:
        if operation == SEND_OPERATION:
            return self._may_push(caller, target)
        if not self._is_gateway(caller):
            return False
        return any(
            operation in rules.operations(kept.route)
            and self._in(kept.route.gateway, caller)
            and self._in(kept.route.group, target)
            and self._routes.admits(kept.route, target, self._controller)
            for kept in self._routes.routes()
        )

    def _may_push(self, caller: str, gateway: str) -> bool:
        if not self._is_gateway(gateway):
            return False
        return any(
            self._in(kept.route.gateway, gateway) and self._belongs(kept.route, caller)
            for kept in self._routes.routes()
            if kept.route.kind == "operation"
        )

    def _belongs(self, route: Route, component: str) -> bool:
        instance = self._controller.instances.get(component)
        if instance is None:
            return False
        if route.application:
            return application_of(self._controller, instance) == route.application
        return self._in(route.group, component)

    def _in(self, group: str, component: str) -> bool:
        return self._groups.is_in_one_of(frozenset({group}), component)

    def _is_gateway(self, component: str) -> bool:
        instance = self._controller.instances.get(component)
        return instance is not None and is_gateway(self._controller, instance)
