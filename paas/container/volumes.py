"""The volumes of this node: their files, who may attach them, and copies that come from elsewhere.

    volumes/OWNER/EPOCH/NAME.img           volumes/.incoming/OWNER.EPOCH/NAME.img
      attached: at most one container         begin ─> write … write ─> keep: verified, durable,
      reads and writes, nothing else                                    renamed into its place

A copy is named by owner and epoch, which the cluster state gives: a start that names an epoch finds
that copy or fails, and only a `fresh` one may be made.  Whether a copy counts is not known here;
what does not is dropped when the hub says so, never while it is attached.

Files belong to root and to the node's state, not to the containers': they outlive the controller
and an orderly end of the node.  What of a copy was not kept at a crash is an incoming one, which
the next `begin` empties.
"""

from __future__ import annotations

import errno
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

import trio

from paas.base.errors import PlatformError, invalid
from paas.bundle.files import reporting_full_disk
from paas.container import limits
from paas.container.messages import VolumeCopy, VolumeMount
from paas.container.plan import LaunchVolume
from paas.real import kernel_volume as kernel
from paas.real.kernel_loop import Disk
from paas.real.kernel_store import remove_tree

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_INCOMING = ".incoming"
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class Attached:
    """The volumes of one container that is being started."""

    def __init__(self, volumes: tuple[LaunchVolume, ...], disks: list[Disk]) -> None:
        self.volumes = volumes
        self._disks = disks

    def release(self) -> None:
        """Forget them: mounted, they stay for their mounts; otherwise nobody has them."""
        while self._disks:
            self._disks.pop().release()


