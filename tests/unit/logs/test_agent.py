"""`log.*` as clients meet it: filters, following, writing, who may, and limits."""

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
from paas.hub.watches import Watches
from paas.logs import limits
from paas.logs.agent import CUT_MARK, Logs
from paas.logs.messages import FOLLOW, QUERY, WRITE, Follow, Query, Write
from paas.logs.store import LogStore
from paas.real.clock import SystemClock
from paas.real.files import SystemFiles
from paas.rpc.dispatch import Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.testing.pair import Pairs, pairs
from paas.wire import codec
from paas.wire.registry import decode


class Everyone:
    """Components `a`, `b` of type `t` and `u`, in groups."""

    types = {"a": "t@1", "b": "u@2"}

    def __init__(self) -> None:
        self.groups: dict[str, list[str]] = {}

    def resolve(self, target: str) -> str:
        if target not in self.types:
            raise PlatformError("no-such-target")
        return target

    def name_and_type(self, component: str) -> tuple[str, str]:
        return f"name-{component}", self.types[component]

    def members(self, group: str) -> list[str]:
        return self.groups.get(group, [])


class World:
    """A log store with its handlers, and clients."""

    def __init__(self, path: Path, maker: Pairs, nursery: trio.Nursery) -> None:
        self.names = Everyone()
        self.watches = Watches()
        self.logs = Logs(LogStore(SystemFiles(str(path))), self.names, self.watches, SystemClock())
        self.bugs: list[Exception] = []
        self.dispatcher = Dispatcher(
            nursery, SystemClock(), on_bug=lambda _method, exc: self.bugs.append(exc)
        )
        self.logs.register(self.dispatcher)
        self._maker = maker
        self.sequence = 0

    def client(self, component: str = "") -> tuple[Peer, list[Event]]:
        events: list[Event] = []

        def on_request(_peer: Peer, request: Request) -> None:
            assert request.method == EVENT.name
            events.append(decode(request.params, Event))

        ours, theirs = self._maker.join(self.dispatcher, on_request)
        if component:
            ours.info["component"] = component
        return theirs, events

    def line(self, component: str, message: str, level: Any = "info", **more: Any) -> None:
        self.sequence += 1
        item = LogRecord(
            sequence=self.sequence,
            time_ms=self.sequence * 1_000,
            stream="stdout",
            level=level,
            message=message,
        )
        self.logs.receive(component, Batch(records=[item], **more))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery, pairs() as maker:
        made = World(tmp_path, maker, nursery)
        yield made
        assert made.bugs == []


async def said(peer: Peer, **query: Any) -> list[str]:
    return [r.message for r in (await peer.call(QUERY, Query(**query))).records]


