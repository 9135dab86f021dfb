"""Names and numbers of what is in HAProxy: a backend for each route, a server for each incarnation.

They are the same whenever they are made, in every worker and on every gateway, so that a server can
be found again after a new configuration, and consistent hashing stays as it was.
"""

from __future__ import annotations

import hashlib
import re

from paas.gateway.messages import Route, RouteMember

EDGE = "edge"
_PLAIN = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_ID_MAX = (1 << 31) - 1


def backend_name(route: Route) -> str:
    """The prefix keeps routes apart from our own backends."""
    return f"r.{route.name}"


def server_name(component: str, incarnation: int) -> str:
    """`component_incarnation`; components with other characters by their hash."""
    if not _PLAIN.match(component):
        component = hashlib.sha256(component.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"{component}_{int(incarnation)}"


def server_of(member: RouteMember) -> str:
    return server_name(member.component, member.incarnation)


def server_id(name: str, taken: set[int]) -> int:
    """A number for consistent hashing; the next free one if it is taken."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) & _ID_MAX
    while not number or number in taken:
        number = number % _ID_MAX + 1
    taken.add(number)
    return number


def cookie_name(route: Route) -> str:
    """Of the route's stickiness."""
    return "paas-server-" + hashlib.sha256(route.name.encode()).hexdigest()[:8]
