"""The container controller's face for volumes: `container.*_volume` and `container.*_copy`.

What is asked is checked by `Volumes`; who may ask, by the policy.  Nothing is decided here.
"""

from __future__ import annotations

from typing import Protocol

from paas.base.errors import invalid
from paas.container import limits
from paas.container import volume_methods as methods
from paas.container.volumes import Volumes
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Nothing


class Parts(Protocol):
    @property
    def volumes(self) -> Volumes: ...


class Engine(Protocol):
    """What is asked of the engine; raises `unavailable` while it does not run."""

    def ready(self) -> Parts: ...


class VolumeFace:
    """Handlers of requests about the files of volumes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.task(methods.LIST, self._list)
        dispatcher.task(methods.READ, self._read)
        dispatcher.task(methods.DIGEST, self._digest)
        dispatcher.task(methods.BEGIN, self._begin)
        dispatcher.task(methods.WRITE, self._write)
        dispatcher.task(methods.KEEP, self._keep)
        dispatcher.task(methods.DROP, self._drop)

    @property
    def _volumes(self) -> Volumes:
        return self._engine.ready().volumes

    async def _list(self, params: methods.ListCopies, _context: Context) -> methods.Copies:
        return methods.Copies(copies=await self._volumes.copies(params.owner))

    async def _read(self, params: methods.ReadVolume, _context: Context) -> methods.VolumePiece:
        if params.offset < 0 or not 0 < params.limit <= limits.VOLUME_PIECE_BYTES_MAX:
            raise invalid("limit", f"1 to {limits.VOLUME_PIECE_BYTES_MAX}, offset 0 or more")
        offset, data, size = await self._volumes.read(
            params.owner, params.epoch, params.volume, params.offset, params.limit
        )
        return methods.VolumePiece(offset=offset, data=data, size=size)

    async def _digest(
        self, params: methods.DigestVolume, _context: Context
    ) -> methods.VolumeDigest:
        size, digest = await self._volumes.digest(params.owner, params.epoch, params.volume)
        return methods.VolumeDigest(size=size, digest=digest)

    async def _begin(self, params: methods.BeginCopy, _context: Context) -> Nothing:
        await self._volumes.begin(params.owner, params.epoch, params.sizes)
        return Nothing()

    async def _write(self, params: methods.WriteCopy, _context: Context) -> Nothing:
        if len(params.data) > limits.VOLUME_PIECE_BYTES_MAX:
            raise invalid("data", f"at most {limits.VOLUME_PIECE_BYTES_MAX} bytes")
        await self._volumes.write(
            params.owner, params.epoch, params.volume, params.offset, params.data
        )
        return Nothing()

    async def _keep(self, params: methods.KeepCopy, _context: Context) -> Nothing:
        await self._volumes.keep(params.owner, params.epoch, params.digests)
        return Nothing()

    async def _drop(self, params: methods.DropCopy, _context: Context) -> Nothing:
        await self._volumes.drop(params.owner, params.epoch)
        return Nothing()
