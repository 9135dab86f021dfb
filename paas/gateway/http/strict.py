"""The strict reader of request heads: decides every head that is not of the common form.

The grammar is h11's.  Before it come the forms that the library forgives and that others on the
way read differently: a line end without a carriage return, or a carriage return without a line
feed; a field continued on the next line (obs-fold); blanks before the colon or around the name.

Source: RFC 9112 §2.2, §5.1, §5.2.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import h11

from paas.gateway.http.head import Headers, Refused

_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VERSION = re.compile(rb" HTTP/([0-9])\.([0-9])$")


class _Split(NamedTuple):
    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    version: bytes


def bare_line_end(data: bytes) -> bool:
    """Is there a line end that is not a carriage return with a line feed?

    The last byte may be the first half of one.
    """
    return _BARE.search(data[:-1] if data.endswith(b"\r") else data) is not None


def split(data: bytes) -> tuple[str, str, Headers, str]:
    """Method, target, headers and version of a head without its last two line ends.

    Raises Refused.
    """
    if data.startswith(b"\r\n"):
        data = data[2:]  # RFC 9112 §2.2: an empty line before the request line is ignored
    if bare_line_end(data) or data.endswith(b"\r"):
        raise Refused(400, "a line does not end with a carriage return and a line feed")
    if _CONTROL.search(data):
        raise Refused(400, "the head holds a control character")
    lines = data.split(b"\r\n")
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t"):
            raise Refused(400, "a header is continued on the next line")
        name, colon, _ = line.partition(b":")
        if not colon or name.strip() != name or not name:
            raise Refused(400, "a header is no name, colon and value")
    version = _VERSION.search(lines[0])
    if version is None:
        raise Refused(400, "the first line is no method, target and version")
    if version[1] != b"1" or version[2] not in b"01":
        raise Refused(505, "HTTP/1.1 is spoken here")
    request = _parse(lines)
    headers = [(n.decode("ascii"), v.decode("latin-1")) for n, v in request.headers]
    method, target = request.method.decode("ascii"), request.target.decode("latin-1")
    return method, target, headers, request.version.decode("ascii")


def _parse(lines: list[bytes]) -> _Split:
    """The library's reading.

    It is given no field that it would judge by its meaning: that is judged once, elsewhere.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    marked = [lines[0], b"Host: x", *(b"x-" + line for line in lines[1:])]
    parser.receive_data(b"\r\n".join(marked) + b"\r\n\r\n")
    try:
        event = parser.next_event()
    except h11.RemoteProtocolError as exc:
        raise Refused(400, f"the head is malformed: {exc}") from None
    if not isinstance(event, h11.Request):
        raise Refused(400, "the head is malformed")
    headers = [(name[2:], value) for name, value in list(event.headers)[1:]]
    return _Split(event.method, event.target, headers, event.http_version)
