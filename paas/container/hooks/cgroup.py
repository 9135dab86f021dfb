"""Bounds on memory, processor time and process numbers: two leaves, harness and component."""

from __future__ import annotations

from paas.container.hooks.contract import Context, Groups


class CgroupHook:
    name = "cgroup"

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def prepare(self, context: Context) -> None:
        await self._groups.create(context.wanted())

    async def destroy(self, context: Context) -> None:
        await self._groups.remove(context.record.component)