async def failure(peer: Peer, method: Any, params: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await peer.call(method, params)
    return caught.value


async def test_a_query_chooses_by_component_type_or_group(world: World) -> None:
    world.names.groups["g"] = ["b"]
    world.line("a", "one")
    world.line("b", "two")
    world.line("a", "three", "error")
    peer, _ = world.client()
    assert await said(peer) == ["one", "two", "three"]
    assert await said(peer, component="a") == ["one", "three"]
    assert await said(peer, type="u") == ["two"]
    assert await said(peer, type="t@1") == ["one", "three"]
    assert await said(peer, type="t@9") == []
    assert await said(peer, group="g") == ["two"]
    assert await said(peer, group="empty") == []
    assert await said(peer, level="warning") == ["three"]
    assert await said(peer, grep="w") == ["two"]
    assert await said(peer, since=2.0, limit=1) == ["three"]


async def test_a_record_tells_where_it_comes_from_and_what_was_lost(world: World) -> None:
    world.line("a", "hello", dropped=7)
    peer, _ = world.client()
    (record,) = (await peer.call(QUERY, Query())).records
    assert (record.component, record.name, record.type) == ("a", "name-a", "t@1")
    assert (record.stream, record.level, record.time, record.dropped) == ("stdout", "info", 1.0, 7)


async def test_only_the_first_record_of_a_batch_carries_the_loss(world: World) -> None:
    items = [
        LogRecord(sequence=n, time_ms=n, stream="stderr", level="info", message=str(n))
        for n in (1, 2)
    ]
    world.logs.receive("a", Batch(records=items, dropped=5))
    peer, _ = world.client()
    records = (await peer.call(QUERY, Query())).records
    assert [r.dropped for r in records] == [5, 0]


async def test_following_is_what_was_there_and_then_every_record_once(world: World) -> None:
    for number in range(5):
        world.line("a", f"old {number}")
    peer, events = world.client()
    result = await peer.call(FOLLOW, Follow(component="a", limit=2, level="info"))
    assert [r.message for r in result.records] == ["old 3", "old 4"]
    world.line("a", "new")
    world.line("b", "of another")
    world.line("a", "too quiet", "debug")
    await trio.testing.wait_all_tasks_blocked()
    (event,) = events
    assert (event.watch, event.event, event.component) == (result.watch, "record", "a")
    assert event.data["message"] == "new"
    assert event.index == event.data["sequence"]


async def test_a_group_that_is_followed_includes_who_joins_later(world: World) -> None:
    peer, events = world.client()
    await peer.call(FOLLOW, Follow(group="g"))
    world.line("a", "before")
    world.names.groups["g"] = ["a"]
    world.line("a", "member")
    world.names.groups["g"] = []
    world.line("a", "last words")
    await trio.testing.wait_all_tasks_blocked()
    assert [e.data["message"] for e in events] == ["member", "last words"]


async def test_a_resent_batch_is_not_followed_twice(world: World) -> None:
    peer, events = world.client()
    await peer.call(FOLLOW, Follow())
    world.line("a", "once")
    world.sequence -= 1
    world.line("a", "once")
    await trio.testing.wait_all_tasks_blocked()
    assert len(events) == 1


async def test_following_ends_with_the_connection(world: World) -> None:
    peer, _ = world.client()
    await peer.call(FOLLOW, Follow())
    ((ours, _, _),) = world.watches.watchers("logs", "")
    world.watches.close_peer(ours)
    world.line("a", "nobody listens")
    assert len(world.watches) == 0


async def test_components_write_structured_records(world: World) -> None:
    peer, _ = world.client("a")
    await peer.call(WRITE, Write(message="hello", level="warning", fields={"n": [1, "x"]}))
    peer.notify(WRITE, Write(message="again"))
    await trio.testing.wait_all_tasks_blocked()
    first, second = (await peer.call(QUERY, Query(component="a"))).records
    assert (first.message, first.level, first.fields) == ("hello", "warning", {"n": [1, "x"]})
    assert (first.stream, first.component) == ("log", "a")
    assert second.message == "again"


async def test_operators_do_not_write(world: World) -> None:
    peer, _ = world.client()
    assert (await failure(peer, WRITE, Write(message="me"))).code == "denied"


async def test_a_long_message_is_cut_with_a_mark(world: World) -> None:
    world.line("a", "ü" * limits.MESSAGE_BYTES_MAX)
    world.line("a", "x" * limits.MESSAGE_BYTES_MAX)
    peer, _ = world.client()
    cut, whole = await said(peer)
    assert cut == "ü" * (limits.MESSAGE_BYTES_MAX // 2) + CUT_MARK
    assert whole == "x" * limits.MESSAGE_BYTES_MAX


@pytest.mark.parametrize("limit", [-1, limits.QUERY_RECORDS_MAX + 1])
async def test_limits_outside_the_range_are_refused(world: World, limit: int) -> None:
    peer, _ = world.client()
    for method, params in ((QUERY, Query(limit=limit)), (FOLLOW, Follow(limit=limit))):
        error = await failure(peer, method, params)
        assert (error.code, error.data["field"]) == ("invalid", "limit")
    assert len(world.watches) == 0


async def test_only_one_choice_is_given(world: World) -> None:
    peer, _ = world.client()
    error = await failure(peer, QUERY, Query(component="a", type="t"))
    assert (error.code, error.data["field"]) == ("invalid", "type")


async def test_an_unknown_component_is_named(world: World) -> None:
    peer, _ = world.client()
    assert (await failure(peer, QUERY, Query(component="z"))).code == "no-such-target"


async def test_an_unknown_level_is_invalid(world: World) -> None:
    peer, _ = world.client()
    with pytest.raises(PlatformError) as caught:
        await peer.call_raw(QUERY.name, codec.pack({"level": "loud"}), 5.0)
    assert caught.value.data["field"] == "level"


async def test_an_answer_always_fits_in_a_frame(world: World) -> None:
    text = "x" * limits.MESSAGE_BYTES_MAX
    for component in "ab":
        for _ in range(5):
            world.line(component, text)
    peer, _ = world.client()
    assert len(await said(peer)) >= 6
