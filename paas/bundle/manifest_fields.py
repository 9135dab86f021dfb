"""What each field of a manifest may hold: one check per field, in one table.

A check takes the value as the TOML or JSON parser gives it and returns it in canonical form (bytes,
cores, seconds, tuples), or raises ValueError whose text completes "expected ...".  Every check
accepts its own result, so a canonical manifest can be checked again on the next machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from paas.base import units
from paas.bundle import egress, limits

Check = Callable[[object], object]

COMMAND_EXPECTED = 'expected a list of strings, the program first, such as ["python3", "main.py"]'

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Names of types and bases end up in host names: RFC 1123 §2.1, starting with a letter."""

KEY = re.compile(r"[a-z](?:[a-z0-9_-]{0,61}[a-z0-9])?")
"""Names of endpoints and requirements, which become names of variables."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,126}")
RESERVED_VARIABLE_PREFIX = "PAAS_"

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "NET_BIND_SERVICE")
"""What a component may be given; the reasons are with the containers (container/powers.py)."""

_VERSION = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z.+_-]{0,62}[0-9A-Za-z])?")
_BASE = re.compile(r"[a-z](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_VOLUME_PATH = re.compile(r"(?:/[A-Za-z0-9._-]{1,64})+")
_PROTOCOL = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
_OPERATION = re.compile(r"\*|[^\x00-\x20\x7f*](?:[^\x00-\x1f\x7f*]{0,126}[^\x00-\x20\x7f*])?")
_OBJECT = re.compile(r"\*|[^\x00-\x1f\x7f*]{0,128}")
_APPLICATION = re.compile(rf"\*|{NAME.pattern}")
GROUP = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")


def text(value: object) -> str:
    if not isinstance(value, str) or len(value.encode("utf-8", "surrogatepass")) > (
        limits.TEXT_BYTES_MAX
    ):
        raise ValueError(f"a string of at most {limits.TEXT_BYTES_MAX} bytes")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("a string without NUL characters or half characters")
    return value


def pattern(expression: re.Pattern[str], expected: str) -> Check:
    def check(value: object) -> str:
        if not isinstance(value, str) or not expression.fullmatch(value):
            raise ValueError(expected)
        return value

    return check


def one_of(*words: str) -> Check:
    expected = "one of " + ", ".join(f'"{word}"' for word in words)

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(expected)
        return value

    return check


def one_of_or(word: str, check: Check) -> Check:
    """This word, or what the check accepts."""
    return lambda value: value if value == word else check(value)


def whole(lowest: int, highest: int) -> Check:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return value

    return check


def size(lowest: int, highest: int) -> Callable[[object], int]:
    bounds = f"from {units.format_bytes(lowest)} to {units.format_bytes(highest)}"
    expected = f"{units.BYTES_EXPECTED}, {bounds}"

    def check(value: object) -> int:
        try:
            count = units.to_bytes(value)
        except ValueError:
            raise ValueError(expected) from None
        if not lowest <= count <= highest:
            raise ValueError(expected)
        return count

    return check


def rate(lowest: int, highest: int) -> Check:
    """Bytes in a second; 0 is the canonical form of a limit that is not asked for."""
    check_size = size(lowest, highest)

    def check(value: object) -> int:
        if value == 0 and isinstance(value, int) and not isinstance(value, bool):
            return 0
        try:
            return check_size(value)
        except ValueError as exc:
            raise ValueError(f"bytes per second: {exc}; or 0 for no limit") from None

    return check


def cores(value: object) -> float:
    expected = f"{units.CORES_EXPECTED}, above 0 and at most {limits.CPU_CORES_MAX:g}"
    try:
        amount = units.to_cores(value)
    except ValueError:
        raise ValueError(expected) from None
    if not 0 < amount <= limits.CPU_CORES_MAX:
        raise ValueError(expected)
    return amount


def seconds(value: object) -> float:
    expected = f"{units.SECONDS_EXPECTED}, above 0 and at most {limits.TIME_S_MAX:g} seconds"
    try:
        amount = units.to_seconds(value)
    except ValueError:
        raise ValueError(expected) from None
    if not 0 < amount <= limits.TIME_S_MAX:
        raise ValueError(expected)
    return amount


def words(check: Check, expected: str, most: int) -> Check:
    """A list of 1 to `most` strings that each pass the check, without repetitions; sorted."""

    def checked(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple) or not 0 < len(value) <= most:
            raise ValueError(f"{expected}, 1 to {most} of them")
        try:
            found = [check(word) for word in value]
        except ValueError as exc:
            raise ValueError(f"{expected}; each {exc}") from None
        return tuple(sorted(set(map(str, found))))

    return checked


def command(value: object) -> tuple[str, ...]:
    """None is left to the image; whether there is one is looked at with the base."""
    expected = COMMAND_EXPECTED.removeprefix("expected ")
    if not isinstance(value, list | tuple) or not len(value) <= limits.COMMAND_WORDS_MAX:
        raise ValueError(expected)
    try:
        words = tuple(text(word) for word in value)
    except ValueError as exc:
        raise ValueError(f"{expected}; each word {exc}") from None
    if words and not words[0].strip():
        raise ValueError(expected)
    return words


VOLUME_PATHS_KEPT = (
    *("app", "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run"),
    *("sbin", "sys", "tmp", "usr"),
)
"""Top directories that are the platform's or the base's; below /app, volumes may be."""


def volume_path(value: object) -> str:
    """Where a volume is shown: plain names, so that its canonical form is the only one."""
    expected = 'an absolute path such as "/data" or "/app/data", of letters, digits, ". _ -"'
    if not isinstance(value, str) or not _VOLUME_PATH.fullmatch(value):
        raise ValueError(expected)
    names = value.split("/")[1:]
    if len(value) > limits.VOLUME_PATH_LENGTH_MAX or any(n.strip(".") == "" for n in names):
        raise ValueError(f"{expected}, at most {limits.VOLUME_PATH_LENGTH_MAX} characters")
    if names[0] in VOLUME_PATHS_KEPT and (names[0] != "app" or len(names) == 1):
        raise ValueError(f"{expected}, not in /{names[0]}")
    return value


def capabilities(value: object) -> tuple[str, ...]:
    """A list without repetitions, sorted; empty is the canonical form of none."""
    expected = f"a list of some of {', '.join(CAPABILITIES)}"
    if not isinstance(value, list | tuple) or not all(word in CAPABILITIES for word in value):
        raise ValueError(expected)
    return tuple(sorted(set(map(str, value))))


_APPLICATION_EXPECTED = (
    "the name of an application: lower-case letters, digits and hyphens, a letter first, at most 63"
)
_OPERATIONS = words(
    pattern(_OPERATION, 'the name of an operation, or "*" for all'),
    'a list of operations such as ["get", "put"], or ["*"] for all',
    limits.OPERATIONS_MAX,
)
_OBJECTS = words(
    pattern(_OBJECT, 'the name of an object, "" for the component itself, or "*" for all'),
    'a list of objects such as ["orders"], or ["*"] for all',
    limits.OPERATIONS_MAX,
)
_APPLICATIONS = words(
    pattern(_APPLICATION, 'the name of an application, or "*" for every one'),
    'a list of applications such as ["shop"], or ["*"] for every one',
    limits.OPERATIONS_MAX,
)


def truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def at_most(check: Callable[[object], float], highest: float) -> Check:
    """What the check accepts, up to a bound that is lower than its own."""

    def checked(value: object) -> float:
        amount = check(value)
        if amount > highest:
            raise ValueError(f"{units.SECONDS_EXPECTED}, at most {highest:g} seconds")
        return amount

    return checked


SECTIONS: Mapping[str, Mapping[str, Check]] = {
    "component": {
        "name": pattern(NAME, "lower-case letters, digits and hyphens, a letter first, at most 63"),
        "version": pattern(_VERSION, 'a string such as "1.0.0": letters, digits, ". + - _"'),
        "command": command,
        "description": text,
        "application": pattern(NAME, _APPLICATION_EXPECTED),
        "base": pattern(_BASE, '"host", or the name of a base layer such as "debian-12"'),
        "protocol": one_of("json", "msgpack", "none"),
        "sdk": one_of("", "python", "node"),
        "capabilities": capabilities,
        "backend": one_of("", "namespaces", "lxc"),
        "gateway": truth,
    },
    "limits": {
        "memory": size(limits.MEMORY_BYTES_MIN, limits.MEMORY_BYTES_MAX),
        "cpu": cores,
        "pids": whole(1, limits.PIDS_MAX),
        "disk": size(0, limits.DISK_BYTES_MAX),
        "io": rate(limits.IO_BYTES_PER_S_MIN, limits.IO_BYTES_PER_S_MAX),
        "cpu_weight": whole(1, 10_000),
    },
    "supervision": {
        "restart": one_of("permanent", "transient", "temporary"),
        "max_restarts": whole(0, limits.RESTARTS_MAX),
        "within": seconds,
        "ready_timeout": seconds,
        "stop_timeout": seconds,
    },
    "egress": {"allow": egress.check},
}
"""Sections whose fields are fixed."""

TABLES: Mapping[str, Mapping[str, Check]] = {
    "endpoints": {
        "protocol": pattern(_PROTOCOL, 'the name of a protocol such as "http" or "tcp"'),
        "scope": one_of("cluster", "node", "internet"),
        "publish": whole(0, 65_535),
    },
    "groups": {
        "mailbox": one_of("durable", "none"),
        "attempts": whole(1, limits.DURABLE_ATTEMPTS_MAX),
        "backoff": at_most(seconds, limits.DURABLE_BACKOFF_S_MAX),
        "messages_max": whole(1, limits.DURABLE_MESSAGES_MAX),
        "bytes_max": size(limits.DURABLE_BYTES_MIN, limits.DURABLE_BYTES_MAX),
        "ordered": truth,
        "timeout": at_most(seconds, limits.DURABLE_TIMEOUT_S_MAX),
        "in_flight": whole(1, limits.DURABLE_IN_FLIGHT_MAX),
    },
    "exposes": {"operations": _OPERATIONS, "objects": _OBJECTS, "to": _APPLICATIONS},
    "requires": {
        "group": pattern(GROUP, "the name of a group: letters, digits, hyphens, dots, slashes"),
        "application": one_of_or("", pattern(NAME, _APPLICATION_EXPECTED)),
        "operations": _OPERATIONS,
    },
    "volumes": {
        "path": volume_path,
        "size": size(limits.VOLUME_BYTES_MIN, limits.VOLUME_BYTES_MAX),
        "on_loss": one_of("wait", "empty"),
    },
}
"""Sections of named entries, each with these fields."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "component": ("name", "version"),
    "exposes": ("operations", "to"),
    "groups": ("mailbox",),
    "requires": ("group",),
    "volumes": ("path", "size"),
}

SECTION_NAMES = (
    *("component", "limits", "endpoints", "exposes", "requires", "groups", "supervision"),
    *("environment", "volumes", "egress"),
)
