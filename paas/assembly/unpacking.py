"""From a blob of the hub's store to a tree that a container can mount, verified on the way.

The container controller believes neither the hub's word nor its file: the digest is computed over
the very bytes that are unpacked, and the signature over them must be of a publisher that the order
names.  The check of a signature reads the blob once; it is remembered by digest and publishers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import trio

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle import limits, signature
from paas.bundle.digest import Digest
from paas.bundle.unpacked import UnpackedCache

_PREFIX_DIGITS = 2


class BlobReader:
    """Reads a store that another process writes."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        """The blob, piece by piece; raises `corrupt` at the end if it is another."""
        name = digests.hexadecimal(digest)
        try:
            file = (self._blobs / name[:_PREFIX_DIGITS] / name).open("rb")
        except FileNotFoundError:
            raise PlatformError("no-such-bundle", f"{digest} is not in the store") from None
        return digests.verified(_pieces(file), digest)


def _pieces(file: object) -> Iterator[bytes]:
    with file as opened:  # type: ignore[attr-defined]
        while piece := opened.read(limits.CHUNK_BYTES):
            yield piece


class Unpacking:
    """Verified trees for containers, held by the components that use them."""

    def __init__(self, root: Path, reader: BlobReader) -> None:
        self._reader = reader
        self._cache = UnpackedCache(root, reader)
        self._held: dict[str, Digest] = {}
        self._verified: set[tuple[Digest, str, frozenset[str]]] = set()

    async def acquire(
        self, component: str, digest: str, signature_text: str, publishers: list[str]
    ) -> str:
        """The tree of a bundle for a component; raises `untrusted`, `corrupt`, `no-such-bundle`."""
        return str(
            await trio.to_thread.run_sync(
                self._acquire, component, digests.parse(digest), signature_text, publishers
            )
        )

    def _acquire(
        self, component: str, digest: Digest, signature_text: str, publishers: list[str]
    ) -> Path:
        key = (digest, signature_text, frozenset(publishers))
        if key not in self._verified:
            trusted = {k.key_id: k for k in map(signature.parse_public_key, publishers)}
            hashed = signature.prehash(self._reader.chunks(digest))
            signature.verify(signature_text, hashed, trusted)
            self._verified.add(key)
        tree = self._cache.acquire(digest, component)
        self._held[component] = digest
        return tree.resolve()

    def release(self, component: str) -> None:
        """The component's container is gone."""
        digest = self._held.pop(component, None)
        if digest is not None:
            self._cache.release(digest, component)

    def retain(self, components: list[str]) -> None:
        """After a restart: only these still have containers."""
        self._cache.retain(components)
