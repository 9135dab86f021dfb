"""What a request's head says: one reading for all, whoever parsed it.

    bytes ─ fast.py (the common form) ─┐
          └ strict.py (everything else)├─> judge ─> RequestHead, or Refused
    HTTP/2 ─ fields.py ────────────────┘

The parsers only split a head by the grammar; what the fields mean is decided here, once: where the
body ends, which host is meant, whether the connection goes on.  So two parsers cannot disagree
about what an attacker cares for.

Refused, since somebody on the way could read it differently (request smuggling):
- Content-Length together with Transfer-Encoding, or more than one Content-Length, or one that is
  not plain digits (RFC 9112 §6.3 lets a proxy refuse all of these);
- a Transfer-Encoding that is not exactly `chunked`, or in HTTP/1.0;
- no Host, several, one that is no host, or one that contradicts the target (RFC 9112 §3.2.2);
- a target with a fragment, a backslash, a control character or a dot segment, plain or encoded:
  browsers resolve these before they send, so they come from somebody who means it.

Header names are lower-case, values are text in ISO 8859-1, without the blanks around them.

Source: RFC 9110 §7.2, §7.6.1; RFC 9112 §3, §6, §7; RFC 9113 §8.2, §8.3.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from paas.gateway.http.limits import LENGTH_DIGITS_MAX

Headers = list[tuple[str, str]]

UNKNOWN = -1
"""The length of a body that says itself where it ends."""

CONNECTION_FIELDS = frozenset(
    {
        *("connection", "proxy-connection", "keep-alive", "te", "transfer-encoding", "upgrade"),
        *("trailer", "http2-settings", "proxy-authenticate", "proxy-authorization"),
    }
)
"""Fields of one connection, which a proxy does not pass on (RFC 9110 §7.6.1)."""

_SEEN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"}
)
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{0,5}))?"
)
_NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_DIGITS = re.compile(rf"[0-9]{{1,{LENGTH_DIGITS_MAX}}}")
_TARGET = re.compile(r"/[!$-;=?-\[\]_a-z|~^`{}\"<>]*")
"""What browsers send in paths and queries: RFC 3986 and a few characters that they do not encode.
Not there: blanks, controls, `#` (a fragment), the backslash, bytes above 127."""

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS = re.compile(r"/(?:\.|%2[eE]){1,2}(?:/|;|%2[fF]|%5[cC]|$)")
_ABSOLUTE = re.compile(r"(?i:(?P<scheme>https?)://)(?P<authority>[^/?]*)(?P<rest>.*)")


class Refused(Exception):
    """The message is refused: a status, and what was expected, for people."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class RequestHead:
    """A request that has one reading."""

    method: str
    target: str
    """Path and query as they are passed on; `*` of an OPTIONS."""

    path: str
    query: str
    headers: Headers
    authority: str
    """Host and port as the browser said them."""

    host: str
    """The host alone, lower-case."""

    version: str = "1.1"
    length: int = 0
    """Bytes of the body; UNKNOWN: until its end."""

    keep_alive: bool = True
    upgrade: str = ""
    """`websocket`, when the browser asks for it; other upgrades are not offered, so ignored."""

    expects_continue: bool = False
    connection: tuple[str, ...] = ()
    """Further fields that the browser named as those of its connection."""

    def header(self, name: str) -> str | None:
        """The first value of a field."""
        for known, value in self.headers:
            if known == name:
                return value
        return None


def unread(version: str) -> RequestHead:
    """Stands for a head that was refused: it is answered and logged, and never passed on."""
    return RequestHead("?", "/", "/", "", [], "", "", version, keep_alive=False)


