"""Log records of other nodes: asked for, followed, and not waited for when a node is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import EVENT, Event, LogRecord
from paas.harness.messages import Records as Batch
from paas.hub.messages import UNWATCH, Unwatch
from paas.hub.watches import Watches
from paas.logs.agent import Logs
from paas.logs.far import FarLogs
from paas.logs.messages import FOLLOW, QUERY, Follow, Query
from paas.logs.store import LogStore
from paas.real.clock import SystemClock
from paas.real.files import SystemFiles
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire.registry import Nothing, decode


class Names:
    def resolve(self, target: str) -> str:
        return target

    def name_and_type(self, component: str) -> tuple[str, str]:
        return component, "t@1"

    def members(self, _group: str) -> list[str]:
        return []


class Node:
    """One node's log store, and its links to others."""

    def __init__(self, path: Path, maker: Pairs, nursery: trio.Nursery) -> None:
        self.peers: dict[str, Peer] = {}
        self.watches = Watches()
        self.far = FarLogs(self, self.watches, nursery.start_soon)
        files = SystemFiles(str(path))
        self.logs = Logs(LogStore(files), Names(), self.watches, SystemClock(), self.far)
        self.dispatcher = Dispatcher(nursery, SystemClock(), on_bug=_raise)
        self.logs.register(self.dispatcher)
        self.dispatcher.plain(UNWATCH, self._unwatch)
        self._maker = maker
        self._sequence = 0

    def _unwatch(self, params: Unwatch, context: Context) -> Nothing:
        self.watches.close(context.peer, params.watch)
        return Nothing()

    def peer(self, node: str) -> Peer | None:
        return self.peers.get(node)

    def connected(self) -> list[str]:
        return sorted(self.peers)

    def says(self, component: str, message: str, time_ms: int) -> None:
        self._sequence += 1
        record = LogRecord(
            sequence=self._sequence, time_ms=time_ms, stream="stdout", level="info", message=message
        )
        self.logs.receive(component, Batch(records=[record]))

    def reader(self) -> tuple[Peer, list[str]]:
        heard: list[str] = []

        def on_request(_peer: Peer, request: Request) -> None:
            assert request.method == EVENT.name
            heard.append(decode(request.params, Event).data["message"])

        ours, theirs = self._maker.join(self.dispatcher, on_request)
        ours.info["roles"] = frozenset({"operator"})
        return theirs, heard


def _raise(_method: str, exc: Exception) -> None:
    raise exc


def link(maker: Pairs, a: Node, b: Node) -> None:
    one, other = maker.join(a.dispatcher, b.dispatcher)
    one.info.update(node="b", roles=frozenset({"hub"}))
    other.info.update(node="a", roles=frozenset({"hub"}))
    a.peers["b"], b.peers["a"] = one, other


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Node, Node, Any]]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with pairs() as maker, trio.open_nursery() as nursery:
        a, b = Node(tmp_path / "a", maker, nursery), Node(tmp_path / "b", maker, nursery)
        link(maker, a, b)
        yield a, b, maker
        nursery.cancel_scope.cancel()


async def test_a_reader_gets_the_records_of_all_nodes_by_time(two: Any) -> None:
    a, b, _ = two
    a.says("x", "first", 1_000)
    b.says("y", "second", 2_000)
    a.says("x", "third", 3_000)
    reader, _ = a.reader()
    answer = await reader.call(QUERY, Query())
    assert [r.message for r in answer.records] == ["first", "second", "third"]
    answer = await reader.call(QUERY, Query(limit=2))
    assert [r.message for r in answer.records] == ["second", "third"]
    answer = await reader.call(QUERY, Query(component="y"))
    assert [r.message for r in answer.records] == ["second"]


async def test_a_node_that_went_away_is_missing_and_not_waited_for(two: Any) -> None:
    a, b, _ = two
    a.says("x", "mine", 1_000)
    b.says("y", "lost", 2_000)
    a.peers["b"].close()
    reader, _ = a.reader()
    assert [r.message for r in (await reader.call(QUERY, Query())).records] == ["mine"]


async def test_new_records_of_the_other_node_are_followed(two: Any) -> None:
    a, b, _ = two
    b.says("y", "before", 1_000)
    reader, heard = a.reader()
    await reader.call(FOLLOW, Follow(limit=0))
    await trio.testing.wait_all_tasks_blocked()
    b.says("y", "after", 2_000)
    a.says("x", "here", 3_000)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(heard) == ["after", "here"]


async def test_a_node_that_comes_back_is_followed_again(two: Any) -> None:
    a, b, maker = two
    reader, heard = a.reader()
    await reader.call(FOLLOW, Follow())
    await trio.testing.wait_all_tasks_blocked()
    b.watches.close_peer(b.peers["a"])
    a.peers["b"].close()
    link(maker, a, b)
    a.far.connected("b", a.peers["b"])
    await trio.testing.wait_all_tasks_blocked()
    b.says("y", "back", 2_000)
    await trio.testing.wait_all_tasks_blocked()
    assert heard == ["back"]


async def test_the_watches_on_other_nodes_end_with_the_readers(two: Any) -> None:
    a, b, _ = two
    reader, _ = a.reader()
    result = await reader.call(FOLLOW, Follow())
    await trio.testing.wait_all_tasks_blocked()
    assert len(b.watches) == 1
    await reader.call(UNWATCH, Unwatch(watch=result.watch))
    b.says("y", "nobody wants it", 2_000)
    await trio.testing.wait_all_tasks_blocked()
    assert len(b.watches) == 0
    with pytest.raises(PlatformError):
        await reader.call(UNWATCH, Unwatch(watch=result.watch))
