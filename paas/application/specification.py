"""What an application is wanted to be: roles, routes, requirements.  Plain data, and their order.

    application.toml ──reading.py──> Specification <──reading.py── plain values of a request
                                          │
                      members' names, groups, digests, order of birth

Invariants of a Specification that `reading` has let pass
  - roles depend on roles that exist, and in no circle: there is an order of birth;
  - every member's name is a host name of at most 63 characters;
  - as a whole it fits into one command of the log.

A role's `digest` covers what a member gets at its birth and keeps for life.  A member of another
digest than its role's is replaced; one with the same is left alone.  So count, order and time to
end may change without replacing anybody.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from paas.gateway.messages import Route

Replace = Literal["", "start-first", "stop-first"]

_canonical = msgspec.msgpack.Encoder(order="sorted")

DIGEST_DIGITS = 16


class Volume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A volume that `paas app deploy` adds to the manifest of the type that it pushes."""

    path: str
    size: int
    on_loss: str = "wait"


class Role(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Members that are alike.  `type` is `name@version`; `source` only until it is pushed."""

    name: str
    type: str = ""
    source: str = ""
    count: int = 1
    groups: tuple[str, ...] = ()
    configuration: dict[str, Any] = {}
    constraints: tuple[str, ...] = ()
    restart: str = ""
    """Empty: as the type's manifest says."""
    depends: tuple[str, ...] = ()
    """Roles whose members are there before the first of this one is born."""
    grace: float = 10.0
    """Seconds to end."""
    replace: Replace = ""
    """Empty: as is safe for the type (`stops_first`)."""
    volume: Volume | None = None
    keeps_files: bool = False
    """Its type has volumes, which stay with a member's name; said by who proposes, not in files."""

    @property
    def stops_first(self) -> bool:
        """Is an outdated member ended before its successor is born?

        Volumes belong to a name, so the successor needs the same one.
        """
        return self.keeps_files or self.replace == "stop-first"

    @property
    def digest(self) -> str:
        """Names what its members are born with."""
        born = [
            self.type,
            list(self.groups),
            self.configuration,
            list(self.constraints),
            self.restart,
        ]
        return hashlib.sha256(_canonical.encode(born)).hexdigest()[:DIGEST_DIGITS]


class Requirement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A group of somebody else's that has to have members before any role is born."""

    name: str
    group: str
    count: int = 1


class Specification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A whole application.  Roles and routes in the order in which they are written."""

    name: str
    version: str = ""
    description: str = ""
    roles: tuple[Role, ...] = ()
    routes: tuple[Route, ...] = ()
    requires: tuple[Requirement, ...] = ()

    def role(self, name: str) -> Role | None:
        """The role of this name, if there is one."""
        return next((role for role in self.roles if role.name == name), None)

    def birth_order(self) -> list[Role]:
        """Whoever is depended on first; else as written."""
        return birth_order(self.roles)

    def to_plain(self) -> dict[str, Any]:
        """As tables of `application.toml`, so that reading it gives an equal one."""
        return {
            "application": {
                "name": self.name,
                "version": self.version,
                "description": self.description,
            },
            "roles": {role.name: _role_plain(role) for role in self.roles},
            "routes": {
                _short(self.name, route): _route_plain(self, route) for route in self.routes
            },
            "requires": {r.name: {"group": r.group, "count": r.count} for r in self.requires},
        }


def birth_order(roles: tuple[Role, ...]) -> list[Role]:
    """Roles so that each comes after those that it depends on; ValueError names a circle."""
    left, born, order = list(roles), set[str](), list[Role]()
    while left:
        ready = next((role for role in left if born.issuperset(role.depends)), None)
        if ready is None:
            raise ValueError(" → ".join(_circle(left)))
        left.remove(ready)
        born.add(ready.name)
        order.append(ready)
    return order


def _circle(left: list[Role]) -> list[str]:
    """The names of one circle among roles of which each depends on another one of them."""
    waiting = {role.name: role for role in left}
    walked = [left[0].name]
    while True:
        following = next(name for name in waiting[walked[-1]].depends if name in waiting)
        if following in walked:
            return [*walked[walked.index(following) :], following]
        walked.append(following)


def role_group(application: str, role: str) -> str:
    """The group that all members of a role are in from birth."""
    return f"{application}.{role}"


def member_name(application: str, role: str, slot: int) -> str:
    """The name of a member; its volumes belong to it."""
    return f"{application}-{role}-{slot}"


def route_name(application: str, name: str) -> str:
    """The name that a route of an application has among all routes."""
    return f"{application}.{name}"


def _short(application: str, route: Route) -> str:
    return route.name.removeprefix(f"{application}.")


def _role_plain(role: Role) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(role)
    del plain["name"], plain["keeps_files"]
    for field in ("groups", "constraints", "depends"):
        plain[field] = list(plain[field])
    return {key: value for key, value in plain.items() if value not in ("", None)}


def _route_plain(specification: Specification, route: Route) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(route)
    for field in ("name", "application"):
        plain.pop(field, None)
    group = plain.get("group", "")
    role = group.removeprefix(f"{specification.name}.")
    if group != role and specification.role(role) is not None:
        plain["group"] = role
    return plain
