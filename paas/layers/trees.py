"""Images laid out for containers (io): one read-only tree per stack of layers, files shared.

    <root>/trees/<chain id>/…   complete trees (`bundle.unpacked`: holders, boots, leftovers)
    <root>/files/<2>/<key>      every content once; trees have hard links to it

A tree is what a stack of layers makes, under its chain id, so images with the same layers have one
tree.  Images that share some layers share the files: a file's key is the digest over its bytes, and
another over its path, owner, mode and time, and two trees that need the same have one inode.  The
path is part of it, so two names in one tree are one file only where the image says so (a hard
link), and a copy of the tree means what the image means.  Nothing writes to a file after it was
made: the trees are lower layers.

Verified on the way: of each layer the digest of the stored bytes and that of the tar bytes; a tree
appears when all were right.  `damaged` reads all again and compares every file with its key.
Methods block: call them in worker threads.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from paas.base.errors import PlatformError
from paas.bundle import digest as digests
from paas.bundle import files
from paas.bundle import limits as bundle_limits
from paas.bundle.digest import Digest
from paas.bundle.extract import TEMPORARY_PREFIX
from paas.bundle.unpacked import UnpackedCache
from paas.layers.cloning import Facts, clone
from paas.layers.unpack import OpenInRoot, Unpacked, Unpacker
from paas.oci import compression
from paas.oci.documents import Layer, chain_id
from paas.oci.tar_reader import Entry

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAMED_MAX = 20
_FACTS_DIGITS = 32


class StoredLayers:
    """Reads the blobs that the hub's process writes.

    It is another user's: whatever lies under a blob's name there, a link is not followed and a pipe
    is not waited for.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        """The stored bytes; raises `corrupt` at the end if they are others."""
        name = digests.hexadecimal(digest)
        try:
            descriptor = os.open(self._blobs / name[:2] / name, _READ)
        except OSError:
            raise PlatformError("corrupt", f"layer {digest} is not in the store") from None
        with open(descriptor, "rb") as file:
            yield from digests.verified(
                iter(lambda: file.read(bundle_limits.CHUNK_BYTES), b""), digest
            )


class FilePool:
    """The contents of all trees; see the module's text."""

    def __init__(self, root: Path) -> None:
        self._root = root
        files.make_directory(root, 0o700)

    def write(self, descriptor: int, entry: Entry, content: Iterable[bytes]) -> str:
        """Write a file's content; its key."""
        summer = hashlib.sha256()
        for piece in content:
            summer.update(piece)
            files.write_all(descriptor, piece)
        facts = repr((entry.parts, entry.mode & 0o777, entry.uid, entry.gid, entry.mtime)).encode()
        return f"{summer.hexdigest()}-{hashlib.sha256(facts).hexdigest()[:_FACTS_DIGITS]}"

    def keep(self, directory: int, name: bytes, entry: Entry, content: str) -> None:
        """Share with an equal file; a file system's bound of links makes it stay alone."""
        pooled = self._path(content)
        with contextlib.suppress(FileExistsError):
            pooled.parent.mkdir(mode=0o700)
        try:
            os.link(name, pooled, src_dir_fd=directory)
        except FileExistsError:
            self._share(pooled, directory, name)
        except OSError as exc:
            if exc.errno != errno.EMLINK:
                raise

    @staticmethod
    def _share(pooled: Path, directory: int, name: bytes) -> None:
        own = os.lstat(name, dir_fd=directory)
        spare = b".paas-shared"
        try:
            found = pooled.lstat()
            if found.st_size != own.st_size or found.st_ino == own.st_ino:
                return
            os.link(pooled, spare, dst_dir_fd=directory)
        except OSError as exc:
            if exc.errno not in (errno.EMLINK, errno.EEXIST, errno.ENOENT):
                raise
            return  # it has gone meanwhile, or has too many links
        os.rename(spare, name, src_dir_fd=directory, dst_dir_fd=directory)

    def clean(self) -> int:
        """Forget what no tree has any more; how many files went."""
        gone = 0
        for path in self._all():
            if path.lstat().st_nlink == 1:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def by_inode(self) -> dict[int, Path]:
        """All files, by what trees have of them."""
        return {path.lstat().st_ino: path for path in self._all()}

    @staticmethod
    def is_whole(pooled: Path) -> bool:
        """Are the bytes what the key says?"""
        with pooled.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return found == pooled.name.partition("-")[0]

    def _all(self) -> Iterator[Path]:
        for folder in self._root.iterdir():
            yield from folder.iterdir()

    def _path(self, key: str) -> Path:
        return self._root / key[:2] / key


