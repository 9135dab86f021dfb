"""The packed form of a layer, taken apart in bounded memory; and packed again, always the same.

    chunks ──> by their first bytes: gzip, zstd, or as they are ──> tar bytes

A layer's media type says how it is packed, but tools have been known to say wrong, so the bytes
decide.  The ratio bound stops a bomb while it is still small: nothing is written anywhere before it
has passed here.  Source: RFC 1952 (gzip, with several members), RFC 8878 (zstd).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

import zstandard

from paas.base.errors import PlatformError
from paas.oci import limits

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
_GZIP_BITS = 31
_LEVEL = 6


def unpacked(
    chunks: Iterable[bytes], bytes_max: int = limits.LAYER_UNPACKED_BYTES_MAX
) -> Iterator[bytes]:
    """The tar bytes of a layer; raises `corrupt` or `limit-exceeded`."""
    source = iter(chunks)
    head = b""
    for piece in source:
        head += piece
        if len(head) >= len(ZSTD_MAGIC):
            break
    whole = _again(head, source)
    if head.startswith(GZIP_MAGIC):
        yield from _bounded(_cut(whole), _Gzip(), bytes_max)
    elif head.startswith(ZSTD_MAGIC) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5):
        yield from _zstd(whole, bytes_max)
    else:
        yield from _bounded(whole, _Plain(), bytes_max)


def packed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """gzip without a time or a name, so that the same layer has the same digest everywhere."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    for chunk in chunks:
        if piece := compressor.compress(chunk):
            yield piece
    yield compressor.flush()


def _again(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _cut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces: what one of them unpacks to stays small."""
    size = 16 << 10
    for chunk in chunks:
        for at in range(0, len(chunk), size):
            yield chunk[at : at + size]


def _bounded(chunks: Iterable[bytes], how: _Gzip | _Plain, bytes_max: int) -> Iterator[bytes]:
    taken = given = 0
    try:
        for chunk in chunks:
            taken += len(chunk)
            for piece in how.feed(chunk):
                given += len(piece)
                _check(taken, given, limits.RATIO_MAX, bytes_max)
                yield piece
        how.close()
    except zlib.error as exc:
        raise PlatformError("corrupt", f"the layer cannot be decompressed: {exc}") from None


def _zstd(chunks: Iterator[bytes], bytes_max: int) -> Iterator[bytes]:
    """By a reader that gives no more than it is asked for, whatever a frame unpacks to.

    A frame that ends too early is not told from one that ends: the layer's digest tells.
    """
    source, given = _Source(chunks), 0
    context = zstandard.ZstdDecompressor(max_window_size=1 << limits.ZSTD_WINDOW_LOG_MAX)
    reader = context.stream_reader(cast(IO[bytes], source), read_across_frames=True)
    try:
        while piece := reader.read(limits.CHUNK_BYTES):
            given += len(piece)
            _check(source.taken, given, limits.ZSTD_RATIO_MAX, bytes_max)
            yield piece
    except zstandard.ZstdError as exc:
        raise PlatformError("corrupt", f"the layer cannot be decompressed: {exc}") from None


def _check(taken: int, given: int, ratio_max: int, bytes_max: int) -> None:
    if taken > limits.LAYER_PACKED_BYTES_MAX:
        raise _too_much(f"{limits.LAYER_PACKED_BYTES_MAX} bytes in packed form")
    if given > bytes_max:
        raise _too_much(f"{bytes_max} bytes")
    if given > limits.RATIO_FREE_BYTES + ratio_max * taken:
        raise PlatformError("limit-exceeded", f"the layer unpacks more than {ratio_max}-fold")


def _too_much(what: str) -> PlatformError:
    return PlatformError("limit-exceeded", f"the layer has more than {what}")


class _Plain:
    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def close(self) -> None:
        return None


class _Gzip:
    """Members one after the other; zero bytes may follow the last."""

    def __init__(self) -> None:
        self._member: Any = zlib.decompressobj(_GZIP_BITS)
        self._ended = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        rest = chunk
        while rest:
            if self._ended:
                rest = rest.lstrip(b"\0")
                if not rest:
                    return
                self._member, self._ended = zlib.decompressobj(_GZIP_BITS), False
            piece = self._member.decompress(rest, limits.CHUNK_BYTES)
            if piece:
                yield piece
            rest = self._member.unconsumed_tail
            if self._member.eof:
                rest, self._ended = self._member.unused_data, True

    def close(self) -> None:
        if not self._ended:
            raise PlatformError("corrupt", "the layer ends in the middle of its packed form")


class _Source:
    """Chunks as the file that the decompressor wants; counts what it took."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""
        self.taken = 0

    def read(self, count: int = -1) -> bytes:
        if not self._held:
            self._held = next(self._chunks, b"")
        size = len(self._held) if count < 0 else count
        piece, self._held = self._held[:size], self._held[size:]
        self.taken += len(piece)
        return piece
