"""Btrfs: a template subvolume for each pair of base and bundle, a snapshot of it per container.

    filesystems/btrfs/templates/KEY     base with the bundle in its /app; never written to again
    filesystems/btrfs/ready/KEY-NUMBER  clones that nobody has yet
    containers/COMPONENT/root           the clone of one container
    snapshots/COMPONENT/NAME/data       a read-only snapshot of it

A clone shares every block with its template until it is written.  Its quota group bounds what it
has for itself to `limits.disk_bytes`, and what it can reach to that and the template's size: the
second holds when a snapshot shares the component's own blocks.  Beyond, writing gives `EDQUOT`.
Blocks of metadata count, so very many small files are bounded too.

A snapshot of Btrfs is of one moment, whoever writes meanwhile; nobody has to be stopped for it.  A
new snapshot waits for a transaction to be written (2 to 20 ms), so a few clones are kept ready.

What a crash leaves behind: `ready/*` is emptied at the start, half a template has another name, a
clone is in the directory of its container, which recovery removes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections import deque
from itertools import count

import trio

from paas.base.errors import PlatformError
from paas.bundle.files import reporting_full_disk
from paas.container import limits
from paas.container.filesystems.contract import SNAPSHOT_DATA, SnapshotInfo, Source
from paas.container.filesystems.overlay import Layer
from paas.container.filesystems.views import ROOT
from paas.container.hooks.contract import WantedFiles
from paas.container.plan import APP, Base, Files
from paas.real import kernel_btrfs as btrfs
from paas.real.kernel_store import remove_tree

_FRESH = ".new"
_COPY = 'mount -t overlay paas -o "ro,lowerdir=$1" "$2" && cp -a --reflink=auto "$2/." "$3"'


def template_key(base: Base, bundle_dir: str) -> str:
    """Tells one pair of base and bundle, as they are on the disk now, from all others."""
    facts = []
    for path in (*base.stack, bundle_dir):
        found = os.stat(path)
        facts.append((path, found.st_ino, found.st_mtime_ns))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:40]


class BtrfsFiles:
    """The file system `btrfs`, with its places below the node's state directory."""

    name = "btrfs"
    momentary = True

    def __init__(self, state_dir: str, pool_size: int) -> None:
        place = f"{state_dir}/filesystems/btrfs"
        self._place = place
        self._templates = f"{place}/templates"
        self._clones = f"{place}/ready"
        self._size = pool_size
        self._ready: dict[str, deque[str]] = {}
        self._numbers = count(1)
        self._making = trio.Lock()
        self._wanted = trio.Event()
        for path in (self._templates, self._clones):
            os.makedirs(path, mode=0o700, exist_ok=True)
        btrfs.enable_quota(place)
        for name in os.listdir(self._clones):
            btrfs.destroy(f"{self._clones}/{name}")
        for name in os.listdir(self._templates):
            if name.endswith(_FRESH):
                btrfs.destroy(f"{self._templates}/{name}")

    # -- clones -----------------------------------------------------------------------------

    async def take(self, wanted: WantedFiles) -> Layer:
        with reporting_full_disk():
            key = await trio.to_thread.run_sync(template_key, wanted.base, wanted.bundle_dir)
            await self._have_template(key, wanted)
            ready = self._ready.pop(key, deque())
            self._ready[key] = ready
            while len(self._ready) > limits.POOL_DISK_SIZES:
                for clone in self._ready.pop(next(iter(self._ready))):
                    await trio.to_thread.run_sync(btrfs.destroy, clone)
            self._wanted.set()
            template = f"{self._templates}/{key}"
            clone = ready.popleft() if ready else ""
            await trio.to_thread.run_sync(self._place_clone, clone or template, template, wanted)
            return self._layer(wanted, -1)
        raise AssertionError("the block is left by return or an error")

    def _place_clone(self, source: str, template: str, wanted: WantedFiles) -> None:
        """Move a ready clone to its container, or make one there; then bound it."""
        target = f"{wanted.directory}/{ROOT}"
        btrfs.destroy(target)
        if source.startswith(self._clones):
            os.rename(source, target)
        else:
            btrfs.snapshot(source, target)
        self._bound(target, btrfs.usage(template)[0], wanted.disk_bytes)

    @staticmethod
    def _bound(clone: str, shared_bytes: int, disk_bytes: int) -> None:
        btrfs.limit(clone, referenced=shared_bytes + disk_bytes, exclusive=disk_bytes)

    @staticmethod
    def _layer(wanted: WantedFiles, content_uid_base: int) -> Layer:
        return Layer(
            Files(
                filesystem="btrfs",
                clone=f"{wanted.directory}/{ROOT}",
                content_uid_base=content_uid_base,
            )
        )

    async def restore(self, wanted: WantedFiles, snapshot: SnapshotInfo, path: str) -> Layer:
        with reporting_full_disk():
            await trio.to_thread.run_sync(self._restore, wanted, f"{path}/{SNAPSHOT_DATA}")
            return self._layer(wanted, snapshot.uid_base)
        raise AssertionError("the block is left by return or an error")

    def _restore(self, wanted: WantedFiles, data: str) -> None:
        target = f"{wanted.directory}/{ROOT}"
        template = f"{self._templates}/{template_key(wanted.base, wanted.bundle_dir)}"
        btrfs.destroy(target)
        btrfs.snapshot(data, target)
        reached = btrfs.usage(data)[0]
        shared = btrfs.usage(template)[0] if os.path.isdir(template) else reached
        self._bound(target, max(shared, reached - wanted.disk_bytes), wanted.disk_bytes)

    async def drop(self, directory: str) -> None:
        await trio.to_thread.run_sync(_destroy_if_subvolume, f"{directory}/{ROOT}")

    # -- templates --------------------------------------------------------------------------

    async def _have_template(self, key: str, wanted: WantedFiles) -> None:
        path = f"{self._templates}/{key}"
        async with self._making:
            if not os.path.isdir(path):  # noqa: ASYNC240  (a look at a directory entry)
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._make_template, path, wanted)

    def _make_template(self, path: str, wanted: WantedFiles) -> None:
        fresh, place = f"{path}{_FRESH}", f"{path}.mount"
        btrfs.destroy(fresh)
        btrfs.create(fresh)
        try:
            _copy(wanted.base.stack, fresh, place)
            for name in ("app", "dev", "proc", "run", "sys", "tmp"):
                os.makedirs(f"{fresh}/{name}", exist_ok=True)
            _copy((wanted.bundle_dir,), f"{fresh}{APP}", place)
        except BaseException:
            btrfs.destroy(fresh)
            raise
        os.rename(fresh, path)
        self._forget_oldest(keep=path)

    def _forget_oldest(self, keep: str) -> None:
        """Clones and snapshots of a template do not need it any more."""
        paths = [f"{self._templates}/{name}" for name in os.listdir(self._templates)]
        paths.sort(key=lambda path: os.lstat(path).st_mtime_ns)
        for path in paths[: max(0, len(paths) - limits.TEMPLATES_MAX)]:
            if path != keep:
                btrfs.destroy(path)

    # -- snapshots --------------------------------------------------------------------------

    async def before_snapshot(self, source: Source) -> None:
        return None

    async def snapshot(self, source: Source, path: str) -> int:
        with reporting_full_disk():
            return await trio.to_thread.run_sync(self._snapshot, source, path)
        raise AssertionError("the block is left by return or an error")

    def _snapshot(self, source: Source, path: str) -> int:
        clone, target = f"{source.directory}/{ROOT}", f"{path}/{SNAPSHOT_DATA}"
        try:
            # The figure is of the transaction before: a snapshot writes one, so one is made first.
            btrfs.snapshot(clone, target, read_only=True)
            btrfs.synchronise(clone)
            size = btrfs.usage(clone)[0]
        except FileNotFoundError:
            raise PlatformError("not-available", "the component has ended") from None
        return size

    # -- the pool ---------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            self._wanted = trio.Event()
            for key, ready in list(self._ready.items()):
                if len(ready) >= self._size:
                    continue
                clone = f"{self._clones}/{key}-{next(self._numbers)}"
                try:
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(
                            btrfs.snapshot, f"{self._templates}/{key}", clone
                        )
                except OSError:
                    await trio.sleep(limits.POOL_RETRY_S)
                    self._wanted.set()
                    continue
                if self._ready.get(key) is ready:
                    ready.append(clone)
                    self._wanted.set()
                else:
                    await trio.to_thread.run_sync(btrfs.destroy, clone)
            await self._wanted.wait()
            await trio.sleep(limits.POOL_PAUSE_S)

    def close(self) -> None:
        for ready in self._ready.values():
            for clone in ready:
                btrfs.destroy(clone)
        self._ready.clear()

    async def remove_all(self) -> None:
        await trio.to_thread.run_sync(self._remove_all)

    def _remove_all(self) -> None:
        for place in (self._clones, self._templates):
            for name in os.listdir(place):
                _destroy_if_subvolume(f"{place}/{name}")
        remove_tree(self._place)


def _destroy_if_subvolume(path: str) -> None:
    if btrfs.is_subvolume(path):
        btrfs.destroy(path)


def _copy(stack: tuple[str, ...], target: str, place: str) -> None:
    """Copy a directory, or what a stack of layers shows, with owners, links and all."""
    if len(stack) == 1:
        command = ["cp", "-a", "--reflink=auto", f"{stack[0]}/.", target]
    else:
        os.makedirs(place, mode=0o700, exist_ok=True)
        command = ["unshare", "--mount", "sh", "-c", _COPY, "sh", ":".join(stack), place, target]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        if len(stack) > 1:
            os.rmdir(place)
    if done.returncode:
        full = "No space left" in done.stderr
        number = errno.ENOSPC if full else errno.EIO
        raise OSError(number, f"a template could not be made: {done.stderr.strip()[-400:]}")
