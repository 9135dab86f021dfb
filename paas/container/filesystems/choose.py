"""Which file system this node's containers get, and the one object that the engine works with.

    auto      btrfs where the state directory is on Btrfs, else overlay where the kernel has
              overlayfs, else binds
    others    as said; `unsupported`, with what is missing, where the node lacks it

A snapshot is of the file system it was made on: after a change of the setting the earlier ones can
be removed, not restored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from paas.base.errors import PlatformError
from paas.container.filesystems.btrfs import BtrfsFiles
from paas.container.filesystems.contract import SNAPSHOT_DATA, FileSystem, SnapshotInfo, files_key
from paas.container.filesystems.images import ImagePool
from paas.container.filesystems.overlay import LayeredFiles
from paas.container.filesystems.store import SnapshotStore
from paas.container.filesystems.views import SKELETONS
from paas.container.hooks.contract import WantedFiles, WritableLayer
from paas.container.settings import ContainerSettings
from paas.real import kernel_btrfs, kernel_loop


def lacking(name: str, state_dir: str) -> str | None:
    """What this node lacks for a file system, if anything."""
    if name == "overlay":
        there = "overlay" in Path("/proc/filesystems").read_text().split()
        return None if there else "overlayfs in the kernel (modprobe overlay)"
    if name == "btrfs":
        place = Path(state_dir)
        while not place.is_dir():
            place = place.parent
        on_btrfs = kernel_btrfs.identifier(str(place)) is not None
        return None if on_btrfs else f"a state directory on Btrfs ({state_dir} is on another)"
    return None


def choose_name(wanted: str, state_dir: str) -> str:
    """The file system for this node; raises `unsupported`."""
    if wanted == "auto":
        return next(n for n in ("btrfs", "overlay", "binds") if lacking(n, state_dir) is None)
    missing = lacking(wanted, state_dir)
    if missing is not None:
        raise PlatformError(
            "unsupported",
            f"the file system {wanted} needs {missing}",
            hint="choose another, or auto, in the node's settings",
            field="filesystem",
        )
    return wanted


def images_for(settings: ContainerSettings, filesystem: str) -> ImagePool | None:
    """Where layers in images come from; None where they are memory."""
    missing = kernel_loop.missing()
    by_default = "memory" if filesystem == "binds" or missing else "image"
    kind = by_default if settings.disk == "auto" else settings.disk
    if kind == "memory":
        return None
    if missing:
        raise PlatformError("unsupported", f"layers in images need {missing}")
    return ImagePool(f"{settings.state_dir}/layers", settings.pool_disks, SKELETONS[filesystem])


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Implements `hooks.contract.Layers` on the chosen file system and the kept snapshots."""

    filesystem: FileSystem
    store: SnapshotStore

    async def take(self, wanted: WantedFiles) -> WritableLayer:
        """Those of the snapshot that the component is to go back to, or new ones."""
        order = self.store.ordered(wanted.component)
        if order is None:
            return await self.filesystem.take(wanted)
        info = self.store.info(wanted.component, order.name)
        if info is None:
            self.store.fulfilled(wanted.component, order.token)  # it was removed meanwhile
            return await self.filesystem.take(wanted)
        self.check_fits(info, files_key(wanted.base, wanted.bundle_dir))
        path = self.store.path(wanted.component, order.name)
        return await self.filesystem.restore(wanted, info, path)

    def check_fits(self, info: SnapshotInfo, key: str) -> None:
        """Raises `conflict` for a snapshot of another file system or of other programs."""
        if info.filesystem != self.filesystem.name:
            now = self.filesystem.name
            raise PlatformError(
                "conflict", f"the snapshot was made on {info.filesystem}; this node now uses {now}"
            )
        if info.files_key != key:
            raise PlatformError(
                "conflict",
                "the snapshot was made of another version of this component or of its base",
                hint="paas snapshots remove TARGET NAME",
            )

    def order_token(self, component: str) -> str:
        """Names the order to go back that `take` follows now; empty: none."""
        order = self.store.ordered(component)
        return "" if order is None else order.token

    def fulfilled(self, component: str, token: str) -> None:
        """The component ran with the snapshot's files: the order is done."""
        self.store.fulfilled(component, token)

    async def remove_snapshot(self, path: str) -> None:
        """Remove the content of a snapshot, whichever file system made it; none is no error."""
        await trio.to_thread.run_sync(_remove_content, f"{path}/{SNAPSHOT_DATA}")

    async def drop(self, directory: str) -> None:
        await self.filesystem.drop(directory)

    async def run(self) -> None:
        await self.filesystem.run()

    def close(self) -> None:
        self.filesystem.close()

    async def remove_all(self) -> None:
        """Everything, snapshots too: the node is being given up."""
        for info in self.store.kept():
            await self.remove_snapshot(self.store.path(info.component, info.name))
        for places in self.store.undone().values():
            for place in places:
                await self.remove_snapshot(place)
        await self.filesystem.remove_all()


def _remove_content(path: str) -> None:
    if os.path.isdir(path):
        kernel_btrfs.destroy(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def open_files(settings: ContainerSettings) -> NodeFiles:
    """The files of a node's containers; called in a thread."""
    name = choose_name(settings.filesystem, settings.state_dir)
    makers: dict[str, Callable[[], FileSystem]] = {
        "btrfs": lambda: BtrfsFiles(settings.state_dir, settings.pool_disks),
        "overlay": lambda: LayeredFiles("overlay", images_for(settings, name)),
        "binds": lambda: LayeredFiles("binds", images_for(settings, name)),
    }
    os.makedirs(settings.state_dir, mode=0o700, exist_ok=True)
    return NodeFiles(makers[name](), SnapshotStore(f"{settings.state_dir}/snapshots"))
