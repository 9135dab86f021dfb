"""Bodies in chunks: taken apart with one reading, put together in one form.

Sizes are hexadecimal digits, lines end with CR LF and nothing else, extensions are visible ASCII in
bounded length and are dropped, trailers are checked like headers and dropped.  A proxy that passes
on what it read over lets the next one read something else, so nothing here is passed on: the other
side gets chunks of ours.

Source: RFC 9112 §7.1; extensions as a way to smuggle: RFC 9112 §7.1.1 (unknown ones are ignored),
CVE-2025-55315 (a bare line feed within one).
"""

from __future__ import annotations

import re

from paas.gateway.http.head import Refused
from paas.gateway.http.limits import (
    CHUNK_LINE_BYTES_MAX,
    CHUNK_SIZE_DIGITS_MAX,
    TRAILER_BYTES_MAX,
)

LAST = b"0\r\n\r\n"

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,%d})(?:[ \t]*;[ \t!-~]*)?" % CHUNK_SIZE_DIGITS_MAX)
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*(?:[!-~\x80-\xff][\t -~\x80-\xff]*)?")


def chunk(data: bytes) -> bytes:
    """One chunk; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Chunks:
    """Takes a body in chunks apart, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._kept = b""
        self._left = 0
        """Bytes of the present chunk's data that are still to come."""
        self._after_data = False
        self._trailers = False
        self._trailer_bytes = 0
        self.done = False
        self.rest = b""
        """What came after the end: the next request."""

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body within `data`.  Raises Refused (400)."""
        pieces: list[bytes] = []
        if self._kept:
            data, self._kept = self._kept + data, b""
        at = 0
        while not self.done and at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_data = self._left == 0
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._kept = data[at:]
                self._check_length(len(self._kept))
                if self._after_data and self._kept != b"\r":
                    raise Refused(400, "a chunk is longer than it said")
                return pieces
            self._check_length(end - at)
            if data[end - 1 : end] != b"\r" or end == at:
                raise Refused(400, "a line of a chunk does not end with CR LF")
            self._line(data[at : end - 1])
            at = end + 1
        self.rest = data[at:] if self.done else b""
        return pieces

    def _check_length(self, length: int) -> None:
        if self._trailers:
            if self._trailer_bytes + length > TRAILER_BYTES_MAX:
                raise Refused(431, f"trailers have at most {TRAILER_BYTES_MAX} bytes")
        elif self._after_data:
            if length > 1:
                raise Refused(400, "a chunk is longer than it said")
        elif length > CHUNK_LINE_BYTES_MAX:
            raise Refused(400, f"a chunk's size has at most {CHUNK_LINE_BYTES_MAX} bytes")

    def _line(self, line: bytes) -> None:
        if self._trailers:
            self._trailer_bytes += len(line)
            if not line:
                self.done = True
            elif not _TRAILER.fullmatch(line):
                raise Refused(400, "a trailer is no name, colon and value")
        elif self._after_data:
            if line:
                raise Refused(400, "a chunk is longer than it said")
            self._after_data = False
        else:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise Refused(400, "a chunk's size is no hexadecimal number")
            self._left = int(found[1], 16)
            self._trailers = self._left == 0
