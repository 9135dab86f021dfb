"""Meshes of one process on a network in memory, with everything that they were told.

    async with trio.open_nursery() as nursery:
        cluster = MeshCluster(MeshWorld(delay_s=0.005), nursery)
        one, two = await cluster.start("n1", "n2")
        await cluster.whole()

Requests called "echo" are answered with their params; others are noted and not answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from paas.rpc.envelope import Request
from paas.rpc.mesh import Mesh
from paas.rpc.mesh_hello import Hello, encode
from paas.rpc.peer import Peer
from paas.sim.entropy import SimEntropy
from paas.testing.mesh_pair import MemoryLink, MeshWorld
from paas.wire import codec


class TrioClock:
    """Virtual time as a port."""

    def now_ms(self) -> int:
        return round(trio.current_time() * 1_000)

    def monotonic_s(self) -> float:
        return trio.current_time()


class Heard:
    """A receiver of the channel "raft" that writes everything down."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def on_connected(self, peer: str, epoch: int) -> None:
        self.heard.append(("up", peer, epoch))

    def on_disconnected(self, peer: str, epoch: int) -> None:
        self.heard.append(("down", peer, epoch))

    def on_message(self, peer: str, epoch: int, data: bytes) -> None:
        self.heard.append(("message", peer, epoch, data))

    def epochs(self) -> list[int]:
        return [entry[2] for entry in self.heard if entry[0] == "up"]

    def messages(self) -> list[bytes]:
        return [entry[3] for entry in self.heard if entry[0] == "message"]


class MeshNode:
    """A mesh with everything it was told."""

    def __init__(self, world: MeshWorld, name: str, **options: Any) -> None:
        self.name = name
        self.requests: list[tuple[str, Any]] = []
        self.troubles: list[tuple[str, str]] = []
        self.news: list[tuple[str, str]] = []
        self.log = Heard()
        self.mesh = Mesh(
            node=name,
            network=options.pop("network", None) or world.network(name),
            sweeper=None,
            entropy=SimEntropy(sum(name.encode())),
            clock=TrioClock(),
            on_request=options.pop("on_request", None) or self._on_request,
            on_trouble=lambda party, text: self.troubles.append((party, text)),
            **options,
        )
        self.mesh.raft().attach(self.log)
        self.mesh.subscribe(
            lambda node, _: self.news.append(("up", node)),
            lambda node: self.news.append(("down", node)),
        )

    def _on_request(self, peer: Peer, request: Request) -> None:
        self.requests.append((peer.info["node"], codec.unpack(request.params)))
        if request.method == "echo":
            peer.reply(request, request.params)

    def trouble(self, word: str) -> list[str]:
        return [text for _, text in self.troubles if word in text]

    def peer(self, name: str) -> Peer:
        peer = self.mesh.peer(name)
        assert peer is not None
        return peer


class MeshCluster:
    """Nodes of one world, all of which know each other."""

    def __init__(self, world: MeshWorld, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.nodes: dict[str, MeshNode] = {}

    async def start(self, *names: str, **options: Any) -> list[MeshNode]:
        """Start these, and make them all known to each other."""
        for name in names:
            await self.start_one(name, **options)
        for node in self.nodes.values():
            node.mesh.set_peers({name: f"{name}:7400" for name in self.nodes})
        return [self.nodes[name] for name in names]

    async def start_one(self, name: str, **options: Any) -> MeshNode:
        node = self.nodes[name] = MeshNode(self.world, name, **options)
        await self.nursery.start(node.mesh.run)
        return node

    async def until(self, condition: Callable[[], Any], within_s: float = 60.0) -> None:
        with trio.fail_after(within_s):
            while not condition():  # noqa: ASYNC110 -- what changes has no event
                await trio.sleep(0.01)

    async def whole(self, within_s: float = 60.0) -> None:
        """Wait until everybody is connected to everybody, on both channels."""
        for name, node in self.nodes.items():
            others = sorted(set(self.nodes) - {name})
            links = {f"{other}/{channel}" for other in others for channel in ("raft", "hub")}

            def complete(node: MeshNode = node, links: set[str] = links) -> bool:
                return set(node.mesh.statistics()["connections"]) == links

            await self.until(complete, within_s)

    async def greeted(self, source: str, target: str, channel: str, *, epoch: int) -> MemoryLink:
        """A connection made by hand, up to and with its greeting."""
        link = await self.world.dial(source, target, channel)
        link.write(encode(Hello(versions=[1], node=source, channel=channel, epoch=epoch)))
        await link.read()
        return link
