"""What each field of an application.toml may hold: one check per field, in one table.

A check returns the value in canonical form, or raises ValueError whose text completes "expected
...", as those of manifests (bundle/manifest_fields.py), on which most of these rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from paas.application import limits
from paas.base import units
from paas.bundle import limits as bundle_limits
from paas.bundle import manifest_fields as manifest
from paas.gateway.messages import Route

Check = manifest.Check

_NAME_EXPECTED = "lower-case letters, digits and hyphens, a letter first, at most 63"
name: Check = manifest.pattern(manifest.NAME, f"a name of {_NAME_EXPECTED}")

_VERSION_TEXT = r"[0-9A-Za-z](?:[0-9A-Za-z.+_-]{0,62}[0-9A-Za-z])?"
_TYPE = re.compile(rf"{manifest.NAME.pattern}(?:@{_VERSION_TEXT})?")
_CONSTRAINT = re.compile(r"node!?=[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_VERSION = re.compile(rf"(?:{_VERSION_TEXT})?")
_INTEGERS = range(-(1 << 63), 1 << 64)


def _list(check: Check, expected: str, most: int) -> Check:
    """A list of at most so many strings that each pass; without repetitions, in their order."""

    def checked(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or len(value) > most:
            raise ValueError(f"{expected}, at most {most} of them")
        try:
            return tuple(dict.fromkeys(str(check(word)) for word in value))
        except ValueError as exc:
            raise ValueError(f"{expected}; each {exc}") from None

    return checked


def _description(value: object) -> str:
    text = manifest.text(value)
    if len(text.encode()) > limits.DESCRIPTION_BYTES_MAX:
        raise ValueError(f"at most {limits.DESCRIPTION_BYTES_MAX} bytes of text")
    return text


def _source(value: object) -> str:
    expected = 'the path of a directory with a component.toml, such as "web"'
    if not isinstance(value, str) or not value.strip() or "\0" in value or len(value) > 1_024:
        raise ValueError(expected)
    return value


def _seconds(value: object) -> float:
    """Also none at all."""
    if value in (0, 0.0) and not isinstance(value, bool):
        return 0.0
    amount = manifest.seconds(value)
    if amount > limits.GRACE_S_MAX:
        raise ValueError(f"{units.SECONDS_EXPECTED}, at most {limits.GRACE_S_MAX:g} seconds")
    return amount


def _configuration(value: object) -> dict[str, Any]:
    """JSON values: text, numbers, truth, lists and tables."""
    if not isinstance(value, dict):
        raise ValueError("a table of values")
    _plain(value, 0)
    return value


def _text(value: str) -> None:
    """Of any length that the whole may have."""
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("text without NUL characters or half characters")


def _plain(value: object, depth: int) -> None:
    if depth > limits.CONFIGURATION_DEPTH_MAX:
        raise ValueError(f"at most {limits.CONFIGURATION_DEPTH_MAX} tables and lists in each other")
    match value:
        case bool() | None:
            pass
        case str():
            _text(value)
        case int():
            if value not in _INTEGERS:
                raise ValueError("whole numbers of at most 64 bits")
        case float():
            if not math.isfinite(value):
                raise ValueError("finite numbers")
        case list() | tuple():
            for one in value:
                _plain(one, depth + 1)
        case dict():
            for key, one in value.items():
                _text(key)
                _plain(one, depth + 1)
        case _:
            raise ValueError("text, numbers, true, false, lists and tables; dates as text")


def _volume(value: object) -> object:
    """Its own fields are checked as a table."""
    return value


def _route_seconds(value: object) -> float:
    """A number, or with a unit; the gateway's own bounds are checked by it."""
    try:
        return float(units.to_seconds(value))
    except ValueError:
        raise ValueError(units.SECONDS_EXPECTED) from None


_GROUP = manifest.pattern(
    manifest.GROUP, "the name of a group: letters, digits, hyphens, dots, slashes"
)

TABLES: Mapping[str, Mapping[str, Check]] = {
    "application": {
        "name": name,
        "version": manifest.pattern(
            _VERSION, 'a string such as "1.0.0": letters, digits, ". + - _"'
        ),
        "description": _description,
    },
    "roles": {
        "type": manifest.pattern(_TYPE, 'the name of a component type such as "web@1.0.0"'),
        "source": _source,
        "count": manifest.whole(0, limits.COUNT_MAX),
        "groups": _list(_GROUP, "a list of names of groups", limits.GROUPS_MAX),
        "configuration": _configuration,
        "constraints": _list(
            manifest.pattern(_CONSTRAINT, '"node=NAME" or "node!=NAME"'),
            'a list of constraints such as ["node!=n1"]',
            limits.CONSTRAINTS_MAX,
        ),
        "restart": manifest.one_of("permanent", "transient", "temporary"),
        "depends": _list(name, "a list of names of roles", limits.ROLES_MAX),
        "grace": _seconds,
        "replace": manifest.one_of("start-first", "stop-first"),
        "volume": _volume,
    },
    "roles.volume": {
        "path": manifest.volume_path,
        "size": manifest.size(bundle_limits.VOLUME_BYTES_MIN, bundle_limits.VOLUME_BYTES_MAX),
        "on_loss": manifest.one_of("wait", "empty"),
    },
    "routes": {},
    "requires": {"group": _GROUP, "count": manifest.whole(1, limits.MEMBERS_MAX)},
}
"""Tables and their fields; `roles`, `routes` and `requires` are tables of named ones."""

ROUTES: Mapping[str, Check] = {
    "timeout_s": _route_seconds,
    "drain_s": _route_seconds,
    "body_max": manifest.size(0, limits.ROUTE_BODY_BYTES_MAX),
}
"""Fields of a route that may be written with a unit."""

ROUTE_FIELDS = tuple(
    field for field in Route.__struct_fields__ if field not in ("name", "application")
)
"""What an application may say of a route: all of it but whose it is."""
