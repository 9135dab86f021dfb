"""The heads that are sent on: to a member what the browser asked, to the browser what it answers.

Fields of the connection stay behind (RFC 9110 §7.6.1), those that the browser named in Connection
too; framing is ours; what tells of the browser is said by us alone (forwarded.py).  Fields with an
underscore that would be one of those, were it a hyphen, are dropped: many programs see both as the
same variable.

Source: RFC 9110 §7.6.1, §7.6.3 (Via); RFC 9113 §8.2.3 (several Cookie fields are one).
"""

from __future__ import annotations

from paas.gateway.http import forwarded
from paas.gateway.http.answer import AnswerHead
from paas.gateway.http.chunked import chunk
from paas.gateway.http.exchange import Exchange
from paas.gateway.http.head import CONNECTION_FIELDS, UNKNOWN, Headers
from paas.gateway.messages import Route

VIA = "via: 1.1 paas-gateway\r\n"
REQUEST_ID = "x-request-id"
_OURS = frozenset({"host", "content-length", "expect", REQUEST_ID, *forwarded.FIELDS})
_DROPPED = CONNECTION_FIELDS | _OURS
_NOT_PASSED_BACK = CONNECTION_FIELDS | {"content-length", REQUEST_ID}


def passes(name: str, named: tuple[str, ...]) -> bool:
    """Is a request's field for the member?"""
    if name in _DROPPED or (named and name in named):
        return False
    return "_" not in name or name.replace("_", "-") not in _DROPPED


def request(exchange: Exchange, target: str, upgrade: str = "") -> str:
    """The head of the request to a member, with its last line end."""
    head = exchange.head
    kept = head.headers if exchange.trusted_peer else []
    lines = [f"{head.method} {target} HTTP/1.1\r\nhost: {head.authority}\r\n"]
    cookies = []
    named = head.connection
    for name, value in head.headers:
        if name == "cookie":
            cookies.append(value)
        elif name not in _DROPPED and (("_" not in name and not named) or passes(name, named)):
            lines.append(f"{name}: {value}\r\n")
    if cookies:
        lines.append(f"cookie: {'; '.join(cookies)}\r\n")
    if head.length == UNKNOWN:
        lines.append("transfer-encoding: chunked\r\n")
    elif head.length or head.method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {head.length}\r\n")
    if upgrade:
        lines.append(f"connection: upgrade\r\nupgrade: {upgrade}\r\n")
    lines.append(forwarded.fields(exchange.peer, head.authority, exchange.scheme, kept))
    lines.append(f"{VIA}{REQUEST_ID}: {exchange.request_id}\r\n\r\n")
    return "".join(lines)


def answer(answer: AnswerHead, exchange: Exchange, route: Route) -> Headers:
    """The fields of the answer to the browser."""
    named = answer.connection
    headers = [
        (name, value)
        for name, value in answer.headers
        if name not in _NOT_PASSED_BACK and (not named or name not in named)
    ]
    headers.append((REQUEST_ID, exchange.request_id))
    if route.headers:
        headers += [(name.lower(), value) for name, value in route.headers.items()]
    return headers


def framed(piece: bytes, length: int) -> bytes:
    """A piece of a request's body as it is sent to the member."""
    return chunk(piece) if length == UNKNOWN else piece
