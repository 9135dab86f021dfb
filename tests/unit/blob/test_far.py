"""Attachments of other nodes: fetched in pieces, no faster than they are read, believed at last."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import trio

from paas.blob import limits, messages
from paas.wire import codec

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 123)


async def until(condition: Callable[[], Any]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_reader_gets_what_another_node_has(world: Any) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        info = messages.Info(blob=item.blob, key=item.key, node="n1")
        assert not (await b.peer.call(messages.INFO, info)).here
        assert await b.read_all(item) == DATA
        assert (await b.peer.call(messages.INFO, info)).here
        assert await b.read_all(item, 10_000) == DATA
        assert n2.agent.shelf.used("b") == 0
        assert n2.agent.shelf.total == len(DATA)
        assert n1.bugs == n2.bugs == []


async def test_readers_of_the_same_attachment_share_one_fetch(world: Any) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        found: list[bytes] = []

        async def read(name: str, size: int) -> None:
            found.append(await w.client(n2, name).read_all(item, size))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(read, f"b{number}", 100_000 * (number + 1))
        assert found == [DATA] * 5
        assert n2.agent.shelf.total == len(DATA)


async def test_an_empty_one_and_one_that_is_here_under_another_key(world: Any) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        a, b = w.client(n1, "a"), w.client(n2, "b")
        assert await b.read_all(await a.store(b"")) == b""
        item, own = await a.store(DATA), await b.store(DATA)
        assert own.key != item.key
        assert await b.read_all(item) == DATA
        assert n2.agent.shelf.total == len(DATA)


async def test_the_key_is_judged_by_the_node_that_has_the_attachment(
    world: Any, refused: Any
) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        await b.read_all(item)
        for node in ("n1", "n2", ""):
            with refused("no-such-target"):
                await b.read(item, key="0" * 32, node=node)
        assert await b.read_all(item) == DATA


async def test_a_reader_that_stops_costs_no_more_than_it_was_ahead(
    world: Any, autojump_clock: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        assert (await b.read(item, 0, 1_000)).data == DATA[:1_000]
        b.peer.close()
        await trio.sleep(5)
        (flight,) = n2.agent.far._flights.values()
        assert flight.have <= MIB + 1_000 + limits.FETCH_BYTES
        await trio.sleep(limits.FETCH_IDLE_S + 2 * limits.SWEEP_PERIOD_S)
        await until(lambda: len(n2.agent.far) == 0)
        assert (n2.files(), n2.agent.shelf.total) == ([], 0)
        assert await w.client(n2, "c").read_all(item) == DATA


async def test_a_node_that_is_lost_in_the_middle_and_comes_back(
    world: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    monkeypatch.setattr(limits, "FETCH_RETRY_S", 0.05)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        _, link = w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        begin = (await b.read(item)).data
        link.close()
        del n2.links.peers["n1"]
        rest: list[bytes] = []

        async def read_rest() -> None:
            end = False
            while not end:
                piece = await b.read(item, len(begin) + sum(map(len, rest)))
                rest.append(piece.data)
                end = piece.eof

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_rest)
            await trio.sleep(0.1)
            w.link(n1, n2)
        assert begin + b"".join(rest) == DATA


async def test_a_node_that_cannot_be_reached_is_named(
    world: Any, refused: Any, autojump_clock: Any
) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        item = await w.client(n1, "a").store(DATA)
        with refused("not-available") as error:
            await w.client(n2, "b").read(item)
        assert "n1" in error.value.message
        assert (n2.files(), n2.agent.shelf.total, len(n2.agent.far)) == ([], 0, 0)


async def test_wrong_bytes_are_never_read_to_the_end(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        (path,) = (p for p in n1.files() if p.name == item.blob[7:])
        path.chmod(0o644)
        path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
        b = w.client(n2, "b")
        assert (await b.read(item)).data == DATA[:MIB]
        with refused("corrupt"):
            await b.read_all(item)
        assert (n2.files(), n2.agent.shelf.total) == ([], 0)
        assert "n1" in n2.troubles[0]


async def test_a_node_that_lies_about_sizes_is_not_believed(world: Any, refused: Any) -> None:
    async with world() as w:
        n2 = await w.node("n2")
        item = messages.Stored(blob="sha256:" + "0" * 64, size=1, node="n1", key="0" * 32)
        for size, data in ((-1, b""), (1 << 60, b""), (10, b"short"), (3, b"too long")):
            answers = iter([(b"", size), *[(data, size)] * 20])

            class Liar:
                async def call(self, *_: Any, **__: Any) -> messages.Fetched:
                    await trio.lowlevel.checkpoint()
                    said = next(answers)  # noqa: B023
                    return messages.Fetched(data=said[0], size=said[1])

            n2.links.peers["n1"] = Liar()
            with refused("corrupt"):
                await w.client(n2, "b").read(item)
            assert (n2.files(), n2.agent.shelf.total) == ([], 0)


async def test_fetches_are_bounded(world: Any, refused: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "FETCHES_MAX", 1)
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        a, b = w.client(n1, "a"), w.client(n2, "b")
        one, other = await a.store(DATA), await a.store(DATA[1:])
        await b.read(one)
        with refused("limit-exceeded"):
            await b.read(other)
        assert await b.read_all(one) == DATA
        assert await b.read_all(other) == DATA[1:]


async def test_a_copy_goes_for_what_is_stored_here(world: Any) -> None:
    async with world() as w:
        n1 = await w.node("n1")
        n2 = await w.node("n2", node_bytes_max=len(DATA) + 10)
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        assert await b.read_all(item) == DATA
        own = await b.store(bytes(100))
        await until(lambda: n2.agent.shelf.get(item.blob) is None)
        assert await b.read_all(own) == bytes(100)


async def test_a_reader_that_does_not_take_its_pieces_is_not_sent_more(world: Any) -> None:
    """Its requests wait, whatever else it asks; others are served."""
    async with world() as w:
        node = await w.node("n1")
        a, slow = w.client(node, "a"), w.client(node, "b")
        item = await a.store(DATA)
        stuck = trio.Event()

        async def never_written(_data: Any) -> None:
            await stuck.wait()

        slow.there.link._stream.send_all = never_written  # type: ignore[attr-defined]
        answers: list[Any] = []
        for _ in range(100):
            slow.peer.send_request(
                "blob.read",
                _packed(item),
                answers.append,
                timeout_s=5,
            )
            await trio.lowlevel.checkpoint()
        await trio.sleep(0.3)
        most = limits.LINK_PAUSE_BYTES + limits.READS_MAX * limits.PIECE_BYTES_MAX
        assert limits.LINK_PAUSE_BYTES < slow.there.link.queued_bytes <= most
        assert not slow.there.closed
        assert await a.read_all(item) == DATA


def _packed(item: messages.Stored) -> bytes:
    return codec.pack(messages.Read(blob=item.blob, key=item.key, node=item.node))


async def test_a_fetch_is_for_hubs_of_other_nodes_and_small(world: Any, refused: Any) -> None:
    async with world() as w:
        n1 = await w.node("n1")
        a = w.client(n1, "a")
        item = await a.store(b"hello")
        for offset, size in ((-1, 1), (0, -1), (0, limits.FETCH_BYTES + 1), (6, 1)):
            with refused("invalid"):
                ask = messages.Fetch(blob=item.blob, key=item.key, offset=offset, size=size)
                await a.peer.call(messages.FETCH, ask)


async def test_the_end_of_a_hub_ends_its_fetches(world: Any, refused: Any) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2", run=False)
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        with refused("unavailable"):
            await w.client(n2, "b").read(item)
