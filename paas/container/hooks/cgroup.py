"""Bounds on memory, processor time and process numbers: two leaves, harness and component.

Bounds on disk I/O only where asked for, on the device of the container's own writable layer.
"""

from __future__ import annotations

from paas.base.errors import PlatformError
from paas.container.hooks.contract import Context, Groups


class CgroupHook:
    name = "cgroup"

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def prepare(self, context: Context) -> None:
        spec = context.wanted()
        await self._groups.create(spec)
        if not spec.limits.io_bytes_per_s:
            return
        if context.layer is None:
            raise PlatformError(
                "unsupported",
                "limits.io: this node keeps writable layers in memory; only the I/O of a block"
                " device can be limited",
                hint="loop devices and mkfs.ext4 (see: paas doctor); or leave out limits.io",
                field="limits.io_bytes_per_s",
            )
        component, device = context.record.component, context.layer.device
        await self._groups.limit_io(component, device, spec.limits.io_bytes_per_s)

    async def destroy(self, context: Context) -> None:
        await self._groups.remove(context.record.component)
