"""Frames: where one message ends and the next begins.

Two framings share a socket, told apart by the first byte a peer sends (component API,
"Transports"): `{` or `[` (or white space before them) means one JSON value a line; anything else
means frames of a 4-byte big-endian length and that many bytes.  A length above the limit is refused
before a single byte of the body is kept, so a peer can make us hold at most one frame of `limit`
bytes.

The parsers are incremental: feed them what the socket gave, get back whole messages.  After an
error the parser stays broken, since the place of the next frame is unknown.
"""

from __future__ import annotations

from paas.base.errors import RemoteError
from paas.base.limits import FRAME_BYTES_MAX

HEADER_BYTES = 4


def looks_like_json(first: bytes) -> bool:
    """Does a connection that begins with these bytes speak JSON lines?"""
    return first[:1] in (b"{", b"[", b" ", b"\t", b"\r", b"\n") and len(first) > 0


def frame(body: bytes) -> bytes:
    """`body` with its length in front."""
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameParser:
    """Length-prefixed frames.  Raises RemoteError on a frame above `limit` bytes."""

    def __init__(self, limit: int = FRAME_BYTES_MAX) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        # Mostly whole frames come in one piece and are cut from it as they are.
        kept = self._buffer
        buffer: bytes | bytearray = data
        if kept:
            kept += data
            buffer = kept
        bodies: list[bytes] = []
        start, end = 0, len(buffer)
        while end - start >= HEADER_BYTES:
            length = int.from_bytes(buffer[start : start + HEADER_BYTES], "big")
            if length > self._limit:
                self._buffer = bytearray(buffer[start : start + HEADER_BYTES])
                raise RemoteError(f"a frame of {length} bytes exceeds the limit of {self._limit}")
            stop = start + HEADER_BYTES + length
            if stop > end:
                break
            bodies.append(bytes(buffer[start + HEADER_BYTES : stop]))
            start = stop
        if kept:
            del kept[:start]
        else:
            kept += data[start:]
        return bodies

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has begun and not ended."""
        return len(self._buffer)


class LineParser:
    """One value a line; empty ones are skipped.  Raises RemoteError on one above `limit` bytes."""

    def __init__(self, limit: int = FRAME_BYTES_MAX) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        lines: list[bytes] = []
        start = 0
        while (end := buffer.find(b"\n", max(start, self._scanned))) >= 0:
            if end - start > self._limit:
                raise RemoteError(f"a line exceeds the limit of {self._limit} bytes")
            line = bytes(buffer[start:end]).strip()
            if line:
                lines.append(line)
            start = end + 1
        if start:
            del buffer[:start]
        self._scanned = len(buffer)
        if len(buffer) > self._limit:
            raise RemoteError(f"a line exceeds the limit of {self._limit} bytes")
        return lines

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)
