"""One log event: data first, never only text; as JSON in one bounded line.

    {"ts":"2026-11-21T05:02:06.301Z","level":"info","agent":"hub","node":"n1","event":"node.ready",
     "request":"…","trace":"…","fields":{"state":"/var/lib/paas/dev"}}

`request` and `trace` link the events of one operation across processes (platform document §4.3.1,
"logging").  Values of any type are accepted and shown in plain form; nothing in an event can make
its line longer than LINE_BYTES_MAX or break it into two, since JSON escapes control characters.
Confidential values are not recognised here: who holds one does not log it.
"""

from __future__ import annotations

import enum
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from paas.telemetry.limits import DEPTH_MAX, FIELDS_MAX, LINE_BYTES_MAX, VALUE_CHARACTERS_MAX

_KEY = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS_MS = (-62_135_596_800_000, 253_402_300_799_999)  # years 1 to 9999
_CUT = "…"


class Level(enum.IntEnum):
    """How much an event asks for attention."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened (`event`, a key of names.py), where, when, for which operation, with data."""

    ts: str
    level: str
    agent: str
    event: str
    node: str = ""
    request: str = ""
    trace: str = ""
    fields: dict[str, Any] = {}


_encode = msgspec.json.Encoder().encode


def is_key(text: str) -> bool:
    """Has it the form of a log key?"""
    return _KEY.fullmatch(text) is not None


def timestamp(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    clamped = min(max(time_ms, _YEARS_MS[0]), _YEARS_MS[1])
    moment = _EPOCH + timedelta(milliseconds=clamped)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line(event: Event) -> bytes:
    """The event as one line of at most LINE_BYTES_MAX bytes, with its line end."""
    fields = _bounded(event.fields)
    room = VALUE_CHARACTERS_MAX
    while True:
        body = _encode(msgspec.structs.replace(event, fields=fields))
        if len(body) < LINE_BYTES_MAX:
            return body + b"\n"
        # Escapes and many fields can still be too much: halve the texts until it fits.
        room //= 2
        if room < 16:
            return _encode(msgspec.structs.replace(event, fields={"cut": True})) + b"\n"
        fields = {name: _shown(value, room) for name, value in fields.items()} | {"cut": True}


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    names = list(fields)
    shown = {str(n)[:64]: plain(fields[n]) for n in names[:FIELDS_MAX]}
    if len(names) > FIELDS_MAX:
        shown["fields_left_out"] = len(names) - FIELDS_MAX
    return shown


def _shown(value: Any, room: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= room else value[:room] + _CUT
    if isinstance(value, int | float | bool | None):
        return value
    return _shown(_encode(value).decode(), room)


def plain(value: Any, depth: int = DEPTH_MAX) -> Any:
    """`value` as JSON can have it: containers copied, texts cut, everything else described."""
    match value:
        case None | bool():
            return value
        case enum.Enum():
            return plain(value.value, depth)
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _text(value)
        case bytes() | bytearray():
            return _text(bytes(value[:VALUE_CHARACTERS_MAX]).decode(errors="replace"))
        case BaseException():
            return _text(f"{type(value).__name__}: {value}")
        case dict() if depth > 0:
            return {str(k)[:64]: plain(v, depth - 1) for k, v in list(value.items())[:FIELDS_MAX]}
        case list() | tuple() | set() | frozenset() if depth > 0:
            return [plain(item, depth - 1) for item in list(value)[:FIELDS_MAX]]
        case _:
            return _text(str(value))


def _text(value: str) -> str:
    # Lone surrogates (file names that are no UTF-8) cannot be encoded as JSON.
    clean = value[:VALUE_CHARACTERS_MAX].encode(errors="replace").decode()
    return clean if len(value) <= VALUE_CHARACTERS_MAX else clean + _CUT
