"""Persistent volumes: attached before the launch, mounted by the container itself.

On the host a volume is a block device without a name in any directory, held by a descriptor until
the container has mounted it.  There is nothing to remove: the device goes with its last user, and
the volume stays.
"""

from __future__ import annotations

from typing import Protocol

from paas.container.hooks.contract import AttachedVolumes, Context
from paas.container.messages import VolumeMount


class Volumes(Protocol):
    async def attach(self, wanted: tuple[VolumeMount, ...], uid_base: int) -> AttachedVolumes: ...


class VolumesHook:
    name = "volumes"

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def prepare(self, context: Context) -> None:
        wanted, uid_base = context.wanted().volumes, context.record.uid_base
        if uid_base is None:
            raise AssertionError("users come before volumes")
        if wanted:
            context.volumes = await self._volumes.attach(wanted, uid_base)

    async def destroy(self, context: Context) -> None:
        if context.volumes is not None:
            context.volumes.release()
            context.volumes = None
