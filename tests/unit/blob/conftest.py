"""Two nodes' attachments in one process, with links between them and components on them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.blob import messages
from paas.blob.agent import Attachments
from paas.blob.policy import POLICY
from paas.blob.shelf import Shelf
from paas.blob.store import AttachmentStore
from paas.real.clock import SystemClock
from paas.rpc.dispatch import Dispatcher, check_policy
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs

GIB = 1 << 30


class Chances:
    """Random bytes that repeat."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


class Links:
    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}

    def peer(self, node: str) -> Peer | None:
        return self.peers.get(node)

    def connected(self) -> list[str]:
        return sorted(self.peers)


class Node:
    """One node's attachments, on a directory of the test."""

    def __init__(self, name: str, root: Path, world: World, **more: Any) -> None:
        self.name = name
        self.root = root
        self.links = Links()
        self.free = 100 * GIB
        self.ended: list[str] = []
        self.troubles: list[str] = []
        self.bugs: list[Exception] = []
        self.store = AttachmentStore(root)
        self.agent = Attachments(
            name,
            self.store,
            Chances(len(world.nodes)),
            peers=self.links,
            lives=lambda component: component not in self.ended,
            on_trouble=self.troubles.append,
            free_bytes=lambda: self.free,
            shelf=Shelf(**more),
        )
        self.dispatcher = Dispatcher(
            world.nursery, SystemClock(), on_bug=lambda _where, bug: self.bugs.append(bug)
        )
        self.agent.register(self.dispatcher)
        check_policy(self.dispatcher.methods(), POLICY)

    def files(self) -> list[Path]:
        return sorted(p for p in self.root.rglob("*") if p.is_file())


class Client:
    """A component, or an operator, connected to a node."""

    def __init__(self, peer: Peer, there: Peer) -> None:
        self.peer = peer
        self.there = there

    async def begin(self, size: int | None = None) -> int:
        return (await self.peer.call(messages.BEGIN, messages.Begin(size=size))).upload

    async def append(self, upload: int, offset: int, data: bytes) -> None:
        piece = messages.Append(upload=upload, offset=offset, data=data)
        await self.peer.call(messages.APPEND, piece)

    async def commit(self, upload: int, digest: str | None = None) -> messages.Stored:
        return await self.peer.call(messages.COMMIT, messages.Commit(upload=upload, digest=digest))

    async def store(self, data: bytes, piece: int = 1 << 20) -> messages.Stored:
        upload = await self.begin()
        for at in range(0, len(data), piece):
            await self.append(upload, at, data[at : at + piece])
        return await self.commit(upload)

    async def read(
        self, item: messages.Stored, offset: int = 0, size: int = 1 << 20, **changed: str
    ) -> messages.Piece:
        said = {"blob": item.blob, "key": item.key, "node": item.node, **changed}
        return await self.peer.call(messages.READ, messages.Read(offset=offset, size=size, **said))

    async def read_all(self, item: messages.Stored, size: int = 1 << 20) -> bytes:
        found, end = b"", False
        while not end:
            piece = await self.read(item, len(found), size)
            found, end = found + piece.data, piece.eof
        return found


class World:
    def __init__(self, nursery: trio.Nursery, maker: Pairs, root: Path) -> None:
        self.nursery = nursery
        self.maker = maker
        self.root = root
        self.nodes: dict[str, Node] = {}

    async def node(self, name: str, *, run: bool = True, **more: Any) -> Node:
        """A node on its directory; one more life if it has had one."""
        node = self.nodes[name] = Node(name, self.root / name, self, **more)
        if run:
            await self.nursery.start(node.agent.run)
        return node

    def link(self, one: Node, other: Node) -> tuple[Peer, Peer]:
        left, right = self.maker.join(one.dispatcher, other.dispatcher)
        one.links.peers[other.name] = left
        other.links.peers[one.name] = right
        return left, right

    def client(self, node: Node, component: str = "") -> Client:
        def deaf(_peer: Peer, _request: Any) -> None:
            raise AssertionError("nobody asks a client")

        peer, there = self.maker.join(deaf, node.dispatcher)
        if component:
            there.info["component"] = component
        return Client(peer, there)


@pytest.fixture
def world(tmp_path: Path) -> Callable[[], Any]:
    @asynccontextmanager
    async def make() -> AsyncIterator[World]:
        async with pairs() as maker, trio.open_nursery() as nursery:
            yield World(nursery, maker, tmp_path)
            nursery.cancel_scope.cancel()

    return make


@pytest.fixture
def autojump_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Time that jumps, but never while the disk is at work: its calls are not in threads then."""

    async def at_once(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    return MockClock(autojump_threshold=0)


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`with refused("code") as error`: this error and no other."""

    class Refused:
        def __init__(self, code: str) -> None:
            self.code = code
            self.value: PlatformError | None = None

        def __enter__(self) -> Refused:
            return self

        def __exit__(self, kind: Any, exc: BaseException | None, _trace: Any) -> bool:
            assert isinstance(exc, PlatformError), f"expected {self.code}, got {exc!r}"
            assert exc.code == self.code, exc
            self.value = exc
            return True

    return Refused
