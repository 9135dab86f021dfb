"""Content addresses: "sha256:" and 64 lower-case hexadecimal digits, over a bundle's packed bytes.

The digest is the bundle's name everywhere: what was signed, what a type refers to, what a node
unpacks.  A stream is verified while it passes; its consumer keeps nothing before `verify` returned.
Source: FIPS 180-4 (SHA-256); platform document §4.3.1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NewType

from paas.base.errors import PlatformError, invalid

Digest = NewType("Digest", str)

PREFIX = "sha256:"
_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")


def parse(text: str, field: str = "digest") -> Digest:
    """Check the form of a digest that somebody gave; raises `invalid`."""
    if not _PATTERN.fullmatch(text):
        raise invalid(field, 'expected "sha256:" and 64 lower-case hexadecimal digits')
    return Digest(text)


def of(data: bytes) -> Digest:
    return Digest(PREFIX + hashlib.sha256(data).hexdigest())


def hexadecimal(digest: Digest) -> str:
    """The digits alone, for names of files."""
    return digest.removeprefix(PREFIX)


class Summer:
    """Computes the digest and the length of a stream."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self.size = 0

    def update(self, chunk: bytes) -> None:
        self._sum.update(chunk)
        self.size += len(chunk)

    def digest(self) -> Digest:
        return Digest(PREFIX + self._sum.hexdigest())

    def verify(self, expected: Digest) -> None:
        """Raise `corrupt` unless all that passed has this digest."""
        if self.digest() != expected:
            raise PlatformError(
                "corrupt",
                f"the content of {self.size} bytes has the digest {self.digest()}, not {expected}",
                digest=expected,
            )


def verified(chunks: Iterable[bytes], expected: Digest) -> Iterator[bytes]:
    """Pass the chunks on, and raise `corrupt` after the last one unless they have the digest."""
    summer = Summer()
    for chunk in chunks:
        summer.update(chunk)
        yield chunk
    summer.verify(expected)
