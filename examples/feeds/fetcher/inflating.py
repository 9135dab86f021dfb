"""Compressed bodies, without the surprise.  Pure.

A kilobyte of gzip can stand for a megabyte.  What comes out is counted while it comes, so a bomb
costs DOCUMENT_BYTES_MAX at most and is then a failure of its source.
"""

from __future__ import annotations

import zlib

DOCUMENT_BYTES_MAX = 4 << 20
"""Of a document, before and after unpacking."""

_GZIP, _ZLIB, _RAW = 31, 15, -15


class BodyError(ValueError):
    """The body cannot be used; the text says why."""


class Body:
    """A body that comes in pieces."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise BodyError(f"the content encoding {self._encoding[:40]!r} is not understood")
        self._inflater = self._begin()
        self._received = 0
        self._made = 0
        self._pieces: list[bytes] = []

    def _begin(self) -> zlib._Decompress | None:
        if self._encoding in ("", "identity"):
            return None
        return zlib.decompressobj(_ZLIB if self._encoding == "deflate" else _GZIP)

    def add(self, data: bytes) -> None:
        """Raises BodyError as soon as it is too much, or is not what it says."""
        self._received += len(data)
        if self._received > DOCUMENT_BYTES_MAX:
            raise BodyError(f"a document has at most {DOCUMENT_BYTES_MAX} bytes")
        if self._inflater is None:
            self._keep(data)
            return
        while data and not self._inflater.eof:
            room = DOCUMENT_BYTES_MAX - self._made + 1
            self._keep(self._inflate(data, room))
            data = self._inflater.unconsumed_tail

    def _inflate(self, data: bytes, room: int) -> bytes:
        assert self._inflater is not None
        try:
            return self._inflater.decompress(data, room)
        except zlib.error:
            if self._encoding == "deflate" and not self._made and len(data) == self._received:
                self._inflater = zlib.decompressobj(_RAW)  # some send it without the zlib header
                return self._inflate_again(data, room)
            raise BodyError("the compressed body is damaged") from None

    def _inflate_again(self, data: bytes, room: int) -> bytes:
        assert self._inflater is not None
        try:
            return self._inflater.decompress(data, room)
        except zlib.error:
            raise BodyError("the compressed body is damaged") from None

    def _keep(self, data: bytes) -> None:
        self._made += len(data)
        if self._made > DOCUMENT_BYTES_MAX:
            raise BodyError(f"an unpacked document has at most {DOCUMENT_BYTES_MAX} bytes")
        self._pieces.append(data)

    def end(self) -> bytes:
        """All of it; raises BodyError when the end is missing."""
        if self._inflater is not None and not self._inflater.eof and self._received:
            raise BodyError("the compressed body ends too early")
        return b"".join(self._pieces)
