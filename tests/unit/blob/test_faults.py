"""Attachments when something goes wrong in the middle, or somebody asks for more than is fair."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.blob import limits, messages
from paas.blob.shelf import COPY, Shelf
from paas.bundle import files
from paas.bundle.references import References

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 123)


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "no space")


async def test_a_disk_that_becomes_full_in_the_middle_of_a_fetch_ends_the_fetch_only(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        written = 0
        write_all = files.write_all

        def write(descriptor: int, data: bytes) -> None:
            nonlocal written
            written += len(data)
            if written > MIB:
                full()
            write_all(descriptor, data)

        monkeypatch.setattr(files, "write_all", write)
        b = w.client(n2, "b")
        with refused("storage-full"):
            await b.read_all(item)
        assert (n2.files(), n2.agent.shelf.total, len(n2.agent.far)) == ([], 0, 0)
        monkeypatch.undo()
        assert await b.read_all(item) == DATA


async def test_a_fetch_leaves_the_others_their_room_on_the_disk(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        assert (await b.read(item, 0, 1_000)).data == DATA[:1_000]
        n2.free = limits.DISK_FREE_BYTES_MIN - 1
        with refused("storage-full"):
            await b.read_all(item)
        assert (n2.files(), n2.agent.shelf.total) == ([], 0)


async def test_a_reader_beside_a_write_that_fails_hears_of_the_failure(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    """What it reads is never another file that got the number of the closed one."""
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        await b.read(item, 0, 1_000)
        (flight,) = n2.agent.far._flights.values()
        upload = flight.upload
        assert upload is not None
        stranger = n2.root / "stranger"

        piece = upload.piece

        def late(offset: int, count: int) -> bytes:
            upload.abort()
            descriptor = os.open(stranger, os.O_RDWR | os.O_CREAT)
            os.write(descriptor, bytes(MIB))
            try:
                return piece(offset, count)
            finally:
                os.close(descriptor)

        def refusing(_data: bytes) -> None:
            raise PlatformError("storage-full")

        monkeypatch.setattr(upload, "write", refusing)
        monkeypatch.setattr(upload, "piece", late)
        with refused("storage-full"):
            await b.read_all(item)
        assert n2.bugs == []


async def test_a_grant_that_cannot_be_written_leaves_no_file(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        kept = await a.store(b"kept")
        real = References.add

        def add(references: References, thing: str, user: str) -> None:
            with files.reporting_full_disk():
                full()

        monkeypatch.setattr(References, "add", add)
        for data in (b"new", b"kept"):
            with refused("storage-full"):
                await b.store(data)
        monkeypatch.setattr(References, "add", real)
        assert len(node.files()) == 2
        assert await a.read_all(kept) == b"kept"
        assert node.agent.shelf.used("b") == 0


async def test_what_is_released_while_it_is_read_is_missing_and_not_damaged(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        item = await a.store(b"hello")
        again: list[messages.Stored] = []
        piece = node.store.piece

        def late(*args: Any) -> bytes:
            async def release() -> None:
                await a.peer.call(messages.RELEASE, messages.Release(blob=item.blob, key=item.key))

            async def store() -> None:
                again.append(await a.store(b"hello"))

            trio.from_thread.run(release)
            try:
                return piece(*args)
            finally:
                trio.from_thread.run(store)

        monkeypatch.setattr(node.store, "piece", late)
        with refused("no-such-target"):
            await b.read(item)
        monkeypatch.undo()
        assert node.troubles == []
        assert await b.read_all(again[0]) == b"hello"


async def test_what_is_stored_again_while_the_old_bytes_are_checked_stays(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        item = await w.client(node, "a").store(b"hello")
        (path,) = (p for p in node.files() if p.name == item.blob[7:])
        path.chmod(0o644)
        path.write_bytes(b"jello")
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        check = node.store.check

        def late(digest: str) -> None:
            try:
                check(digest)
            finally:

                async def store() -> None:
                    await b.store(b"hello")

                trio.from_thread.run(store)

        monkeypatch.setattr(node.store, "check", late)
        assert await a.read_all(item) == b"hello"


async def test_an_offset_beyond_the_end_makes_nobody_fetch_it_all(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        for offset in (len(DATA) + 1, 1 << 62):
            with refused("invalid") as error:
                await b.read(item, offset)
            assert error.value.data["field"] == "offset"
        await trio.sleep(0.2)
        (flight,) = n2.agent.far._flights.values()
        assert flight.have <= MIB + limits.FETCH_BYTES
        assert await b.read_all(item) == DATA


async def test_one_reader_does_not_take_all_fetches(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "FETCHES_OF_READER_MAX", 2)
    monkeypatch.setattr(limits, "FETCH_AHEAD_BYTES", MIB)
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        a, greedy, other = w.client(n1, "a"), w.client(n2, "b"), w.client(n2, "c")
        items = [await a.store(DATA[number:]) for number in range(3)]
        for item in items[:2]:
            await greedy.read(item, 0, 1_000)
        with refused("limit-exceeded"):
            await greedy.read(items[2], 0, 1_000)
        assert await other.read_all(items[2]) == DATA[2:]
        assert await greedy.read_all(items[0]) == DATA
        assert await greedy.read_all(items[1]) == DATA[1:]


async def test_tiny_attachments_of_one_owner_leave_places_for_the_others(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "ENTRIES_OF_OWNER_MAX", 3)
    async with world() as w:
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        items = [await a.store(bytes([number])) for number in range(3)]
        with refused("limit-exceeded"):
            await a.store(b"one more")
        assert await a.store(bytes([0])) == items[0]
        await b.store(b"one more")
        await a.peer.call(messages.RELEASE, messages.Release(blob=items[0].blob, key=items[0].key))
        await a.store(b"one more")


def test_the_oldest_of_an_owner_makes_place_once_it_is_idle(monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "ENTRIES_OF_OWNER_MAX", 2)
    shelf = Shelf()
    shelf.add("d1", 1, "k1", "a", 0)
    shelf.add("d2", 1, "k2", "a", 1)
    shelf.check_room("d3", "a", limits.YIELDS_S)
    assert [gone.digest for gone in shelf.take_gone()] == ["d1"]
    for number in range(5):  # copies are bounded with the node's
        shelf.add(f"c{number}", 1, "k", COPY, 0)
    shelf.check_room("c5", COPY, 0)


async def test_an_upload_whose_file_cannot_be_removed_does_not_end_the_hub(
    world: Any, mock_clock: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        upload = await a.begin()
        await a.append(upload, 0, b"x")
        incoming = node.agent._uploads[upload].incoming

        def broken() -> None:
            raise OSError(errno.EROFS, "read-only")

        incoming.abort = broken
        for _ in range(3):  # time stands still otherwise: files are written in threads
            mock_clock.jump(limits.UPLOAD_IDLE_S)
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert len(node.troubles) == 1
        del incoming.abort
        assert await a.read_all(await a.store(DATA)) == DATA


async def test_what_a_reader_that_takes_nothing_costs(world: Any) -> None:
    """All its reads at once put no more than one piece beyond the pause on its link."""
    async with world() as w:
        node = await w.node("n1")
        slow = w.client(node, "b")
        item = await w.client(node, "a").store(DATA)
        stuck = trio.Event()

        async def never_written(_data: Any) -> None:
            await stuck.wait()

        slow.there.link._stream.send_all = never_written
        async with trio.open_nursery() as nursery:
            for _ in range(limits.READS_MAX):
                nursery.start_soon(slow.read, item)
            await trio.sleep(0.3)
            queued = slow.there.link.queued_bytes
            nursery.cancel_scope.cancel()
        assert 0 < queued <= limits.LINK_PAUSE_BYTES + limits.PIECE_BYTES_MAX + 1_000


@pytest.mark.parametrize("whole", [True, False])
async def test_pieces_that_are_asked_for_all_at_once_come_right(world: Any, whole: bool) -> None:
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        item = await w.client(n1, "a").store(DATA)
        b = w.client(n2, "b")
        if whole:
            assert await b.read_all(item) == DATA
        found: dict[int, bytes] = {}

        async def read(offset: int) -> None:
            found[offset] = (await b.read(item, offset)).data

        async with trio.open_nursery() as nursery:
            for offset in range(0, len(DATA), MIB):
                nursery.start_soon(read, offset)
        assert b"".join(found[offset] for offset in sorted(found)) == DATA
        assert n1.bugs == n2.bugs == []