class Volumes:
    """See the module's text.  One request at a time for each owner; files in worker threads."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._busy: dict[str, trio.Lock] = {}
        self._maps: OrderedDict[int, int] = OrderedDict()

    def close(self) -> None:
        """Let go of what is held for mounts to come."""
        while self._maps:
            os.close(self._maps.popitem()[1])

    # -- for containers --------------------------------------------------------------------------

    async def attach(self, wanted: tuple[VolumeMount, ...], uid_base: int) -> Attached:
        """Block devices with these volumes; made if they are fresh.

        Raises `corrupt` for one that is not there or damaged, `conflict` for one in use,
        `storage-full`.
        """
        disks: list[Disk] = []
        found: list[LaunchVolume] = []
        try:
            for mount in wanted:
                path = self._path(mount.owner, mount.epoch, mount.name)
                async with self._turn(mount.owner):
                    await self._wait_free(path)
                    disk = await self._in_thread(self._open, path, mount)
                disks.append(disk)
                place = await self._in_thread(self._map, uid_base)
                found.append(LaunchVolume(device=disk.device, path=mount.path, owners=place))
        except BaseException:
            Attached((), disks).release()
            raise
        return Attached(tuple(found), disks)

    def _open(self, path: Path, mount: VolumeMount) -> Disk:
        if not path.exists():
            if not mount.fresh:
                raise PlatformError(
                    "corrupt",
                    f"the volume {mount.name} of {mount.owner} is not on this node's disk",
                    hint=f"give it up, if nobody has it: paas volumes remove {mount.owner}",
                )
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._require_room(mount.size_bytes)
            kernel.make_image(str(path), mount.size_bytes, limits.COMPONENT_UID)
        try:
            kernel.make_ready(str(path), mount.size_bytes)
        except kernel.Damaged as exc:
            raise PlatformError(
                "corrupt", f"the volume {mount.name} of {mount.owner} is damaged: {exc}"
            ) from None
        return kernel.attach(str(path))

    def _map(self, uid_base: int) -> str:
        """The path of a user namespace that maps so; empty where there can be none."""
        if uid_base not in self._maps:
            try:
                self._maps[uid_base] = kernel.open_id_map(uid_base, limits.UIDS_PER_CONTAINER)
            except OSError:
                return ""
            while len(self._maps) > limits.VOLUME_MAPS_KEPT:
                os.close(self._maps.popitem(last=False)[1])
        self._maps.move_to_end(uid_base)
        return f"/proc/{os.getpid()}/fd/{self._maps[uid_base]}"

    async def _wait_free(self, path: Path) -> None:
        """A container that has just ended may still be on its way out."""
        with trio.move_on_after(limits.VOLUME_FREE_WAIT_S):
            while kernel.is_attached(str(path)):  # noqa: ASYNC110  (the kernel tells nobody)
                await trio.sleep(limits.REAP_PAUSE_S)
            return
        raise PlatformError("conflict", f"the volume {path.stem} is in use by another container")

    # -- for the hub -----------------------------------------------------------------------------

    async def copies(self, owner: str = "") -> list[VolumeCopy]:
        """Every copy that is here, or those of one owner."""
        return await self._in_thread(lambda: list(self._copies(owner)))

    def _copies(self, wanted: str) -> Iterator[VolumeCopy]:
        found = [(p, p.parent.name, p.name, True) for p in sorted(self._directory.glob("*/*/"))]
        for path in sorted(self._directory.glob(f"{_INCOMING}/*/")):
            owner, _, epoch = path.name.rpartition(".")
            found.append((path, owner, epoch, False))
        for path, owner, epoch, complete in found:
            if _OWNER.fullmatch(owner) and epoch.isdigit() and wanted in ("", owner):
                yield _copy(path, owner, int(epoch), complete=complete)

    async def read(
        self, owner: str, epoch: int, volume: str, offset: int, limit: int
    ) -> tuple[int, bytes, int]:
        """See `kernel_volume.read_piece`.  Raises `conflict` while it is attached."""
        path = self._idle(owner, epoch, volume)
        return await self._in_thread(kernel.read_piece, str(path), offset, limit)

    async def digest(self, owner: str, epoch: int, volume: str) -> tuple[int, str]:
        path = self._idle(owner, epoch, volume)
        return await self._in_thread(kernel.digest, str(path))

    def _idle(self, owner: str, epoch: int, volume: str) -> Path:
        path = self._path(owner, epoch, volume)
        if not path.exists():
            raise PlatformError("no-such-target", f"no copy {epoch} of {owner}/{volume} is here")
        if kernel.is_attached(str(path)):
            raise PlatformError("conflict", f"the volume {volume} of {owner} is in use")
        return path

    async def begin(self, owner: str, epoch: int, sizes: dict[str, int]) -> None:
        """An incoming copy of these volumes, without content; what was of it is dropped."""
        folder = self._incoming(owner, epoch)
        async with self._turn(owner):
            await self._in_thread(self._begin, folder, sizes)

    def _begin(self, folder: Path, sizes: dict[str, int]) -> None:
        remove_tree(str(folder))
        self._require_room(sum(sizes.values()))
        folder.mkdir(parents=True, mode=0o700)
        for name, size in sizes.items():
            kernel.reserve(str(folder / _file(name)), size)

    async def write(self, owner: str, epoch: int, volume: str, offset: int, data: bytes) -> None:
        path = self._incoming(owner, epoch) / _file(volume)
        async with self._turn(owner):
            await self._in_thread(kernel.write_piece, str(path), offset, data)

    async def keep(self, owner: str, epoch: int, digests: dict[str, str]) -> None:
        """The incoming copy is whole: from now on it is one.  Raises `corrupt` if it is not."""
        source, goal = self._incoming(owner, epoch), self._folder(owner, epoch)
        async with self._turn(owner):
            await self._in_thread(self._keep, source, goal, digests)

    def _keep(self, source: Path, goal: Path, digests: dict[str, str]) -> None:
        if goal.exists():
            return  # it was kept before
        if sorted(p.name for p in source.glob("*")) != sorted(map(_file, digests)):
            raise PlatformError("corrupt", "the copy does not have the volumes that were named")
        for name, wanted in digests.items():
            path = str(source / _file(name))
            if kernel.digest(path)[1] != wanted:
                raise PlatformError("corrupt", f"the copy of {name} is not like the original")
            kernel.sync(path)
        kernel.sync(str(source))
        goal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.rename(source, goal)
        kernel.sync(str(goal.parent))
        kernel.sync(str(self._directory))

    async def drop(self, owner: str, epoch: int) -> None:
        """Remove a copy with its content; nothing there is no error.  `conflict` while in use."""
        async with self._turn(owner):
            await self._in_thread(self._drop, owner, epoch)

    def _drop(self, owner: str, epoch: int) -> None:
        remove_tree(str(self._incoming(owner, epoch)))
        folder = self._folder(owner, epoch)
        for path in folder.glob("*.img"):
            self._idle(owner, epoch, path.stem)
        remove_tree(str(folder))
        try:
            folder.parent.rmdir()
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise

    # -- help ------------------------------------------------------------------------------------

    def _folder(self, owner: str, epoch: int) -> Path:
        _check(owner, epoch)
        return self._directory / owner / str(epoch)

    def _incoming(self, owner: str, epoch: int) -> Path:
        _check(owner, epoch)
        return self._directory / _INCOMING / f"{owner}.{epoch}"

    def _path(self, owner: str, epoch: int, volume: str) -> Path:
        return self._folder(owner, epoch) / _file(volume)

    def _require_room(self, size_bytes: int) -> None:
        facts = os.statvfs(self._existing(self._directory))
        free = facts.f_bavail * facts.f_frsize - limits.VOLUMES_LEAVE_BYTES
        if size_bytes > free:
            raise PlatformError(
                "storage-full",
                f"a volume of {size_bytes >> 20} MiB does not fit on this node's disk:"
                f" {max(free, 0) >> 20} MiB may be taken",
                hint="free space on the state directory's file system, or use another node",
            )

    @staticmethod
    def _existing(path: Path) -> Path:
        while not path.exists():
            path = path.parent
        return path

    @asynccontextmanager
    async def _turn(self, owner: str) -> AsyncIterator[None]:
        lock = self._busy.setdefault(owner, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._busy.get(owner) is lock:
                del self._busy[owner]

    async def _in_thread(self, work: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """A thread is not abandoned: what was begun is finished, whatever becomes of the asker."""

        def guarded() -> T:
            with reporting_full_disk():
                return work(*arguments)

        try:
            return await trio.to_thread.run_sync(guarded)
        except OSError as exc:
            raise PlatformError("failed", f"volume: {exc.strerror or exc}") from exc


def _check(owner: str, epoch: int) -> None:
    """Names that come from outside become names of files here, and nothing else."""
    if not _OWNER.fullmatch(owner):
        raise invalid("owner", "the name of a component, or its identifier")
    if epoch <= 0:
        raise invalid("epoch", "a positive number")


def _file(volume: str) -> str:
    if not _NAME.fullmatch(volume):
        raise invalid("volume", "a name of lower-case letters, digits, - and _")
    return f"{volume}.img"


def _copy(folder: Path, owner: str, epoch: int, *, complete: bool) -> VolumeCopy:
    images = sorted(folder.glob("*.img"))
    return VolumeCopy(
        owner=owner,
        epoch=epoch,
        complete=complete,
        attached=any(kernel.is_attached(str(path)) for path in images),
        sizes={path.stem: path.stat().st_size for path in images},
        used={path.stem: kernel.used_bytes(str(path)) for path in images},
        stored=0 if complete else sum(kernel.content_bytes(str(path)) for path in images),
    )
