"""The file system: a host directory for this container, and what it writes to.

Nothing is mounted here: the mounts are made in the container's own namespace (`launch.py`) and end
with it.  Left on the host are the directory (mount point, exit file, harness log), on Btrfs the
container's clone in it, and, until the container has mounted it, a device without a name in any
directory.
"""

from __future__ import annotations

from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.filesystems.contract import files_key
from paas.container.hooks.contract import Context, Directories, Layers, WantedFiles


class RootfsHook:
    name = "rootfs"

    def __init__(self, directories: Directories, layers: Layers) -> None:
        self._directories = directories
        self._layers = layers

    async def prepare(self, context: Context) -> None:
        spec, base = context.wanted(), context.base
        if base is None:
            raise AssertionError("a container that is being made has a base")
        await self._directories.require("bundle_dir", spec.bundle_dir)
        await self._directories.require("hub_dir", spec.hub_dir)
        context.save(context.record)
        await self._directories.make(context.directory)
        wanted = WantedFiles(
            component=spec.component,
            directory=context.directory,
            base=base,
            bundle_dir=spec.bundle_dir,
            disk_bytes=spec.limits.disk_bytes,
        )
        order = self._layers.order_token(spec.component)
        layer = await self._layers.take(wanted)
        context.files = layer.files
        if layer.device:
            context.layer = layer
        context.record = replace(
            context.record,
            filesystem=layer.files.filesystem,
            device=layer.device,
            content_uid_base=layer.files.content_uid_base,
            files_key=files_key(base, spec.bundle_dir),
            disk_bytes=spec.limits.disk_bytes,
            restored=order if layer.files.content_uid_base >= 0 else "",
        )
        if spec.limits.io_bytes_per_s and not layer.device:
            raise PlatformError(
                "unsupported",
                "limits.io: only the I/O of a block device can be limited, and the writable files"
                f" of this node are on none of their own ({layer.files.filesystem})",
                hint="loop devices and mkfs.ext4 (see: paas doctor); or leave out limits.io",
                field="limits.io_bytes_per_s",
            )

    async def destroy(self, context: Context) -> None:
        if context.layer is not None:
            context.layer.release()
            context.layer = None
        record = context.record
        if record.restored and record.phase != "preparing":
            self._layers.fulfilled(record.component, record.restored)
        await self._layers.drop(context.directory)
        await self._directories.remove(context.directory)
