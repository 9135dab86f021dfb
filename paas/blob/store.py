"""Attachments on a node's disk (io): contents by their digest, and the grants on them.

    <root>/incoming, <root>/blobs      as in the store of bundles, which this is (bundle.store)
    <root>/references/<64 digits>/<key>.<owner>      one grant, an empty file: never half-made

A content comes to its place by a rename, and its grant after it, so that the end of the process
(kill -9) leaves whole contents with a grant, which go on to be served, or leftovers, which the next
start removes: uploads, contents without a grant, grants without a content, copies from other nodes,
and whatever has a name that nobody here gives.  Nothing is synced, since an attachment does not
outlive its calls for long: what the machine's end has torn is found by its digest, which every
content is checked for before it is first read.

Methods block: call them in a worker thread.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from paas.base.errors import PlatformError
from paas.blob import limits
from paas.blob.shelf import COPY
from paas.bundle import digest as digests
from paas.bundle import files
from paas.bundle.digest import Digest
from paas.bundle.store import BlobStore, Incoming

_DIGITS = re.compile(r"[0-9a-f]{64}")
_GRANT = re.compile(rf"([0-9a-f]{{{2 * limits.KEY_BYTES}}})\.([!-~]+)")

Found = tuple[Digest, int, list[tuple[str, str]]]
"""Digest, size, and (key, owner) of each grant."""


class AttachmentStore:
    """One process opens it; its threads may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for folder in ("blobs", "references"):  # before anybody takes a strange name for a digest
            _remove_strange(root / folder)
        self._blobs = BlobStore(
            root, durable=False, signed=False, uploads_max=limits.UPLOADS_MAX + limits.FETCHES_MAX
        )

    def load(self) -> list[Found]:
        """What has survived; the rest is removed."""
        found: list[Found] = []
        for digest in self._blobs.stored():
            grants = []
            for user in self._blobs.references(digest):
                match = _GRANT.fullmatch(user)
                if match is None:
                    self._blobs.release(digest, user)
                else:
                    grants.append((match[1], match[2]))
            if grants:
                found.append((digest, self._blobs.size(digest), grants))
            else:
                self._blobs.delete(digest)
        known = {digests.hexadecimal(digest) for digest, _, _ in found}
        references = self._root / "references"
        for name in sorted(os.listdir(references)):
            if name not in known:
                files.remove_tree(references / name)
        return found

    def begin(self, bytes_max: int) -> Incoming:
        """Begin an upload."""
        return self._blobs.begin(bytes_max)

    def keep(self, upload: Incoming, digest: str, key: str, owner: str) -> None:
        """The upload is whole: keep it, with this grant unless it is a copy.

        Raises `corrupt` when it has another digest, or `storage-full`; then nothing of it stays.
        """
        content = digests.parse(digest)
        new = not self._blobs.has(content)
        upload.commit(content)
        if owner == COPY:
            return
        try:
            self.grant(digest, key, owner)
        except BaseException:
            if new:  # nobody could ever read it, nor would anybody remove it
                self.delete(digest)
            raise

    def grant(self, digest: str, key: str, owner: str) -> None:
        """One more key to a content that is here."""
        with files.reporting_full_disk():
            self._blobs.refer(digests.parse(digest), f"{key}.{owner}")

    def revoke(self, digest: str, key: str, owner: str) -> None:
        self._blobs.release(digests.parse(digest), f"{key}.{owner}")

    def delete(self, digest: str) -> None:
        """Remove a content that has no grant any more; no error if it is not there."""
        try:
            self._blobs.delete(digests.parse(digest))
        except PlatformError as exc:
            if exc.code != "no-such-bundle":
                raise

    def has(self, digest: str) -> bool:
        return self._blobs.has(digests.parse(digest))

    def check(self, digest: str) -> None:
        """Read all of it; raises `corrupt` when it is not what it is called, or not there."""
        try:
            for _ in self._blobs.chunks(digests.parse(digest)):
                pass
        except PlatformError as exc:
            if exc.code == "no-such-bundle":
                raise PlatformError("corrupt", f"{digest} has gone from the disk") from None
            raise

    def piece(self, digest: str, offset: int, count: int) -> bytes:
        """Bytes from `offset` on; raises `corrupt` when the file has gone."""
        try:
            return self._blobs.piece(digests.parse(digest), offset, count)[0]
        except PlatformError as exc:
            if exc.code == "no-such-bundle":
                raise PlatformError("corrupt", f"{digest} has gone from the disk") from None
            raise

    def free_bytes(self) -> int:
        """Left on the file system for those who are not root."""
        told = os.statvfs(self._root)
        return told.f_bavail * told.f_frsize


def _remove_strange(folder: Path) -> None:
    """Remove what no content or grant is called."""
    if not folder.is_dir():
        return
    nested = folder.name == "blobs"
    for entry in sorted(folder.iterdir()):
        inner = sorted(entry.iterdir()) if nested and entry.is_dir() else [entry]
        if nested and (entry.is_symlink() or not entry.is_dir()):
            files.remove_tree(entry)
            continue
        for path in inner:
            right = _DIGITS.fullmatch(path.name) and not path.is_symlink()
            right = right and (
                path.is_file() and path.name[:2] == entry.name if nested else path.is_dir()
            )
            if not right:
                files.remove_tree(path)
