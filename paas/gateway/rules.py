"""What a route may say: one check for each field, in one table.  Pure.

A route that passes is in canonical form: host and header names in lower case, methods in capitals,
a path without a slash at its end.  A check that fails names the field (`route.host`) and what was
expected.  Host names: RFC 1123 §2.1; methods and header names: RFC 9110 §5.6.2 (tokens); header
values: RFC 9110 §5.5 (no control characters).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from paas.base.errors import invalid
from paas.gateway import limits
from paas.gateway.messages import Route

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?")
_APPLICATION = re.compile(r"(?:[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)?")
_GROUP = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_KEY = re.compile(r"[a-z](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_OPERATION = re.compile(r"[^\x00-\x20\x7f*](?:[^\x00-\x1f\x7f*]{0,110}[^\x00-\x20\x7f*])?")
_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?|")
_WEIGHT_BY = re.compile(r"version|type|attribute:[^\x00-\x1f\x7f]{1,128}")

HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te"),
        *("trailer", "transfer-encoding", "upgrade", "content-length"),
    }
)
"""Headers that are the gateway's own (RFC 9110 §7.6.1), and the length."""


def _refuse(field: str, expected: str) -> NoReturn:
    raise invalid(f"route.{field}", f"expected {expected}", param=f"route.{field}")


def _text(pattern: re.Pattern[str], expected: str) -> Callable[[str, str], str]:
    def check(field: str, value: str) -> str:
        if not pattern.fullmatch(value):
            _refuse(field, expected)
        return value

    return check


def _number(lowest: float, highest: float, unit: str) -> Callable[[str, Any], Any]:
    def check(field: str, value: float) -> float:
        if not math.isfinite(value) or not lowest <= value <= highest:
            _refuse(field, f"{lowest:g} to {highest:g}{unit}")
        return value

    return check


def _host(field: str, value: str) -> str:
    host = value.lower().rstrip(".")
    if host and (not _HOST.fullmatch(host) or len(host) > limits.HOST_LENGTH_MAX):
        _refuse(field, '"" for any host, a host name, or "*.example.org"; no port')
    return host


def _path(field: str, value: str) -> str:
    path = value.rstrip("/")
    segments = path.split("/")[1:]
    plain = all(_SEGMENT.fullmatch(s) and s.strip(".") for s in segments)
    if not value.startswith("/") or not plain or len(path) > limits.PATH_LENGTH_MAX:
        _refuse(field, "a path of plain segments such as /shop/api, without . or .. or escapes")
    return path or "/"


def _methods(field: str, value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > limits.METHODS_MAX or not all(_TOKEN.fullmatch(m) for m in value):
        _refuse(field, f"at most {limits.METHODS_MAX} HTTP methods such as GET")
    return tuple(sorted({method.upper() for method in value}))


def _weights(field: str, value: dict[str, int]) -> dict[str, int]:
    few = len(value) <= limits.WEIGHTS_MAX and all(len(k) <= limits.NAME_LENGTH_MAX for k in value)
    if not few or not all(0 <= weight <= limits.WEIGHT_MAX for weight in value.values()):
        _refuse(field, f"at most {limits.WEIGHTS_MAX} values with weights 0 to {limits.WEIGHT_MAX}")
    if value and not any(value.values()):
        _refuse(field, "at least one weight above 0: nobody would answer")
    return dict(sorted(value.items()))


def _headers(field: str, value: dict[str, str]) -> dict[str, str]:
    size = sum(len(name) + len(text) for name, text in value.items())
    if len(value) > limits.HEADERS_MAX or size > limits.HEADER_BYTES_MAX:
        _refuse(field, f"at most {limits.HEADERS_MAX} headers, {limits.HEADER_BYTES_MAX} bytes")
    for name, text in value.items():
        if not _TOKEN.fullmatch(name) or name.lower() in HOP_BY_HOP:
            _refuse(f"{field}.{name[:64]}", "the name of a header that is not the gateway's own")
        if not _VALUE.fullmatch(text):
            _refuse(f"{field}.{name[:64]}", "a value without control characters")
    return {name.lower(): value[name] for name in sorted(value)}


def _notice(field: str, value: str) -> str:
    if len(value.encode("utf-8", "replace")) > limits.TEXT_BYTES_MAX:
        _refuse(field, f"a text of at most {limits.TEXT_BYTES_MAX} bytes")
    return value


CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "name": _text(_NAME, "lower-case letters, digits, and . _ - within, at most 128"),
    "application": _text(_APPLICATION, "the name of an application, or none"),
    "gateway": _text(_GROUP, "the name of a group"),
    "host": _host,
    "path": _path,
    "endpoint": _text(_KEY, "the name of an endpoint in the members' manifest"),
    "operation": _text(_OPERATION, "the name of an operation, at most 112 characters"),
    "methods": _methods,
    "timeout_s": _number(limits.TIMEOUT_S_MIN, limits.TIMEOUT_S_MAX, " seconds"),
    "retries": _number(0, limits.RETRIES_MAX, ""),
    "body_max": _number(0, limits.BODY_BYTES_MAX, " bytes"),
    "weight_by": _text(_WEIGHT_BY, '"version", "type", or "attribute:<name>"'),
    "weights": _weights,
    "drain_s": _number(0, limits.DRAIN_S_MAX, " seconds"),
    "drain_notice": _notice,
    "rate": _number(0, limits.RATE_MAX, " requests a second"),
    "headers": _headers,
}

_group = _text(_GROUP, "the name of the group whose members answer")
_directory = _text(_DIRECTORY, "a folder within the gateway's static folder, such as site/assets")


def check(route: Route) -> Route:
    """The route in canonical form; raises `invalid` naming the first field that is wrong."""
    checked: dict[str, Any] = {
        field: test(field, getattr(route, field)) for field, test in CHECKS.items()
    }
    if route.kind == "static":
        _directory("directory", route.directory)
        if route.group:
            _refuse("group", "none for a route of kind static")
        if route.websocket:
            _refuse("websocket", "false for a route of kind static")
    else:
        _group("group", route.group)
        if route.directory:
            _refuse("directory", "none but for a route of kind static")
        if route.group == route.gateway:
            _refuse("group", "another group than that of the gateways")
    if route.weight_by != "version" and not route.weights:
        _refuse("weights", f"the weights by {route.weight_by}")
    checked_route = msgspec.structs.replace(route, **checked)
    if len(msgspec.msgpack.encode(checked_route)) > limits.ROUTE_BYTES_MAX:
        _refuse("headers", f"a route of at most {limits.ROUTE_BYTES_MAX} bytes in all")
    return checked_route


def operations(route: Route) -> tuple[str, ...]:
    """The operations of members that the route's gateways may call."""
    if route.kind != "operation":
        return ()
    own = route.operation
    return (
        (own, f"{own}.open", f"{own}.message", f"{own}.close")
        if route.websocket
        else (
            own,
            f"{own}.close",
        )
    )


def weight(route: Route, value: str) -> int:
    """Of a member that has this value of what the weights are about."""
    if not route.weights:
        return limits.WEIGHT_DEFAULT
    return route.weights.get(value, route.weights.get("", 0))