class Trees:
    """The unpacked images of one node."""

    def __init__(
        self, root: Path, source: StoredLayers, open_in_root: OpenInRoot, *, boot_id: str = ""
    ) -> None:
        self._source = source
        self._open_in_root = open_in_root
        self._layers: dict[Digest, tuple[Layer, ...]] = {}
        self._lock = threading.Lock()
        self._root = root
        files.make_directory(root, 0o755)
        self._cache = UnpackedCache(root, lay_out=self._lay_out, boot_id=boot_id)
        self._pool = FilePool(root / "files")
        self._unclean = True
        """An earlier process may have left files that no tree has."""
        self.last = Unpacked()

    def acquire(self, layers: Sequence[Layer], holder: str) -> Path:
        """The tree of these layers, made if need be, held until `release`.

        Raises `corrupt` when a layer is missing or damaged here, and what unpacking raises.
        """
        chain = digests.parse(chain_id([layer.diff_id for layer in layers]))
        with self._lock:
            self._layers[chain] = tuple(layers)
        return self._cache.acquire(chain, holder)

    def release(self, chain: str, holder: str) -> None:
        self._cache.release(digests.parse(chain), holder)

    def retain(self, holders: Collection[str]) -> None:
        """After a restart: everybody who is not among `holders` has gone."""
        self._cache.retain(holders)

    def laid_out(self) -> list[Digest]:
        return self._cache.laid_out()

    def keep_only(self, chains: Collection[str]) -> list[Digest]:
        """Remove trees that are neither named nor held, and the files that only they had."""
        gone = self._cache.keep_only([digests.parse(chain) for chain in chains])
        if gone or self._unclean:
            self._unclean = False
            self._pool.clean()
        return gone

    def damaged(self, chain: str) -> list[str]:
        """Read a tree again; the names of files that are not what they were, some of many.

        What is damaged is not shared with trees to come.
        """
        tree = self._root / "trees" / digests.hexadecimal(digests.parse(chain))
        pooled, found = self._pool.by_inode(), list[str]()
        judged: dict[int, bool] = {}
        for folder, _, names in os.walk(tree):
            for name in names:
                path = Path(folder, name)
                number = path.lstat().st_ino
                file = pooled.get(number)
                if file is None:
                    continue  # empty, no regular file, or with too many links to be shared
                if number not in judged:
                    judged[number] = self._pool.is_whole(file)
                    if not judged[number]:
                        file.unlink()
                if not judged[number] and len(found) < _NAMED_MAX:
                    found.append(str(path.relative_to(tree)))
        return found

    def _lay_out(self, chain: Digest, tree: Path) -> None:
        layers = self._layers[chain]
        with files.reporting_full_disk():
            temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=tree.parent))
            try:
                temporary.chmod(0o755)
                self._unpack(layers, temporary, f"begins-{digests.hexadecimal(chain)}")
                os.rename(temporary, tree)
            except BaseException:
                files.remove_tree(temporary)
                raise

    def _unpack(self, layers: Sequence[Layer], root: Path, holder: str) -> None:
        times, done = self._begin(layers, root, holder)
        unpacker = Unpacker(str(root), self._open_in_root, self._pool.write, self._pool)
        unpacker.begin(times)
        whole = False
        try:
            for layer in layers[done:]:
                unpacker.apply(self._tar_bytes(layer))
            whole = True
        finally:
            unpacker.close(finish=whole)
        self.last = unpacker.done

    def _begin(self, layers: Sequence[Layer], root: Path, holder: str) -> tuple[Facts, int]:
        """Link what the most of the lower layers make, if that is laid out; how many they are.

        It is held meanwhile: half of a tree that is being removed would look like a whole one.
        """
        diff_ids = [layer.diff_id for layer in layers]
        for done in range(len(layers) - 1, 0, -1):
            chain = Digest(chain_id(diff_ids[:done]))
            tree = self._cache.hold(chain, holder)
            if tree is None:
                continue
            try:
                return clone(os.fsencode(tree), os.fsencode(root)), done
            except OSError as exc:
                if exc.errno not in (errno.EMLINK, errno.ENAMETOOLONG):
                    raise
                files.empty_directory(root)
            finally:
                self._cache.release(chain, holder)
        return {}, 0

    def _tar_bytes(self, layer: Layer) -> Iterator[bytes]:
        stored = self._source.chunks(digests.parse(layer.digest))
        return digests.verified(compression.unpacked(stored), digests.parse(layer.diff_id))
