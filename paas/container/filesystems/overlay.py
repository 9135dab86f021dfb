"""Overlay and binds: base and bundle are shown as they are, what is written goes to a layer.

The base's and the bundle's directories are the template, shared by everybody without any copying.
The layer is a file system in a nameless image of exact size, or memory (`limits.disk_bytes` of it,
which count as memory of the component).  Nothing of it has a name on the host, so `drop` has
nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from paas.base.errors import PlatformError
from paas.container.filesystems.contract import (
    SnapshotInfo,
    Source,
    unsupported_in_memory,
)
from paas.container.filesystems.images import ImagePool, snapshot_image, sync_layer
from paas.container.hooks.contract import WantedFiles
from paas.container.plan import Files
from paas.real.kernel_loop import Disk


@dataclass(frozen=True, slots=True)
class Layer:
    """A writable layer: on a device, held until it is mounted, or to be made of memory."""

    files: Files
    disk: Disk | None = None

    @property
    def device(self) -> str:
        return self.files.device

    def release(self) -> None:
        if self.disk is not None:
            self.disk.release()


class LayeredFiles:
    """The file systems `overlay` and `binds`; without a pool, layers are memory."""

    momentary = False

    def __init__(self, name: str, images: ImagePool | None) -> None:
        self.name = name
        self._images = images

    async def take(self, wanted: WantedFiles) -> Layer:
        if self._images is None:
            return Layer(Files(filesystem=self.name))
        return self._on(await self._images.take(wanted.disk_bytes), -1)

    async def restore(self, wanted: WantedFiles, snapshot: SnapshotInfo, path: str) -> Layer:
        if self._images is None:
            raise _in_memory()
        return self._on(await self._images.restore(path, wanted.disk_bytes), snapshot.uid_base)

    def _on(self, disk: Disk, content_uid_base: int) -> Layer:
        files = Files(
            filesystem=self.name,
            device=disk.device,
            mount=disk.mount,
            content_uid_base=content_uid_base,
        )
        return Layer(files, disk)

    async def before_snapshot(self, source: Source) -> None:
        if not source.device:
            raise _in_memory()
        await trio.to_thread.run_sync(sync_layer, source.pid)

    async def snapshot(self, source: Source, path: str) -> int:
        if not source.device:
            raise _in_memory()
        return await snapshot_image(source, path)

    async def drop(self, directory: str) -> None:
        return None

    async def run(self) -> None:
        if self._images is None:
            await trio.sleep_forever()
        else:
            await self._images.run()

    def close(self) -> None:
        if self._images is not None:
            self._images.close()

    async def remove_all(self) -> None:
        return None


def _in_memory() -> PlatformError:
    text, hint = unsupported_in_memory()
    return PlatformError("unsupported", text, hint=hint)
