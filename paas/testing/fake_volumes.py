"""Files of volumes as entries of a table, for the hubs of controlled nodes (controlled_node.py).

It keeps the promises of `paas.volume.client.Files` and of a start with volumes: a copy is named by
owner and epoch; one that is not fresh must be there; what a running container has is neither read
nor dropped; a copy counts as whole after `keep` only.  `before` is called at each operation, where
a test lets it fail or the node die.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import trio

from paas.base.errors import PlatformError
from paas.container.messages import VolumeCopy
from paas.controller.commands import MoveInstance
from paas.controller.ports import StartOrder
from paas.rpc.dispatch import Context
from paas.testing.controlled_node import ControlledCluster, ControlledNode
from paas.volume import messages
from paas.volume.agent import VolumeAgent
from paas.volume.api import VolumeApi
from paas.volume.duties import Evacuation
from paas.wire.registry import Method, P, R

Content = dict[int, bytes]
"""Offset to what was written there."""


@dataclass(slots=True)
class FakeImage:
    size: int
    content: Content = field(default_factory=dict)

    def digest(self) -> str:
        text = repr((self.size, sorted(self.content.items())))
        return hashlib.sha256(text.encode()).hexdigest()


Copy = dict[str, FakeImage]


class FakeVolumes:
    """The files of one node.  They outlive its hub and its containers."""

    def __init__(self, node: ControlledNode) -> None:
        self.node = node
        self.whole: dict[tuple[str, int], Copy] = {}
        self.incoming: dict[tuple[str, int], Copy] = {}
        self.before: Callable[[str], None] = lambda _operation: None
        node.containers.attach = self._attach

    def _attach(self, order: StartOrder) -> None:
        for mount in order.volumes:
            copy = self.whole.get((mount.owner, mount.epoch), {})
            if mount.name not in copy and not mount.fresh:
                raise PlatformError("corrupt", f"{mount.owner}/{mount.name} is not here")
        for mount in order.volumes:
            copy = self.whole.setdefault((mount.owner, mount.epoch), {})
            copy.setdefault(mount.name, FakeImage(mount.size_bytes))

    def in_use(self, owner: str, epoch: int) -> bool:
        return any(
            (mount.owner, mount.epoch) == (owner, epoch)
            for component in self.node.containers.running()
            for mount in self.node.containers.table[component].order.volumes
        )

    async def _do(self, operation: str) -> None:
        self.before(operation)
        await trio.sleep(0.001)

    def _idle(self, owner: str, epoch: int, volume: str) -> FakeImage:
        image = self.whole.get((owner, epoch), {}).get(volume)
        if image is None:
            raise PlatformError("no-such-target", f"no copy {epoch} of {owner}/{volume}")
        if self.in_use(owner, epoch):
            raise PlatformError("conflict", f"{owner}/{volume} is in use")
        return image

    async def copies(self, owner: str = "") -> list[VolumeCopy]:
        await self._do("copies")
        return [
            VolumeCopy(
                owner=name,
                epoch=epoch,
                complete=complete,
                attached=complete and self.in_use(name, epoch),
                sizes={volume: image.size for volume, image in copy.items()},
                used={v: sum(map(len, i.content.values())) for v, i in copy.items()},
                stored=0,
            )
            for table, complete in ((self.whole, True), (self.incoming, False))
            for (name, epoch), copy in table.items()
            if owner in ("", name)
        ]

    async def read(
        self, owner: str, epoch: int, volume: str, offset: int, limit: int
    ) -> messages.Piece:
        await self._do("read")
        image = self._idle(owner, epoch, volume)
        for at in sorted(image.content):
            if at >= offset:
                return messages.Piece(offset=at, data=image.content[at], size=image.size)
        return messages.Piece(offset=image.size, data=b"", size=image.size)

    async def digest(self, owner: str, epoch: int, volume: str) -> messages.Digest:
        await self._do("digest")
        image = self._idle(owner, epoch, volume)
        return messages.Digest(size=image.size, digest=image.digest())

    async def begin(self, owner: str, epoch: int, sizes: dict[str, int]) -> None:
        await self._do("begin")
        self.incoming[owner, epoch] = {volume: FakeImage(size) for volume, size in sizes.items()}

    async def write(self, owner: str, epoch: int, volume: str, offset: int, data: bytes) -> None:
        await self._do("write")
        self.incoming[owner, epoch][volume].content[offset] = data

    async def keep(self, owner: str, epoch: int, digests: dict[str, str]) -> None:
        await self._do("keep")
        copy = self.incoming.get((owner, epoch), {})
        if {volume: image.digest() for volume, image in copy.items()} != digests:
            raise PlatformError("corrupt", "the copy is not like the original")
        self.whole[owner, epoch] = self.incoming.pop((owner, epoch))

    async def drop(self, owner: str, epoch: int) -> None:
        await self._do("drop")
        if self.in_use(owner, epoch):
            raise PlatformError("conflict", f"{owner} is in use")
        self.incoming.pop((owner, epoch), None)
        self.whole.pop((owner, epoch), None)


class VolumeWorld:
    """A controlled cluster whose nodes have files of volumes, and agents for them."""

    def __init__(self, cluster: ControlledCluster, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.state = cluster.common.volumes
        self.files = {name: FakeVolumes(node) for name, node in cluster.nodes.items()}
        self.apis: dict[str, VolumeApi] = {}
        self.troubles: list[str] = []
        self._nursery = nursery
        self._scopes: dict[str, trio.CancelScope] = {}

    async def start(self, *names: str) -> None:
        for name in names or self.files:
            await self._nursery.start(self._run, name)

    def kill(self, name: str) -> None:
        """The hub's part about volumes dies, wherever it is."""
        self._scopes.pop(name).cancel()

    async def _run(self, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        node, sections = self.cluster[name], {"controller": self.cluster.common.state}
        remote = Network(self, name)
        self.apis[name] = VolumeApi(
            node=name,
            state=self.state,
            sections=sections,
            log=node.view,
            files=self.files[name],
            remote=remote,
        )
        agent = VolumeAgent(
            node=name,
            state=self.state,
            sections=sections,
            log=node.view,
            files=self.files[name],
            remote=remote,
            move_away=partial(self._move_away, node),
            choose=partial(self._choose, name),
            draining=lambda: self.cluster.common.state.drains.get(name),
            on_trouble=lambda owner, error: self.troubles.append(f"{name}: {owner}: {error}"),
        )
        stop = node.view.subscribe(agent.state_changed)
        try:
            with trio.CancelScope() as self._scopes[name]:
                agent.containers_connected()
                await agent.run(task_status=task_status)
        finally:
            stop()

    @staticmethod
    async def _move_away(node: ControlledNode, evacuation: Evacuation) -> None:
        order = MoveInstance(
            component=evacuation.component,
            incarnation=evacuation.incarnation,
            node=evacuation.node,
            grace_s=evacuation.grace_s,
        )
        await node.view.propose(order)

    def _choose(self, name: str, _owner: str) -> str:
        views = self.cluster.first.controller.nodes()
        free = [v.name for v in views if v.online and not v.cordoned and v.name != name]
        return min(free, default="")

    def live_copies(self, owner: str) -> list[tuple[str, int]]:
        """(node, epoch) of the copies that the state believes in; there must never be two."""
        holding = self.state.get(owner)
        if holding is None:
            return []
        key = (owner, holding.epoch)
        return [(n, key[1]) for n, f in self.files.items() if n == holding.node and key in f.whole]


class Network:
    """`volume.client.Remote`: the faces of the other nodes."""

    def __init__(self, world: VolumeWorld, name: str) -> None:
        self._world = world
        self._name = name

    async def request(self, node: str, method: Method[P, R], params: P, timeout_s: float) -> R:
        world = self._world
        await trio.sleep(0.001)
        ends = [world.cluster[self._name], world.cluster[node]]
        if node not in world._scopes or not all(end.view.connected for end in ends):
            raise PlatformError("not-available", f"{node} cannot be reached")
        api = world.apis[node]
        handlers: dict[str, Any] = {
            messages.PIECE.name: api._piece,
            messages.DIGEST.name: api._digest,
            messages.USAGE.name: api._usage,
        }
        context: Context = world.cluster[node].context(timeout_s=timeout_s)
        return cast(R, await handlers[method.name](params, context))
