"""Requests about volumes: the face of the cluster's knowledge, and of this node's files.

Looking is answered from this replica; what is used of a volume is asked of the node that has it,
and left out when that does not answer soon.  Content is for the hub that copies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paas.base.errors import PlatformError
from paas.rpc.dispatch import Context, Dispatcher
from paas.volume import limits, messages
from paas.volume.client import Files, Log, Remote
from paas.volume.commands import MoveVolumes, RemoveVolumes
from paas.volume.lifecycle import HoldingState
from paas.volume.state import Holding, Volume, VolumeState, owner_of, user_of
from paas.wire.registry import Nothing


class VolumeApi:
    """Handlers of `volume.*`."""

    def __init__(
        self,
        *,
        node: str,
        state: VolumeState,
        sections: Mapping[str, Any],
        log: Log,
        files: Files,
        remote: Remote,
    ) -> None:
        self._node = node
        self._state = state
        self._sections = sections
        self._log = log
        self._files = files
        self._remote = remote

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(messages.LIST, self._list)
        dispatcher.task(messages.SHOW, self._show)
        dispatcher.task(messages.REMOVE, self._remove)
        dispatcher.task(messages.MOVE, self._move)
        dispatcher.task(messages.USAGE, self._usage)
        dispatcher.task(messages.PIECE, self._piece)
        dispatcher.task(messages.DIGEST, self._digest)

    # -- for people ------------------------------------------------------------------------------

    def _list(self, params: messages.ListVolumes, _context: Context) -> messages.Volumes:
        found = [h for h in self._state if params.node in ("", h.node)]
        found.sort(key=lambda holding: holding.owner)
        return messages.Volumes(volumes=[v for h in found for v in self._infos(h)])

    async def _show(self, params: messages.ShowVolumes, _context: Context) -> messages.Volumes:
        holding = self._find(params.owner)
        used = await self._ask_usage(holding, holding.node)
        copied = await self._ask_usage(holding, holding.to) if holding.to else None
        return messages.Volumes(
            volumes=list(
                self._infos(
                    holding,
                    {} if used is None else used.used,
                    None if copied is None else copied.copied,
                )
            )
        )

    def _infos(
        self, holding: Holding, used: Mapping[str, int] | None = None, copied: int | None = None
    ) -> Iterable[messages.VolumeInfo]:
        instance = user_of(self._sections, holding.owner)
        at_work = instance is not None and bool(instance.node)
        waits = instance.unplaced if instance is not None and not at_work else ""
        for name in sorted(holding.volumes):
            volume: Volume = holding.volumes[name]
            yield messages.VolumeInfo(
                owner=holding.owner,
                name=name,
                path=volume.path,
                size=volume.size_bytes,
                on_loss=volume.on_loss,
                type=holding.type,
                node=holding.node,
                state=str(holding.state),
                to=holding.to,
                epoch=holding.epoch,
                component=instance.id if at_work else "",
                waits=waits,
                used=(used or {}).get(name),
                copied=copied,
            )

    async def _ask_usage(self, holding: Holding, node: str) -> messages.Usage | None:
        if not node:
            return None
        ask = messages.GetUsage(owner=holding.owner)
        try:
            if node == self._node:
                return await self._usage_here(holding.owner)
            return await self._remote.request(node, messages.USAGE, ask, limits.USAGE_TIMEOUT_S)
        except PlatformError:
            return None

    async def _remove(self, params: messages.RemoveVolume, context: Context) -> Nothing:
        holding = self._find(params.owner)
        order = RemoveVolumes(owner=holding.owner, epoch=holding.epoch)
        await self._log.propose(order, timeout_s=context.timeout_s)
        return Nothing()

    async def _move(self, params: messages.MoveVolume, context: Context) -> Nothing:
        holding = self._find(params.owner)
        order = MoveVolumes(
            owner=holding.owner, epoch=holding.epoch, to=params.node, grace_s=params.grace
        )
        await self._log.propose(order, timeout_s=context.timeout_s)
        return Nothing()

    def _find(self, text: str) -> Holding:
        """By owner, or by a component whose volumes they are; raises `no-such-target`."""
        holding = self._state.get(text)
        if holding is not None:
            return holding
        instance = self._sections["controller"].instances.resolve(text)
        return self._state.find(owner_of(instance.id, instance.name))

    # -- for hubs of other nodes -----------------------------------------------------------------

    async def _usage(self, params: messages.GetUsage, _context: Context) -> messages.Usage:
        return await self._usage_here(params.owner)

    async def _usage_here(self, owner: str) -> messages.Usage:
        holding = self._state.find(owner)
        used: dict[str, int] = {}
        copied = 0
        for copy in await self._files.copies(owner):
            if copy.complete and copy.epoch == holding.epoch:
                used = copy.used
            elif not copy.complete and copy.epoch == holding.copy:
                copied = copy.stored
        return messages.Usage(used=used, copied=copied)

    async def _piece(self, params: messages.GetPiece, _context: Context) -> messages.Piece:
        self._check(params.owner, params.epoch)
        return await self._files.read(
            params.owner, params.epoch, params.volume, params.offset, params.limit
        )

    async def _digest(self, params: messages.GetDigest, _context: Context) -> messages.Digest:
        self._check(params.owner, params.epoch)
        return await self._files.digest(params.owner, params.epoch, params.volume)

    def _check(self, owner: str, epoch: int) -> None:
        """Nothing is handed out but what moves away from here."""
        holding = self._state.get(owner)
        if (
            holding is None
            or holding.state is not HoldingState.MOVING
            or (holding.node, holding.epoch) != (self._node, epoch)
        ):
            raise PlatformError("conflict", f"the volumes of {owner} do not move away from here")