def judge(
    method: str, target: str, headers: Headers, version: str = "1.1", *, scheme: str = ""
) -> RequestHead:
    """What a head that keeps the grammar means.  Raises Refused.

    `scheme` is that of the connection, when it is known: an absolute target must agree with it.
    """
    seen: dict[str, str] = {}
    for name, value in headers:
        if name in _SEEN:
            if name in seen:
                if name in ("connection", "upgrade"):
                    value = f"{seen[name]}, {value}"
                else:
                    raise Refused(400, f"the header {name} appears more than once")
            seen[name] = value
    length = _length(seen, version)
    if target[:1] != "/":
        target = _other_target(method, target, seen, scheme)
    path, query = split_target(target) if target != "*" else ("*", "")
    authority = seen.get("host")
    if authority is None:
        if version != "1.0":
            raise Refused(400, "the header host is missing")
        authority = ""
    head = RequestHead(
        method, target, path, query, headers, authority, host_of(authority), version, length
    )
    if len(seen) > 1 or version != "1.1":
        _connection(head, seen)
    return head


def _length(seen: dict[str, str], version: str) -> int:
    coding, said = seen.get("transfer-encoding"), seen.get("content-length")
    if coding is not None:
        if said is not None:
            raise Refused(400, "content-length and transfer-encoding contradict each other")
        if version != "1.1":
            raise Refused(400, "transfer-encoding belongs to HTTP/1.1")
        if coding.lower() != "chunked":
            raise Refused(501, "the only transfer-encoding understood is chunked")
        return UNKNOWN
    if said is None:
        return 0
    return content_length(said)


def content_length(said: str) -> int:
    """The number of a Content-Length.  Raises Refused."""
    if not _DIGITS.fullmatch(said):
        raise Refused(400, "content-length is not one plain number")
    return int(said)


def _other_target(method: str, target: str, seen: dict[str, str], scheme: str) -> str:
    """The origin form of an absolute target; `*` as it is."""
    if target == "*" and method == "OPTIONS":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise Refused(400, "the target is no path, and no address with a scheme")
    if scheme and found["scheme"].lower() != scheme:
        raise Refused(421, "the target's scheme is not that of the connection")
    authority = found["authority"]
    if not authority or authority.lower() != seen.get("host", authority).lower():
        raise Refused(400, "the target's host and the header host contradict each other")
    seen["host"] = authority
    rest = found["rest"]
    return rest if rest[:1] == "/" else "/" + rest


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a target in origin form.  Raises Refused."""
    if not _TARGET.fullmatch(target):
        raise Refused(400, "the target holds a character that must be percent-encoded")
    path, _, query = target.partition("?")
    if "%" in path and _PERCENT.search(path):
        raise Refused(400, "the path holds a % that encodes nothing")
    if ("/." in path or "%2" in path) and _DOTS.search(path):
        raise Refused(400, "the path holds dot segments: send it resolved")
    if "%00" in path:
        raise Refused(400, "the path holds a null byte")
    return path, query


@functools.lru_cache(maxsize=1_024)
def host_of(authority: str) -> str:
    """The lower-case host of a Host header.  Raises Refused for what is none."""
    if not authority:
        return ""
    lower = authority.lower()
    if _NAME.fullmatch(lower):
        return lower.rstrip(".") or lower
    found = _HOST.fullmatch(lower)
    if found is None or not _NAME.fullmatch(found["name"]) or int(found["port"] or 0) > 65_535:
        raise Refused(400, "the header host is no host name or address, with or without a port")
    return found["name"].rstrip(".") or lower


def _connection(head: RequestHead, seen: dict[str, str]) -> None:
    """What concerns the connection only."""
    words = [w.strip().lower() for w in seen.get("connection", "").split(",")]
    if head.version == "1.0":
        head.keep_alive = "keep-alive" in words and "close" not in words
    elif "close" in words:
        head.keep_alive = False
    head.connection = tuple(w for w in words if w and w not in CONNECTION_FIELDS)
    if "host" in words or "content-length" in words:
        raise Refused(400, "connection names a field that is not the connection's")
    if "upgrade" in words and "websocket" in seen.get("upgrade", "").lower().split(", "):
        head.upgrade = "websocket"
    expected = seen.get("expect")
    if expected is not None:
        if expected.lower() != "100-continue":
            raise Refused(417, "the only expectation understood is 100-continue")
        head.expects_continue = head.version == "1.1" and head.length != 0
