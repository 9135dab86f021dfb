"""Bundles on a node's disk by their digest (io): whole and durable, or not there.

    <root>/incoming/<random>       being written; removed at the next start
    <root>/blobs/<2 digits>/<64 digits>
    <root>/references/<64 digits>/<type>

Put: write to `incoming`, compare digest and size, fsync, rename, fsync the directory.  After any
crash the blob is under its name with all its bytes, or only a leftover in `incoming` exists.  What
is kept for a while only (`durable` false: attachments of messages) is not synced: the end of the
process does it no harm, and what the machine's end has torn has another digest.  Read:
every reader computes the digest again, so a bit that flipped on the disk is an error and never a
program.  Storing a digest again replaces the file, which heals a damaged one.  A blob that a type
refers to is never removed; one that nobody refers to goes by `collect`, except those the caller
keeps (an upload whose type is about to be registered).  Methods block: call them in a worker
thread.  Source: platform document §4.3.1 ("upload to a repository"); SQLite, "Atomic Commit", for
the order.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle import files, limits
from paas.bundle.digest import Digest, Summer
from paas.bundle.references import References
from paas.bundle.signature import PreHash

_PREFIX_DIGITS = 2


class Incoming:
    """One upload: pieces in order, then `commit` or `abort`; leaving its context aborts it."""

    def __init__(self, store: BlobStore, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._summer = Summer()
        self._hasher = PreHash() if store.signed else None
        self._descriptor = -1
        with files.reporting_full_disk():
            self._descriptor, name = tempfile.mkstemp(dir=store.incoming)
        self._path = Path(name)

    @property
    def size(self) -> int:
        """Bytes received so far: the offset of the next piece."""
        return self._summer.size

    @property
    def prehash(self) -> bytes:
        """What the signature of the bytes received so far must be over."""
        assert self._hasher is not None, "nothing in this store is signed"
        return self._hasher.digest()

    @property
    def digest(self) -> Digest:
        """Of the bytes received so far."""
        return self._summer.digest()

    def piece(self, offset: int, count: int) -> bytes:
        """At most `count` of the bytes received so far.

        By a descriptor of its own: a write that fails in another thread closes the upload's, whose
        number may be another file's by then.  Raises FileNotFoundError after the end.
        """
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), min(count, max(0, self.size - offset)), offset)

    def chunks(self) -> Iterator[bytes]:
        """The bytes received so far, to check them before they are kept."""
        at = 0
        while piece := os.pread(self._open(), limits.CHUNK_BYTES, at):
            at += len(piece)
            yield piece

    def write(self, chunk: bytes) -> None:
        """Append; raises `limit-exceeded` or `storage-full`, after which the upload is gone."""
        if self.size + len(chunk) > self._bytes_max:
            self.abort()
            raise PlatformError(
                "limit-exceeded", f"the upload has more than {self._bytes_max} bytes"
            )
        try:
            with files.reporting_full_disk():
                files.write_all(self._open(), chunk)
        except BaseException:
            self.abort()
            raise
        self._summer.update(chunk)
        if self._hasher is not None:
            self._hasher.update(chunk)

    def commit(self, expected: Digest) -> None:
        """Keep what was received under its digest, durably; raises `corrupt` if it has another."""
        try:
            self._summer.verify(expected)
            with files.reporting_full_disk():
                os.fchmod(self._open(), 0o444)
                if self._store.durable:
                    os.fsync(self._descriptor)
                self._store.keep(self._path, expected)
        finally:
            self.abort()

    def abort(self) -> None:
        """Forget the upload; after `commit` it changes nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._path.unlink(missing_ok=True)
            self._store.finished()

    def _open(self) -> int:
        if self._descriptor < 0:
            raise PlatformError("invalid", "upload: this upload has ended", field="upload")
        return self._descriptor

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


