"""Reading a specification: `application.toml`, or the same tables in a request.  Pure.

    parse(bytes)  --checks, by line, table and field-->  Specification  <--checks--  from_plain

It is read where it enters, by the command line, and again by the hub, which trusts no client.  An
unknown table or field is an error, as in manifests: a misspelt `count` would otherwise be 1.  Every
error is `invalid` with `file`, `field` (its dotted path) and, for a file, `line`.

Whether types exist and whether a route is good is not known here; the hub looks at that.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from paas.application import fields, limits
from paas.application.specification import (
    Requirement,
    Role,
    Specification,
    Volume,
    birth_order,
    member_name,
    role_group,
    route_name,
)
from paas.bundle import toml_lines, toml_tables
from paas.gateway.messages import Route
from paas.wire import codec

FILE_NAME = "application.toml"


def parse(text: bytes, file: str = FILE_NAME) -> Specification:
    """Read a specification file; raises `invalid` or `limit-exceeded`."""
    plain, decoded = toml_tables.load(text, file, "specification", limits.FILE_BYTES_MAX)
    return _Reader(file, decoded).specification(plain)


def from_plain(plain: object, file: str = "specification") -> Specification:
    """Check tables that came in a request; raises as `parse`, without lines."""
    return _Reader(file, None).specification(plain)


class _Reader(toml_tables.Tables):
    """Checks one specification."""

    what = "specification"
    param = "specification"

    def specification(self, plain: object) -> Specification:
        table = self._table((), plain)
        self._known((), table, tuple(name for name in fields.TABLES if "." not in name))
        head = self._fields(("application",), table.get("application", {}), ("name",))
        name = str(head["name"])
        roles = tuple(
            self._role(name, role, entry)
            for role, entry in self._entries("roles", table, limits.ROLES_MAX)
        )
        if not roles:
            self._refuse(("roles",), "expected at least one table such as [roles.web]")
        self._check_roles(roles)
        specification = Specification(
            **head,
            roles=roles,
            routes=tuple(
                self._route(name, route, entry, roles)
                for route, entry in self._entries("routes", table, limits.ROUTES_MAX)
            ),
            requires=tuple(
                Requirement(
                    name=key, **self._fields(("requires", key), entry, ("group",), "requires")
                )
                for key, entry in self._entries("requires", table, limits.REQUIRES_MAX)
            ),
        )
        size = len(codec.pack(specification.to_plain()))
        if size > limits.SPECIFICATION_BYTES_MAX:
            self._refuse(
                (),
                f"has {size} bytes as data, at most {limits.SPECIFICATION_BYTES_MAX} are allowed",
            )
        return specification

    # -- roles -----------------------------------------------------------------------------------

    def _role(self, application: str, name: str, entry: object) -> Role:
        path = ("roles", name)
        longest = member_name(application, name, 10**limits.SLOT_DIGITS_MAX - 1)
        if len(longest) > limits.COMPONENT_NAME_LENGTH_MAX:
            self._refuse(
                path,
                f"its members would be called {longest}, {len(longest)} characters; at most "
                f"{limits.COMPONENT_NAME_LENGTH_MAX} are allowed: shorten one of the names",
            )
        checked = self._fields(path, entry, (), "roles")
        volume = checked.pop("volume", None)
        if volume is not None:
            volume = Volume(
                **self._fields((*path, "volume"), volume, ("path", "size"), "roles.volume")
            )
        role = Role(name=name, volume=volume, **checked)
        if bool(role.type) == bool(role.source):
            what = "has both" if role.type else "has neither"
            self._refuse(
                path, f'{what} type = "name@version" and source = "directory"; give one of them'
            )
        if role.type and role.volume is not None:
            self._refuse(
                (*path, "volume"), "only for a role with source; a type's manifest has its own"
            )
        size = len(codec.pack(role.configuration))
        if size > limits.CONFIGURATION_BYTES_MAX:
            self._refuse(
                (*path, "configuration"),
                f"expected at most {limits.CONFIGURATION_BYTES_MAX} bytes as data, got {size}",
            )
        return role

    def _check_roles(self, roles: tuple[Role, ...]) -> None:
        names = [role.name for role in roles]
        for role in roles:
            for other in role.depends:
                if other not in names:
                    close = difflib.get_close_matches(other, names, n=1)
                    hint = f'; did you mean "{close[0]}"?' if close else ""
                    self._refuse(("roles", role.name, "depends"), f'no role "{other}"{hint}')
        try:
            birth_order(roles)
        except ValueError as exc:
            first = str(exc).split(" ")[0]
            self._refuse(("roles", first, "depends"), f"a circle: {exc}")
        if sum(role.count for role in roles) > limits.MEMBERS_MAX:
            self._refuse(
                ("roles",), f"expected at most {limits.MEMBERS_MAX} members in all roles together"
            )

    # -- routes ----------------------------------------------------------------------------------

    def _route(self, application: str, name: str, entry: object, roles: tuple[Role, ...]) -> Route:
        path = ("routes", name)
        table = dict(self._table(path, entry))
        self._known(path, table, fields.ROUTE_FIELDS)
        for field in table:
            if check := fields.ROUTES.get(field):
                table[field] = self._check((*path, field), check, table[field])
        group = table.get("group", "")
        if table.get("kind") != "static" and not group:
            self._refuse((*path, "group"), "is required: a role, or the name of a group")
        if any(role.name == group for role in roles):
            table["group"] = role_group(application, str(group))
        table.update(name=route_name(application, name), application=application)
        try:
            return msgspec.convert(table, Route)
        except msgspec.ValidationError as exc:
            what, _, where = str(exc).partition(" - at `$")
            field = where.rstrip("`").lstrip(".").partition("[")[0]
            self._refuse((*path, *filter(None, field.split("."))), what[:1].lower() + what[1:])

    # -- tables ----------------------------------------------------------------------------------

    def _entries(
        self, section: str, parent: Mapping[str, object], most: int
    ) -> list[tuple[str, object]]:
        table = self._table((section,), parent.get(section, {}))
        if len(table) > most:
            self._refuse((section,), f"expected at most {most} tables")
        for name in table:
            self._check((section, name), fields.name, name)
        return list(table.items())

    def _fields(
        self,
        path: toml_lines.Path,
        entry: object,
        required: tuple[str, ...],
        kind: str = "application",
    ) -> dict[str, Any]:
        table, checks = self._table(path, entry), fields.TABLES[kind]
        self._known(path, table, tuple(checks))
        for name in required:
            if name not in table:
                self._refuse((*path, name), "is required")
        return {name: self._check((*path, name), checks[name], table[name]) for name in table}
