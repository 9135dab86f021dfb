"""Which route a request takes: exact host before wildcard before any, then the longest path.

    host `a.example.org`, path `/shop/cart`:
      routes of `a.example.org` by path, longest first; then of `*.example.org`, `*.org`; then of ""
      a path is a prefix that ends at a segment: `/shop` is `/shop`, `/shop/cart`, not `/shopping`

A host is looked up once; what matches it is kept, longest path first, so that a request costs one
look into a table and a few comparisons.  Hosts come from outside, so what is kept is bounded.

A path is compared in its normal form: percent-encoded letters, digits and `-._~` are what they
encode (RFC 3986 §6.2.2.2), else `/%61dmin` would pass by the route of `/admin`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from paas.gateway.messages import Route

HOSTS_REMEMBERED_MAX = 4_096

_UNRESERVED = re.compile(r"%(2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")


def normal(path: str) -> str:
    """The path with unreserved characters plain."""
    if "%" not in path:
        return path
    return _UNRESERVED.sub(lambda m: chr(int(m[1], 16)), path)


class Router:
    """A table of routes; immutable, a change is a new one."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.routes = {route.name: route for route in routes}
        by_host: dict[str, list[Route]] = {}
        for route in sorted(self.routes.values(), key=_longest_first):
            by_host.setdefault(route.host.lower().rstrip("."), []).append(route)
        self._by_host = by_host
        self._known: dict[str, list[tuple[str, str, Route]]] = {}

    def match(self, host: str, path: str) -> Route | None:
        """The route of a request; `host` is lower-case and without port."""
        known = self._known.get(host)
        if known is None:
            known = self._look_up(host)
        path = normal(path)
        for exact, below, route in known:
            if path == exact or path.startswith(below):
                return route
        return None

    def knows(self, host: str) -> bool:
        """Does any route name this host, or all hosts?"""
        return bool(self._known.get(host) or self._look_up(host))

    def _look_up(self, host: str) -> list[tuple[str, str, Route]]:
        hosts = [host] if host else []
        rest = host
        while "." in rest:
            rest = rest.partition(".")[2]
            hosts.append(f"*.{rest}")
        routes = [route for name in [*hosts, ""] for route in self._by_host.get(name, ())]
        found = [(p, p if p.endswith("/") else p + "/", r) for r in routes for p in [_prefix(r)]]
        if len(self._known) >= HOSTS_REMEMBERED_MAX:
            self._known.clear()
        self._known[host] = found
        return found


def _prefix(route: Route) -> str:
    path = normal(route.path)
    return path.rstrip("/") or "/"


def _longest_first(route: Route) -> tuple[int, str]:
    return (-len(_prefix(route)), route.name)


def member_target(route: Route, path: str, query: str) -> str:
    """What the member is asked for: without the route's path, if that is stripped."""
    if route.strip_prefix:
        prefix = _prefix(route)
        if prefix != "/":
            cut = _cut(path, prefix)
            path = cut if cut.startswith("/") else "/" + cut
    return f"{path}?{query}" if query else path


def _cut(path: str, prefix: str) -> str:
    """`path` without as many characters as `prefix` has in normal form."""
    if path.startswith(prefix):
        return path[len(prefix) :]
    at = 0
    for _ in prefix:
        at += 3 if path[at] == "%" and _UNRESERVED.match(path, at) else 1
    return path[at:]
