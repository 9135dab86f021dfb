"""Several nodes' bundle stores in one process: real handlers on real peers, one log for all."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio

from paas.base.errors import PlatformError
from paas.bundle import build, keys, messages
from paas.bundle import digest as digests
from paas.bundle.state import Bundle, BundleState, PublisherTrusted
from paas.bundle.store import BlobStore
from paas.controller.bundles import Bundles
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.controlled_node import SeededEntropy, TrioClock
from paas.testing.fake_log import FakeLog
from paas.testing.pair import Pairs
from paas.wire.registry import Method

MANIFEST = """
[component]
name = "greeter"
version = "1.0.0"
command = ["./run"]
"""


class Users(dict[str, list[str]]):
    """Who refers to a bundle."""

    def types_of(self, digest: str) -> list[str]:
        return self.get(digest, [])


class CountingPeer:
    """A way to another node that remembers what was asked, and may be told to fail."""

    def __init__(self, peer: Peer, asked: list[str], name: str) -> None:
        self._peer = peer
        self._asked = asked
        self._name = name

    async def call(self, method: Method[Any, Any], params: Any, *, timeout_s: float) -> Any:
        self._asked.append(f"{self._name}:{method.name.removeprefix('bundle.')}")
        return await self._peer.call(method, params, timeout_s=timeout_s)


class Site:
    """The bundles of one node."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.cluster = cluster
        self.users = Users()
        self.troubles: list[str] = []
        self.asked: list[str] = []
        self.links: dict[str, CountingPeer] = {}
        self.settled = True
        self.scope = trio.CancelScope()
        self.open()

    def open(self) -> None:
        """As after a start of the hub: the store is opened, nothing is known of fetches."""
        self.store = BlobStore(self.cluster.directory / self.name)
        self.bundles = Bundles(
            self.store,
            self.cluster.state,
            self.cluster.log,
            self.users,
            node=self.name,
            peers=self,
            settled=lambda: self.settled,
            on_trouble=self.troubles.append,
        )
        self.dispatcher = Dispatcher(
            self.cluster.nursery, TrioClock(), on_bug=self.cluster.note_bug
        )
        self.bundles.register(self.dispatcher)
        self.bundles.register_peers(self.dispatcher)
        self.stop_listening = self.cluster.log.subscribe(self.bundles.state_changed)

    def peer(self, node: str) -> CountingPeer | None:
        return self.links.get(node)

    def connected(self) -> list[str]:
        return list(self.links)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.scope = trio.CancelScope()
        with self.scope:
            await self.bundles.run(task_status=task_status)

    async def start(self) -> None:
        await self.cluster.nursery.start(self.run)

    async def stop(self) -> None:
        """The hub is killed: nothing that it was doing is finished."""
        self.scope.cancel()
        self.stop_listening()
        await trio.testing.wait_all_tasks_blocked()

    def has(self, content: bytes) -> bool:
        return self.store.has(digests.of(content))

    def put(self, content: bytes) -> str:
        """Have it here, and known to the log."""
        digest = digests.of(content)
        self.store.put([content], digest)
        self.cluster.know(content)
        return digest

    def context(self, timeout_s: float = 30.0) -> Context:
        return Context(cast(Peer, self), Request(1, "test", b""), timeout_s)

    async def push(self, version: str = "1.0.0", timeout_s: float = 30.0) -> str:
        """Upload a bundle as an operator does; its digest."""
        source = self.cluster.directory / f"source-{version}"
        source.mkdir()
        (source / "component.toml").write_text(MANIFEST.replace("1.0.0", version))
        (source / "run").write_bytes(os.urandom(600_000))
        packed = self.cluster.directory / f"{version}.bundle"
        built = build.build(source, packed)
        content = packed.read_bytes()
        ctx = self.context(timeout_s)
        begin = messages.Begin(digest=built.digest, size=len(content))
        upload = self.bundles._begin(begin, ctx).upload
        for at in range(0, len(content), 1 << 20):
            piece = messages.Append(upload=upload, offset=at, data=content[at : at + (1 << 20)])
            self.bundles._append(piece, ctx)
        signature = built.sign(self.cluster.key)
        commit = messages.Commit(upload=upload, digest=built.digest, signature=signature)
        await self.bundles._commit(commit, ctx)
        return built.digest


class Cluster:
    """Nodes that all reach each other until told otherwise."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.nursery = nursery
        self.directory = directory
        self.state = BundleState()
        self.log = FakeLog([self.state], TrioClock(), SeededEntropy())
        self.key = keys.generate()
        self.sites: dict[str, Site] = {}
        self.bugs: list[Exception] = []
        self._pairs = Pairs(nursery)
        self._joined: dict[tuple[str, str], Peer] = {}

    def note_bug(self, _method: str, exc: Exception) -> None:
        self.bugs.append(exc)

    def know(self, content: bytes) -> str:
        """The log knows the bundle, whoever has it."""
        digest = digests.of(content)
        self.state.bundles[digest] = Bundle(
            size=len(content), signature="", publisher="", since_ms=0
        )
        return digest

    def wake(self) -> None:
        """Every node looks now what it should keep, as after an entry of the log."""
        for site in self.sites.values():
            site.bundles.nodes_changed()

    async def trust(self) -> None:
        public = self.key.public
        await self.log.propose(PublisherTrusted(key_id=public.key_id, public_key=public.line()))

    async def add(self, name: str, *, run: bool = True) -> Site:
        site = Site(self, name)
        for other in list(self.sites.values()):
            self._join(site, other)
        self.sites[name] = site
        if run:
            await site.start()
        return site

    def _join(self, one: Site, other: Site) -> None:
        to_other, to_one = self._pairs.join(one.dispatcher, other.dispatcher)
        one.links[other.name] = CountingPeer(to_other, one.asked, other.name)
        other.links[one.name] = CountingPeer(to_one, other.asked, one.name)
        self._joined[one.name, other.name] = to_other

    def cut(self, name: str) -> None:
        """Nobody reaches this node any more; calls under way break."""
        for (one, other), peer in list(self._joined.items()):
            if name in (one, other):
                peer.close()
                self.sites[one].links.pop(other, None)
                self.sites[other].links.pop(one, None)
                del self._joined[one, other]

    def intercept(self, name: str, method: str, answer: Callable[[Any], Any]) -> None:
        """The others meet this answer when they call a method of this node."""
        for site in self.sites.values():
            if name in site.links:
                site.links[name] = cast(CountingPeer, Answering(site.links[name], method, answer))


class Answering:
    """A way to another node on which one method is answered by the test."""

    def __init__(self, inner: Any, method: str, answer: Callable[[Any], Any]) -> None:
        self._inner = inner
        self._method = method
        self._answer = answer

    async def call(self, method: Method[Any, Any], params: Any, *, timeout_s: float) -> Any:
        result = await self._inner.call(method, params, timeout_s=timeout_s)
        if method.name != self._method:
            return result
        changed = self._answer(result)
        if isinstance(changed, PlatformError):
            raise changed
        return msgspec.convert(msgspec.to_builtins(changed, builtin_types=(bytes,)), method.result)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with trio.open_nursery() as nursery:
        made = Cluster(nursery, tmp_path)
        await made.trust()
        yield made
        assert made.bugs == []
        nursery.cancel_scope.cancel()


@pytest.fixture
def content() -> bytes:
    """Seven pieces of bytes."""
    return os.urandom(6 * (256 << 10) + 1_000)
