"""The file system: a host directory for this container, and its writable layer.

Nothing is mounted here: the mounts are made in the container's own namespace (`launch.py`) and end
with it.  Left on the host are the directory (mount point, exit file, harness log) and, until the
container has mounted it, a device without a name in any directory.
"""

from __future__ import annotations

from paas.container.hooks.contract import Context, Directories, Layers


class RootfsHook:
    name = "rootfs"

    def __init__(self, directories: Directories, layers: Layers) -> None:
        self._directories = directories
        self._layers = layers

    async def prepare(self, context: Context) -> None:
        spec = context.wanted()
        await self._directories.require("bundle_dir", spec.bundle_dir)
        await self._directories.require("hub_dir", spec.hub_dir)
        context.save(context.record)
        await self._directories.make(context.directory)
        context.layer = await self._layers.take(spec.limits.disk_bytes)

    async def destroy(self, context: Context) -> None:
        if context.layer is not None:
            context.layer.release()
            context.layer = None
        await self._directories.remove(context.directory)
