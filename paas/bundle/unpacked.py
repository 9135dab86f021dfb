"""Bundles laid out for containers (io): one read-only tree per digest, shared by all that run it.

    <root>/boot                    which boot of the machine this cache belongs to
    <root>/trees/<64 digits>/      a complete tree; `.unpack-*`, `.evict-*` are leftovers
    <root>/holders/<64 digits>/    who uses it: an empty file per component

A tree is there whole or not at all (one rename), and belongs to whoever runs us: root, on a node.
Trees are not synced: the blobs are, and a tree can be made again.  So a cache from before a reboot,
which a power cut may have torn, is thrown away; within one boot, killing us loses nothing, and the
holders are still known, so that no tree is taken from under a component that outlived us.  Requests
for one digest at the same time extract once.  Methods block: call them in worker threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol

from paas.bundle import digest as digests
from paas.bundle import files
from paas.bundle.digest import Digest
from paas.bundle.extract import extract, remove_leftovers
from paas.bundle.references import References

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EVICT_PREFIX = ".evict-"
_BLOCK_BYTES = 4096


class Source(Protocol):
    """Where packed bytes come from: a `store.BlobStore`, or another node."""

    def chunks(self, digest: Digest) -> Iterator[bytes]: ...


class UnpackedCache:
    """The trees of one node."""

    def __init__(
        self,
        root: Path,
        source: Source | None = None,
        *,
        lay_out: Callable[[Digest, Path], None] | None = None,
        boot_id: str = "",
    ) -> None:
        """Either a source of bundles, or what makes the tree of a digest: whole, or not at all."""
        self._lay_out = lay_out or _extraction(source)
        self._trees = root / "trees"
        self._lock = threading.Lock()
        self._extracting: dict[Digest, threading.Lock] = {}
        self._evictions = itertools.count()
        boot = boot_id or _BOOT_ID.read_text().strip()
        with files.reporting_full_disk():
            files.make_directory(root, 0o755)
            _forget_other_boot(root, boot)
            files.make_directory(self._trees, 0o755)
            self._holders = References(root / "holders", durable=False)
            self._recover()

    def acquire(self, digest: Digest, holder: str) -> Path:
        """The tree of a bundle, extracted if need be, held until `release`.

        Raises what extraction raises; then nothing is held.
        """
        name = digests.hexadecimal(digests.parse(digest))
        with self._lock:
            self._holders.add(name, holder)
            turn = self._extracting.setdefault(digest, threading.Lock())
        tree = self._trees / name
        try:
            with turn:
                if not tree.is_dir():
                    self._lay_out(digest, tree)
                else:
                    os.utime(tree)  # the order of eviction
        except BaseException:
            with self._lock:
                self._holders.drop(name, holder)
            raise
        return tree

    def hold(self, digest: Digest, holder: str) -> Path | None:
        """The tree, held until `release`, if it is laid out; it is not made."""
        name = digests.hexadecimal(digests.parse(digest))
        with self._lock:
            if not (self._trees / name).is_dir():
                return None
            self._holders.add(name, holder)
        return self._trees / name

    def release(self, digest: Digest, holder: str) -> None:
        """The component is gone; its tree stays until room is needed."""
        with self._lock:
            self._holders.drop(digests.hexadecimal(digest), holder)

    def retain(self, holders: Collection[str]) -> None:
        """After a restart: everybody who is not among `holders` has gone."""
        with self._lock:
            for name in self._holders.things():
                for user in self._holders.users(name):
                    if user not in holders:
                        self._holders.drop(name, user)

    def in_use(self, digest: Digest) -> int:
        """How many components hold the tree."""
        return len(self._holders.users(digests.hexadecimal(digest)))

    def laid_out(self) -> list[Digest]:
        """The bundles that are laid out."""
        return [Digest(digests.PREFIX + name) for name in self._names()]

    def evict(self, bytes_max: int) -> list[Digest]:
        """Remove trees that nobody holds, longest unused first, until the rest fits."""
        evicted = []
        with self._lock:
            ages = {name: (self._trees / name).stat().st_mtime_ns for name in self._names()}
            sizes = {name: _tree_bytes(self._trees / name) for name in ages}
            total = sum(sizes.values())
            for name in sorted(ages, key=lambda name: (ages[name], name)):
                if total <= bytes_max:
                    break
                if not self._holders.users(name):
                    self._remove(name)
                    total -= sizes[name]
                    evicted.append(Digest(digests.PREFIX + name))
        return evicted

    def keep_only(self, wanted: Collection[Digest]) -> list[Digest]:
        """Remove trees that are neither wanted nor held; what went.

        Nobody has to wait meanwhile, who holds another tree or lets it go.
        """
        gone = []
        for digest in self.laid_out():
            name = digests.hexadecimal(digest)
            with self._lock:
                if digest in wanted or self._holders.users(name):
                    continue
                doomed = self._hide(name)
            files.remove_tree(doomed)
            gone.append(digest)
        return gone

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._trees) if not name.startswith("."))

    def _remove(self, name: str) -> None:
        """First out of sight at once, then piece by piece: a crash leaves no half tree in use."""
        files.remove_tree(self._hide(name))

    def _hide(self, name: str) -> Path:
        """Under the lock: from now on the tree is not there; where it is, to be removed."""
        doomed = self._trees / f"{_EVICT_PREFIX}{next(self._evictions)}-{name}"
        (self._trees / name).rename(doomed)
        self._extracting.pop(Digest(digests.PREFIX + name), None)
        return doomed

    def _recover(self) -> None:
        remove_leftovers(self._trees)
        for name in os.listdir(self._trees):
            if name.startswith(_EVICT_PREFIX):
                files.remove_tree(self._trees / name)


def _extraction(source: Source | None) -> Callable[[Digest, Path], None]:
    if source is None:
        raise AssertionError("a cache needs a source, or to know how trees are made")
    return lambda digest, tree: extract(source.chunks(digest), tree, digest)


def _forget_other_boot(root: Path, boot_id: str) -> None:
    """Empty the cache unless it was written since this machine started."""
    marker = root / "boot"
    if marker.is_file() and marker.read_text() == boot_id:
        return
    for name in ("trees", "holders"):
        files.remove_tree(root / name)
    temporary = root / ".boot"
    temporary.write_text(boot_id)
    temporary.replace(marker)


def _tree_bytes(tree: Path) -> int:
    """What the tree takes on a disk: sizes in whole blocks, as blocks may not be allocated yet."""
    sizes = (
        os.lstat(os.path.join(folder, name)).st_size
        for folder, directories, names in os.walk(tree)
        for name in (*directories, *names)
    )
    return sum(-(-size // _BLOCK_BYTES) * _BLOCK_BYTES for size in sizes)
