"""Volumes in a hub: their agent and their face, wired to controller, scheduler, mesh and files.

`VolumePort` is the way to the files, on the reconnecting client of the container controller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from paas.assembly.remotes import Remotes
from paas.base.errors import PlatformError
from paas.container import volume_methods as methods
from paas.container.client import ContainersClient
from paas.container.messages import VolumeCopy
from paas.controller.commands import MoveInstance
from paas.controller.loads import needs_of
from paas.controller.state import ControllerState
from paas.hub.routes import Links
from paas.rpc.dispatch import Dispatcher
from paas.scheduler.client import Scheduler
from paas.scheduler.messages import NodeView, Request
from paas.volume import limits, messages
from paas.volume.agent import VolumeAgent
from paas.volume.api import VolumeApi
from paas.volume.client import Files, Log
from paas.volume.duties import Evacuation
from paas.volume.state import VolumeState, user_of


class VolumePart:
    """Everything about volumes in one hub."""

    def __init__(
        self,
        *,
        node: str,
        state: VolumeState,
        controller: ControllerState,
        log: Log,
        files: Files,
        links: Links,
        nodes: Callable[[], Sequence[NodeView]],
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        self._node = node
        self._state = state
        self._controller = controller
        self._sections = {"controller": controller}
        self._log = log
        self._nodes = nodes
        remote = Remotes(links)
        self.agent = VolumeAgent(
            node=node,
            state=state,
            sections=self._sections,
            log=log,
            files=files,
            remote=remote,
            move_away=self._move_away,
            choose=self._choose,
            draining=lambda: controller.drains.get(node),
            on_trouble=on_trouble,
        )
        self._api = VolumeApi(
            node=node,
            state=state,
            sections=self._sections,
            log=log,
            files=files,
            remote=remote,
        )

    def register(self, dispatcher: Dispatcher) -> None:
        self._api.register(dispatcher)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self.agent.run(task_status=task_status)

    async def _move_away(self, evacuation: Evacuation) -> None:
        order = MoveInstance(
            component=evacuation.component,
            incarnation=evacuation.incarnation,
            node=evacuation.node,
            grace_s=evacuation.grace_s,
        )
        await self._log.propose(order, timeout_s=limits.PROPOSE_TIMEOUT_S)

    def _choose(self, owner: str) -> str:
        """Another node that would take their component (or any, without one); empty: none."""
        elsewhere = [view for view in self._nodes() if view.name != self._node]
        instance = user_of(self._sections, owner)
        if instance is None:
            held: dict[str, int] = {}
            for holding in self._state:
                held[holding.node] = held.get(holding.node, 0) + 1
            free = [v.name for v in elsewhere if v.online and not (v.cordoned or v.storage_full)]
            return min(free, key=lambda name: (held.get(name, 0), name), default="")
        manifest = self._controller.types.manifest(self._controller.types.resolve(instance.type))
        request = Request(
            type=instance.type,
            needs=needs_of(manifest),
            constraints=tuple(instance.constraints),
        )
        try:
            loads = self._controller.loads.copy()
            return Scheduler(lambda: elsewhere).place_on(loads, request)[0].node
        except PlatformError:
            return ""


class VolumePort:
    """Implements `volume.client.Files`."""

    def __init__(self, client: ContainersClient) -> None:
        self._client = client

    async def copies(self, owner: str = "") -> list[VolumeCopy]:
        ask = methods.ListCopies(owner=owner)
        answer = await self._client.call(methods.LIST, ask, timeout_s=limits.CALL_TIMEOUT_S)
        return answer.copies

    async def read(
        self, owner: str, epoch: int, volume: str, offset: int, limit: int
    ) -> messages.Piece:
        ask = methods.ReadVolume(
            owner=owner, epoch=epoch, volume=volume, offset=offset, limit=limit
        )
        piece = await self._client.call(methods.READ, ask, timeout_s=limits.CALL_TIMEOUT_S)
        return messages.Piece(offset=piece.offset, data=piece.data, size=piece.size)

    async def digest(self, owner: str, epoch: int, volume: str) -> messages.Digest:
        ask = methods.DigestVolume(owner=owner, epoch=epoch, volume=volume)
        found = await self._client.call(methods.DIGEST, ask, timeout_s=limits.CHECK_TIMEOUT_S)
        return messages.Digest(size=found.size, digest=found.digest)

    async def begin(self, owner: str, epoch: int, sizes: dict[str, int]) -> None:
        ask = methods.BeginCopy(owner=owner, epoch=epoch, sizes=sizes)
        await self._client.call(methods.BEGIN, ask, timeout_s=limits.CALL_TIMEOUT_S)

    async def write(self, owner: str, epoch: int, volume: str, offset: int, data: bytes) -> None:
        ask = methods.WriteCopy(owner=owner, epoch=epoch, volume=volume, offset=offset, data=data)
        await self._client.call(methods.WRITE, ask, timeout_s=limits.CALL_TIMEOUT_S)

    async def keep(self, owner: str, epoch: int, digests: dict[str, str]) -> None:
        ask = methods.KeepCopy(owner=owner, epoch=epoch, digests=digests)
        await self._client.call(methods.KEEP, ask, timeout_s=limits.CHECK_TIMEOUT_S)

    async def drop(self, owner: str, epoch: int) -> None:
        ask = methods.DropCopy(owner=owner, epoch=epoch)
        await self._client.call(methods.DROP, ask, timeout_s=limits.CALL_TIMEOUT_S)
