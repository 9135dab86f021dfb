"""What a member's answer says: its head, read strictly, and where its body ends.

Members are as little believed as browsers: a head with two readings would let a member's answer
pass as the answer to another request on the same connection (response splitting).  What is refused
becomes a 502 that says why, and the connection is not used again.

A field continued on the next line is refused as well (RFC 9112 §5.2 lets a proxy).  Interim answers
(1xx) other than 101 are read over.  Source: RFC 9112 §4, §6.3; RFC 9110 §15.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from paas.gateway.http.head import UNKNOWN, Headers, Refused, content_length

UNTIL_CLOSE = -2
"""The body ends with the connection."""

_HEAD = re.compile(
    r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?"
    r"((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*)*)"
)
_SEEN = frozenset({"content-length", "transfer-encoding", "connection", "upgrade"})


@dataclass(slots=True)
class AnswerHead:
    """An answer that has one reading."""

    status: int
    headers: Headers
    length: int
    """Bytes of the body; UNKNOWN: chunks; UNTIL_CLOSE."""

    said: int | None
    """Its Content-Length; of an answer without body (to a HEAD, 304) that of the body it hasn't."""

    keep_alive: bool
    headless: bool = False
    """The answer to a HEAD."""

    upgrade: str = ""
    connection: tuple[str, ...] = ()


def read(data: bytes, method: str) -> AnswerHead:
    """The head (without its last two line ends) of the answer to a request with that method.

    Raises Refused (502).
    """
    found = _HEAD.fullmatch(data.decode("latin-1"))
    if found is None:
        raise Refused(502, "the member's answer is no HTTP/1.1")
    minor, number, fields = found.groups()
    status = int(number)
    headers: Headers = []
    seen: dict[str, str] = {}
    for line in fields.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers.append((name, value))
        if name in _SEEN:
            if name in seen and name != "connection":
                if name == "content-length" and seen[name] == value:
                    continue
                raise Refused(502, f"the member's answer has the header {name} more than once")
            seen[name] = f"{seen[name]}, {value}" if name in seen else value
    length = _length(status, method, seen, minor)
    words = (
        [w.strip().lower() for w in seen["connection"].split(",")] if "connection" in seen else ()
    )
    keep = ("close" not in words) if minor == "1" else ("keep-alive" in words)
    return AnswerHead(
        status,
        headers,
        length,
        int(seen["content-length"]) if "content-length" in seen else None,
        keep and length != UNTIL_CLOSE,
        method == "HEAD",
        seen.get("upgrade", "").lower() if "upgrade" in words else "",
        tuple(words),
    )


def _length(status: int, method: str, seen: dict[str, str], minor: str) -> int:
    coding, said = seen.get("transfer-encoding"), seen.get("content-length")
    if coding is not None and said is not None:
        raise Refused(502, "the member's answer has content-length and transfer-encoding")
    try:
        number = 0 if said is None else content_length(said)
    except Refused as exc:
        raise Refused(502, f"the member's answer: {exc.detail}") from None
    if coding is not None and (coding.lower() != "chunked" or minor != "1"):
        raise Refused(502, "the member's answer has a transfer-encoding that is not chunked")
    if method == "HEAD" or status < 200 or status in (204, 304):
        return 0
    if coding is not None:
        return UNKNOWN
    return UNTIL_CLOSE if said is None else number
