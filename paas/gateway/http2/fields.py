"""A request of HTTP/2 as the request that HTTP/1.1 would have had, or none at all.

What is harmless in binary frames becomes another message when it is written as text: a line end in
a value, a blank or a colon in a name, a Transfer-Encoding that HTTP/2 does not know (downgrade
smuggling; J. Kettle, 2021).  So every field is held against the grammar of text, fields of the
connection are refused, and the rest is judged as ever (http/head.py).

Source: RFC 9113 §8.2, §8.3, §10.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from paas.gateway.http.head import UNKNOWN, Headers, Refused, RequestHead, judge

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = frozenset(
    {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}
)
_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path"})


def request(fields: Iterable[tuple[bytes, bytes]], scheme: str, *, ended: bool) -> RequestHead:
    """The head; `ended`: no body follows.  Raises Refused."""
    pseudo: dict[str, str] = {}
    headers: Headers = []
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if not _VALUE.fullmatch(value):
            raise Refused(400, "a value holds what no header may hold")
        if name.startswith(":"):
            if name not in _PSEUDO or name in pseudo or headers:
                raise Refused(400, f"the pseudo-header {name[:32]} is unknown, late or repeated")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name):
            raise Refused(400, "a name holds what no header's name may hold")
        if name in _FORBIDDEN or (name == "te" and value != "trailers"):
            raise Refused(400, f"the header {name} has no place in HTTP/2")
        headers.append((name, value))
    method, target = pseudo.get(":method", ""), pseudo.get(":path", "")
    if not _METHOD.fullmatch(method) or ":scheme" not in pseudo:
        raise Refused(400, "the request has no method or scheme")
    if method == "CONNECT":
        raise Refused(501, "CONNECT is not offered here")
    if pseudo[":scheme"] != scheme:
        raise Refused(421, "the scheme is not that of the connection")
    if target[:1] != "/" and not (target == "*" and method == "OPTIONS"):
        raise Refused(400, "the path does not begin with a slash")
    _one_host(headers, pseudo.get(":authority"))
    head = judge(method, target, headers, "2")
    if not ended and not any(name == "content-length" for name, _ in headers):
        head.length = UNKNOWN
    return head


def _one_host(headers: Headers, authority: str | None) -> None:
    """The authority as a Host, which may be said both ways if it is the same."""
    said = [value for name, value in headers if name == "host"]
    if authority is None:
        return
    if said and said != [authority]:
        raise Refused(400, "the authority and the header host contradict each other")
    if not said:
        headers.insert(0, ("host", authority))
