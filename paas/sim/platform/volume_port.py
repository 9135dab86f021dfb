"""The hub's way to the files of volumes of its simulated machine.

VolumesPort ──(the connection to the container controller)──> NodeFiles (volume_files.py)
"""

from __future__ import annotations

from typing import Any

from paas.container.messages import VolumeCopy
from paas.sim.platform.containers import CALL_S, ContainersPort
from paas.volume import messages


class VolumesPort:
    """Implements `volume.client.Files`."""

    def __init__(self, port: ContainersPort) -> None:
        self._port = port

    async def _ask(self, operation: str, *arguments: Any) -> Any:
        return await self._port._call("volume", CALL_S, operation, arguments)

    async def copies(self, owner: str = "") -> list[VolumeCopy]:
        found: list[VolumeCopy] = await self._ask("copies", owner)
        return found

    async def read(
        self, owner: str, epoch: int, volume: str, offset: int, limit: int
    ) -> messages.Piece:
        piece: messages.Piece = await self._ask("read", owner, epoch, volume, offset)
        return piece

    async def digest(self, owner: str, epoch: int, volume: str) -> messages.Digest:
        found: messages.Digest = await self._ask("digest", owner, epoch, volume)
        return found

    async def begin(self, owner: str, epoch: int, sizes: dict[str, int]) -> None:
        await self._ask("begin", owner, epoch, list(sizes))

    async def write(self, owner: str, epoch: int, volume: str, offset: int, data: bytes) -> None:
        await self._ask("write", owner, epoch, volume, offset, data)

    async def keep(self, owner: str, epoch: int, digests: dict[str, str]) -> None:
        await self._ask("keep", owner, epoch, digests)

    async def drop(self, owner: str, epoch: int) -> None:
        await self._ask("drop", owner, epoch)
