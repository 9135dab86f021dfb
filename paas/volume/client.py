"""Copying the volumes of an owner from the node that has them to this one (io).

    digest of each at the source ──> room here ──> piece after piece ──> verified here ──> the log
                                                                          and durable      switches

The source reads only what nobody has attached, and says so otherwise.  A copy counts for nothing
before the log says so; whatever fails on the way, the source has all of it still, and the next try
begins anew.  After a crash between `keep` and the log the copy is found whole and not made again.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.container.messages import VolumeCopy
from paas.volume import limits, messages
from paas.volume.commands import VolumesMoved
from paas.volume.duties import Fetch
from paas.wire.registry import Method, P, R


class Files(Protocol):
    """The container controller of this node, as far as files of volumes are concerned."""

    async def copies(self, owner: str = "") -> list[VolumeCopy]: ...

    async def read(
        self, owner: str, epoch: int, volume: str, offset: int, limit: int
    ) -> messages.Piece: ...

    async def digest(self, owner: str, epoch: int, volume: str) -> messages.Digest: ...

    async def begin(self, owner: str, epoch: int, sizes: dict[str, int]) -> None: ...

    async def write(
        self, owner: str, epoch: int, volume: str, offset: int, data: bytes
    ) -> None: ...

    async def keep(self, owner: str, epoch: int, digests: dict[str, str]) -> None: ...

    async def drop(self, owner: str, epoch: int) -> None: ...


class Remote(Protocol):
    """Requests to the hub of another node; `not-available` when it cannot be reached."""

    async def request(self, node: str, method: Method[P, R], params: P, timeout_s: float) -> R: ...


class Log(Protocol):
    """What is needed of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    async def barrier(self, *, timeout_s: float = 10.0) -> None: ...


class Copier:
    """See the module's text."""

    def __init__(self, node: str, files: Files, remote: Remote, log: Log) -> None:
        self._node = node
        self._files = files
        self._remote = remote
        self._log = log

    async def move(self, fetch: Fetch) -> None:
        """Copy them here, then have the log switch to the copy."""
        copies = await self._files.copies(fetch.owner)
        if not any(copy.epoch == fetch.copy and copy.complete for copy in copies):
            await self._copy(fetch)
        done = VolumesMoved(owner=fetch.owner, epoch=fetch.epoch, copy=fetch.copy, to=self._node)
        await self._log.propose(done, timeout_s=limits.PROPOSE_TIMEOUT_S)

    async def _copy(self, fetch: Fetch) -> None:
        facts: dict[str, messages.Digest] = {}
        for volume, required in fetch.volumes.items():
            try:
                facts[volume] = await self._digest(fetch, volume)
            except PlatformError as exc:
                if required or exc.code != "no-such-target":
                    raise
        sizes = {volume: fact.size for volume, fact in facts.items()}
        await self._files.begin(fetch.owner, fetch.copy, sizes)
        for volume in facts:
            await self._pull(fetch, volume)
        digests = {volume: fact.digest for volume, fact in facts.items()}
        await self._files.keep(fetch.owner, fetch.copy, digests)

    async def _digest(self, fetch: Fetch, volume: str) -> messages.Digest:
        ask = messages.GetDigest(owner=fetch.owner, epoch=fetch.epoch, volume=volume)
        return await self._remote.request(
            fetch.source, messages.DIGEST, ask, limits.CHECK_TIMEOUT_S
        )

    async def _pull(self, fetch: Fetch, volume: str) -> None:
        """The next pieces come while one is written."""
        send, receive = trio.open_memory_channel[messages.Piece](limits.PIECES_AHEAD)
        failed: list[PlatformError] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, fetch, volume, send)
                async with receive:
                    async for piece in receive:
                        await self._files.write(
                            fetch.owner, fetch.copy, volume, piece.offset, piece.data
                        )
        except* PlatformError as group:
            failed += [exc for exc in group.exceptions if isinstance(exc, PlatformError)]
        for error in failed:
            raise error

    async def _read(
        self, fetch: Fetch, volume: str, send: trio.MemorySendChannel[messages.Piece]
    ) -> None:
        offset = 0
        async with send:
            while True:
                ask = messages.GetPiece(
                    owner=fetch.owner,
                    epoch=fetch.epoch,
                    volume=volume,
                    offset=offset,
                    limit=limits.PIECE_BYTES,
                )
                piece = await self._remote.request(
                    fetch.source, messages.PIECE, ask, limits.PIECE_TIMEOUT_S
                )
                if not piece.data:
                    return
                if piece.offset < offset or len(piece.data) > limits.PIECE_BYTES:
                    text = f"{fetch.source} sent a piece that was not asked for"
                    raise PlatformError("corrupt", text)
                try:
                    await send.send(piece)
                except trio.BrokenResourceError:
                    return  # it cannot be written: whoever writes says why
                offset = piece.offset + len(piece.data)


class NoFiles:
    """A node whose containers have no volumes."""

    async def copies(self, owner: str = "") -> list[VolumeCopy]:
        return []

    async def read(
        self, owner: str, epoch: int, volume: str, offset: int, limit: int
    ) -> messages.Piece:
        raise _none()

    async def digest(self, owner: str, epoch: int, volume: str) -> messages.Digest:
        raise _none()

    async def begin(self, owner: str, epoch: int, sizes: dict[str, int]) -> None:
        raise _none()

    async def write(self, owner: str, epoch: int, volume: str, offset: int, data: bytes) -> None:
        raise _none()

    async def keep(self, owner: str, epoch: int, digests: dict[str, str]) -> None:
        raise _none()

    async def drop(self, owner: str, epoch: int) -> None:
        return None


def _none() -> PlatformError:
    return PlatformError("unsupported", "this node has no volumes")