class BlobStore:
    """All bundles of one node.  One process opens a store; its threads may share it."""

    def __init__(
        self,
        root: Path,
        *,
        durable: bool = True,
        signed: bool = True,
        uploads_max: int = limits.UPLOADS_MAX,
    ) -> None:
        """`durable`: survives the machine's end; `signed`: uploads have a `prehash`."""
        self.incoming = root / "incoming"
        self.durable = durable
        self.signed = signed
        self._uploads_max = uploads_max
        self._blobs = root / "blobs"
        self._lock = threading.Lock()
        self._uploads = 0
        with files.reporting_full_disk():
            for folder in (root, self._blobs):
                files.make_directory(folder, 0o755)
            files.make_directory(self.incoming, 0o700)
            self._references = References(root / "references", durable=durable)
            for name in os.listdir(self.incoming):  # an upload does not outlive its process
                files.remove_tree(self.incoming / name)

    def begin(self, bytes_max: int = limits.BUNDLE_BYTES_MAX) -> Incoming:
        """Start an upload of at most `bytes_max` bytes."""
        with self._lock:
            if self._uploads >= self._uploads_max:
                raise PlatformError(
                    "limit-exceeded", f"{self._uploads_max} uploads are under way; try later"
                )
            self._uploads += 1
        try:
            return Incoming(self, bytes_max)
        except BaseException:
            self.finished()
            raise

    def put(
        self,
        chunks: Iterable[bytes],
        expected: Digest,
        bytes_max: int = limits.BUNDLE_BYTES_MAX,
    ) -> int:
        """Store a stream under its digest; its size."""
        with self.begin(bytes_max) as upload:
            for chunk in chunks:
                upload.write(chunk)
            upload.commit(expected)
            return upload.size

    def has(self, digest: Digest) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: Digest) -> int:
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        """The blob, piece by piece; raises `corrupt` after the last one if they are not the blob.

        Nothing made from the pieces may be used before the iteration has ended without error.
        """
        try:
            file = self.path(digest).open("rb")
        except FileNotFoundError:
            raise _missing(digest) from None
        return digests.verified(_pieces(file), digest)

    def piece(self, digest: Digest, offset: int, count: int) -> tuple[bytes, int]:
        """(bytes from `offset` on, size of the whole), unverified: whoever gets all verifies."""
        try:
            with self.path(digest).open("rb") as file:
                return os.pread(file.fileno(), count, offset), os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def get(self, digest: Digest) -> bytes:
        """The whole blob, verified."""
        return b"".join(self.chunks(digest))

    def stored(self) -> list[Digest]:
        """Every stored digest, sorted."""
        return sorted(
            Digest(digests.PREFIX + path.name)
            for folder in self._blobs.iterdir()
            for path in folder.iterdir()
        )

    def refer(self, digest: Digest, user: str) -> None:
        """Note that `user` (a type's name) needs the blob; raises `no-such-bundle` without it."""
        with self._lock:
            if not self.has(digest):
                raise _missing(digest)
            self._references.add(digests.hexadecimal(digest), user)

    def release(self, digest: Digest, user: str) -> None:
        """Take the note back; harmless when there is none."""
        with self._lock:
            self._references.drop(digests.hexadecimal(digest), user)

    def references(self, digest: Digest) -> list[str]:
        return self._references.users(digests.hexadecimal(digest))

    def delete(self, digest: Digest) -> None:
        """Remove a blob; raises `conflict` while a type refers to it."""
        with self._lock:
            if users := self.references(digest):
                raise PlatformError(
                    "conflict", f"{digest} is used by {', '.join(users[:5])}", users=users[:5]
                )
            if not self.has(digest):
                raise _missing(digest)
            self._remove(digest)

    def collect(self, keep: Collection[Digest] = ()) -> list[Digest]:
        """Remove every blob that nobody refers to and the caller does not keep; what went."""
        removed = []
        with self._lock:
            for digest in self.stored():
                if digest not in keep and not self.references(digest):
                    self._remove(digest)
                    removed.append(digest)
        return removed

    def path(self, digest: Digest) -> Path:
        """Where the blob is, if it is; reading it so skips the check of its content."""
        name = digests.hexadecimal(digests.parse(digest))
        return self._blobs / name[:_PREFIX_DIGITS] / name

    def keep(self, file: Path, digest: Digest) -> None:
        """For uploads: take a complete and synced file over under its name."""
        target = self.path(digest)
        with self._lock:
            files.make_directory(target.parent, 0o755)
            os.replace(file, target)
            if self.durable:
                files.sync_directory(target.parent)

    def finished(self) -> None:
        """For uploads: one has ended."""
        with self._lock:
            self._uploads -= 1

    def _remove(self, digest: Digest) -> None:
        path = self.path(digest)
        path.unlink()
        if self.durable:
            files.sync_directory(path.parent)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(limits.CHUNK_BYTES):
            yield piece


def _missing(digest: Digest) -> PlatformError:
    return PlatformError("no-such-bundle", f"no bundle {digest} is stored", digest=digest)
