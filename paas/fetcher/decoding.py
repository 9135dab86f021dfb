"""Content codings of answers, undone piece by piece and never beyond the bound.

`gzip` and `deflate` (RFC 9110 §8.4.1), the latter with or without its wrapping, as servers do both.
One coding only: a body coded twice is refused, for each coding multiplies what a byte can become.
zlib is asked for one piece at a time, so that a bomb costs a piece of memory and its own time.
"""

from __future__ import annotations

import zlib

from paas.fetcher.limits import CODED_MEMBERS_MAX, PIECE_BYTES
from paas.fetcher.trouble import trouble

ACCEPTED = "gzip, deflate"
_GZIP_MAGIC = b"\x1f\x8b"


class Decoder:
    """The body as it is meant.  `most`: bytes that it may have."""

    def __init__(self, coding: str, most: int | None) -> None:
        words = [word.strip().lower() for word in coding.split(",")]
        words = [word for word in words if word not in ("", "identity")]
        if len(words) > 1 or (words and words[0] not in ("gzip", "x-gzip", "deflate")):
            raise trouble("coding", f"the body is coded as {coding[:40]!r}, not as gzip or deflate")
        self._kind = words[0].removeprefix("x-") if words else ""
        self._most = most
        self._zlib = zlib.decompressobj(31) if self._kind == "gzip" else None
        self._members = 0
        self._begun = False
        self._over = False
        self.size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Pieces of the body.  Raises PlatformError: body-too-long, coding."""
        if not self._kind:
            self._count(len(data))
            return [data] if data else []
        if self._zlib is None and data:
            # RFC 9110 §8.4.1.2 means zlib's wrapping (RFC 1950); some send RFC 1951 without it.
            wrapped = data[0] & 0x0F == 8 and data[0] >> 4 <= 7
            self._zlib = zlib.decompressobj(15 if wrapped else -15)
        pieces: list[bytes] = []
        full = False
        while (data or full) and not self._over:
            data, full = self._inflate(data, pieces)
        return pieces

    def _inflate(self, data: bytes, pieces: list[bytes]) -> tuple[bytes, bool]:
        """One piece; then the input that is left, and whether more may come without any."""
        assert self._zlib is not None
        self._begun = True
        try:
            piece = self._zlib.decompress(data, PIECE_BYTES)
        except zlib.error:
            raise trouble("coding", f"the body is not valid {self._kind}") from None
        self._count(len(piece))
        if piece:
            pieces.append(piece)
        if not self._zlib.eof:
            return self._zlib.unconsumed_tail, len(piece) == PIECE_BYTES
        rest = self._zlib.unused_data
        if self._kind == "gzip" and (
            rest[:2] == _GZIP_MAGIC or rest[:1] == _GZIP_MAGIC[:1] == rest
        ):
            self._members += 1
            if self._members >= CODED_MEMBERS_MAX:
                raise trouble("coding", "the body has too many members")
            self._zlib = zlib.decompressobj(31)
            self._begun = False
            return rest, False
        self._over = True  # what follows is no part of it; browsers ignore it too
        return b"", False

    def end(self) -> None:
        """The message is over.  Raises PlatformError `coding` when the body is not."""
        if self._zlib is not None and self._begun and not self._zlib.eof:
            raise trouble("coding", f"the {self._kind} body ends in the middle")

    def _count(self, size: int) -> None:
        self.size += size
        if self._most is not None and self.size > self._most:
            raise trouble(
                "body-too-long", f"the body has more than {self._most} bytes", most=self._most
            )
