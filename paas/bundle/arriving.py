"""Blobs on their way into the store, in pieces, each belonging to the connection that sends it.

    begin ─> append … append ─> take: whole, to be looked at and kept by who took it

An upload ends with its connection: what has come of it is removed.  Pieces come in order, without
gaps; what is in the store's incoming files is counted there (`BlobStore.begin`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from paas.base.errors import PlatformError, invalid
from paas.bundle.store import BlobStore, Incoming


@dataclass(slots=True)
class Arriving:
    """The uploads of one service.  Sizes in bytes."""

    store: BlobStore
    size_max: int
    piece_max: int
    _uploads: dict[tuple[Hashable, int], tuple[Incoming, int]] = field(default_factory=dict)
    _last: int = 0

    def check_size(self, size: int) -> None:
        if not 0 < size <= self.size_max:
            raise invalid("size", f"expected 1 to {self.size_max} bytes", param="size")

    def begin(self, owner: Hashable, size: int) -> int:
        """The number of a new upload of a connection.  Raises `invalid`, `limit-exceeded`."""
        self.check_size(size)
        self._last += 1
        self._uploads[owner, self._last] = self.store.begin(size), size
        return self._last

    def append(self, owner: Hashable, number: int, offset: int, data: bytes) -> None:
        """The next piece.  Raises `no-such-target`, `invalid`."""
        upload, _ = self._find(owner, number)
        if offset != upload.size:
            raise invalid("offset", f"expected {upload.size}, the next byte", param="offset")
        if len(data) > self.piece_max:
            raise invalid("data", f"expected at most {self.piece_max} bytes", param="data")
        upload.write(data)

    def take(self, owner: Hashable, number: int) -> Incoming:
        """All of it, from now on the caller's, who has to commit or abort it.

        Raises `no-such-target`, and `corrupt` when it is not whole; then it is over.
        """
        upload, size = self._find(owner, number)
        del self._uploads[owner, number]
        if upload.size != size:
            upload.abort()
            text = f"{upload.size} of the announced {size} bytes have come"
            raise PlatformError("corrupt", text)
        return upload

    def closed(self, owner: Hashable) -> None:
        """The connection is gone."""
        for key in [k for k in self._uploads if k[0] is owner]:
            self._uploads.pop(key)[0].abort()

    def _find(self, owner: Hashable, number: int) -> tuple[Incoming, int]:
        try:
            return self._uploads[owner, number]
        except KeyError:
            text = f"this connection has no upload {number}"
            raise PlatformError("no-such-target", text) from None
