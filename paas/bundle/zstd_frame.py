"""A gate before the decompressor: one zstd frame of our form, and nothing after it.

    magic | 0x04: checksum, no size, no dictionary | window | blocks ... last block | checksum

The gate reads only the frame header and the three bytes before each block, so it costs nothing, and
answers what the decompressor hides: where the frame ended, and whether bytes follow.  A frame that
asks for a large window, a dictionary or a second frame is refused before a byte is decompressed.
Source: RFC 8878 §3.1.1 (Zstandard frames and blocks).
"""

from __future__ import annotations

from collections.abc import Callable

from paas.base.errors import PlatformError
from paas.bundle.limits import WINDOW_LOG_MAX

HEADER_BYTES = 6
"""Magic number, descriptor and window."""

Step = Callable[[bytes], None]

_MAGIC = b"\x28\xb5\x2f\xfd"
_DESCRIPTOR = 0x04
_CHECKSUM_BYTES = 4
_BLOCK_HEADER_BYTES = 3
_RLE, _RESERVED = 1, 3
_WINDOW_LOG_BASE = 10


class Gate:
    """Follows the packed bytes chunk by chunk; raises on the first that may not be there."""

    def __init__(self) -> None:
        self._wanted = HEADER_BYTES
        self._held = b""
        self._step: Step = self._header
        self._last = False

    def feed(self, chunk: bytes) -> None:
        """Look at the next packed bytes; raises `invalid` or `corrupt`."""
        at = 0
        while at < len(chunk):
            if self._step == self._end:
                raise PlatformError("invalid", "the archive has further bytes after its end")
            taken = min(self._wanted, len(chunk) - at)
            if self._step != self._skip:
                self._held += chunk[at : at + taken]
            at += taken
            self._wanted -= taken
            if self._wanted == 0:
                held, self._held = self._held, b""
                self._step(held)

    def close(self) -> None:
        """The packed bytes are over; raises `corrupt` when the frame is not."""
        if self._step != self._end:
            raise PlatformError("corrupt", "the archive ends too early")

    def _header(self, held: bytes) -> None:
        if held[:4] != _MAGIC:
            raise PlatformError("corrupt", "this is not a zstd archive")
        if held[4] != _DESCRIPTOR:
            raise PlatformError(
                "invalid", "the archive's compression is not in the form of bundles; build it again"
            )
        if (held[5] >> 3) + _WINDOW_LOG_BASE + (1 if held[5] & 7 else 0) > WINDOW_LOG_MAX:
            raise PlatformError("limit-exceeded", "the archive asks for too large a window")
        self._expect(_BLOCK_HEADER_BYTES, self._block)

    def _block(self, held: bytes) -> None:
        word = int.from_bytes(held, "little")
        kind, size = word >> 1 & 3, word >> 3
        if kind == _RESERVED:
            raise PlatformError("corrupt", "the archive has a compressed block of no known type")
        self._last = bool(word & 1)
        self._wanted = 1 if kind == _RLE else size
        self._step = self._skip
        if self._wanted == 0:
            self._skip(b"")

    def _skip(self, _held: bytes) -> None:
        if self._last:
            self._expect(_CHECKSUM_BYTES, self._checksum)
        else:
            self._expect(_BLOCK_HEADER_BYTES, self._block)

    def _checksum(self, _held: bytes) -> None:
        self._expect(0, self._end)

    def _end(self, _held: bytes) -> None:
        raise AssertionError("the end of a frame is not stepped over")

    def _expect(self, count: int, step: Step) -> None:
        self._wanted = count
        self._step = step
