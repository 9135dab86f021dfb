"""Bounds on memory, processor time and process numbers: two leaves, harness and component.

Bounds on disk I/O only where asked for, on the device of the container's own writable layer.
"""

from __future__ import annotations

from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.hooks.contract import Context, Groups


class CgroupHook:
    name = "cgroup"

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def prepare(self, context: Context) -> None:
        spec = context.wanted()
        await self._groups.create(spec)
        device = "" if context.layer is None else context.layer.device
        # Saved with the process: without one nobody asks for them.
        context.record = replace(context.record, limits=spec.limits)
        if not spec.limits.io_bytes_per_s:
            return
        if not device:
            raise no_device()
        await self._groups.limit_io(spec.component, device, spec.limits.io_bytes_per_s)

    async def destroy(self, context: Context) -> None:
        await self._groups.remove(context.record.component)


def no_device() -> PlatformError:
    """There is nothing whose I/O could be bounded."""
    return PlatformError(
        "unsupported",
        "limits.io: this node keeps writable layers in memory; only the I/O of a block"
        " device can be limited",
        hint="loop devices and mkfs.ext4 (see: paas doctor); or leave out limits.io",
        field="limits.io_bytes_per_s",
    )
