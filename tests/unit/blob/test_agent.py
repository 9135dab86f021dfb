"""Attachments on one node: every bound of an upload and of a read, and what goes when."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.blob import limits, messages
from paas.bundle import files
from paas.testing.pair import pairs
from tests.unit.blob.conftest import World

MIB = 1 << 20
DATA = bytes(range(256)) * 10_000


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def test_what_is_stored_can_be_read_in_pieces_of_any_size(world: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        item = await a.store(DATA, 100_000)
        assert (item.blob, item.size, item.node) == (digest_of(DATA), len(DATA), "n1")
        assert len(item.key) == 32
        assert await b.read_all(item) == DATA
        assert await b.read_all(item, 77_777) == DATA
        assert (await b.read(item, 1_000, 10)).data == DATA[1_000:1_010]
        info = messages.Info(blob=item.blob, key=item.key, node=item.node)
        told = await b.peer.call(messages.INFO, info)
        assert (told.size, told.here) == (len(DATA), True)
        assert node.bugs == []


async def test_nothing_is_an_attachment_too(world: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        item = await a.commit(await a.begin(0))
        assert item.size == 0
        piece = await a.read(item)
        assert (piece.data, piece.eof) == (b"", True)


async def test_the_same_bytes_of_two_owners_have_two_keys_and_one_file(world: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        one, again, other = await a.store(DATA), await a.store(DATA), await b.store(DATA)
        assert one == again
        assert one.key != other.key
        assert node.agent.shelf.total == len(DATA)
        released = messages.Release(blob=one.blob, key=one.key)
        await a.peer.call(messages.RELEASE, released)
        assert await a.read_all(other) == DATA
        with pytest.raises(PlatformError):
            await a.read(one)
        await b.peer.call(messages.RELEASE, messages.Release(blob=other.blob, key=other.key))
        assert node.files() == []


async def test_a_key_that_is_missing_wrong_or_of_another_content_opens_nothing(
    world: Any, refused: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        item, other = await a.store(DATA), await a.store(b"other")
        for key in (other.key, "0" * 32, "é" * 32):
            with refused("no-such-target"):
                await a.read(item, key=key)
        for key in ("", item.key + "0", item.key[:-1]):
            with refused("invalid") as error:
                await a.read(item, key=key)
            assert error.value.data["field"] == "key"
        with refused("no-such-target"):
            await a.peer.call(messages.INFO, messages.Info(blob=item.blob, key=other.key))
        with refused("no-such-target"):
            await a.peer.call(messages.RELEASE, messages.Release(blob=item.blob, key=other.key))
        request = messages.READ.name, b"\x81\xa4blob\xa1x", 5.0
        with refused("invalid"):  # no key at all
            await a.peer.call_raw(*request)


@pytest.mark.parametrize(
    "blob",
    [
        "", "x", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha1:" + "0" * 40,
        "sha256:../../../../../../etc/passwd", "sha256:" + "0" * 62 + "/.", "0" * 64,
        "sha256:" + "0" * 64 + "\n",
    ],
)  # fmt: skip
async def test_a_hostile_name_is_no_digest(world: Any, refused: Any, blob: str) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        for method, params in (
            (messages.READ, messages.Read(blob=blob, key="0" * 32)),
            (messages.INFO, messages.Info(blob=blob, key="0" * 32)),
            (messages.RELEASE, messages.Release(blob=blob, key="0" * 32)),
            (messages.FETCH, messages.Fetch(blob=blob, key="0" * 32, offset=0, size=1)),
        ):
            with refused("invalid") as error:
                await a.peer.call(method, params)
            assert error.value.data["field"] == "blob"


async def test_pieces_have_bounds_and_their_place(world: Any, refused: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        upload = await a.begin(10)
        for offset in (1, -1, 1 << 62):
            with refused("invalid") as error:
                await a.append(upload, offset, b"x")
            assert error.value.data == {"field": "offset", "param": "offset", "next": 0}
        with refused("invalid"):
            await a.append(upload, 0, bytes(11))
        with refused("invalid"):
            await a.append(await a.begin(), 0, bytes(MIB + 1))
        await a.append(upload, 0, bytes(9))
        with refused("invalid") as error:  # it has come already
            await a.append(upload, 0, bytes(9))
        assert error.value.data["next"] == 9
        with refused("invalid"):
            await a.commit(upload)
        await a.append(upload, 9, b"!")
        assert (await a.commit(upload)).size == 10
        with refused("no-such-target"):
            await a.append(upload, 10, b"")
        with refused("invalid"):
            await a.begin(-1)


async def test_reads_have_bounds(world: Any, refused: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        item = await a.store(b"hello")
        for offset, size in ((-1, 1), (0, 0), (0, -1), (0, MIB + 1), (6, 1), (1 << 62, 1)):
            with refused("invalid"):
                await a.read(item, offset, size)
        piece = await a.read(item, 5, 1)
        assert (piece.data, piece.eof) == (b"", True)
        with refused("invalid"):
            await a.read(item, node="n" * 200)
        with refused("not-available"):
            far = messages.Info(blob=item.blob, key="0" * 32, node="n9")
            await a.peer.call(messages.INFO, far)


async def test_another_digest_than_was_said_is_not_kept(world: Any, refused: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        upload = await a.begin()
        await a.append(upload, 0, b"one")
        with refused("corrupt"):
            await a.commit(upload, digest_of(b"other"))
        with refused("no-such-target"):
            await a.commit(upload)
        assert (node.files(), node.agent.shelf.total) == ([], 0)
        upload = await a.begin()
        await a.append(upload, 0, b"one")
        assert (await a.commit(upload, digest_of(b"one"))).blob == digest_of(b"one")


async def test_an_upload_is_its_owners_whatever_connection_it_comes_over(
    world: Any, refused: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a, b, operator = w.client(node, "a"), w.client(node, "b"), w.client(node)
        upload = await a.begin()
        await a.append(upload, 0, b"he")
        for stranger in (b, operator):
            with refused("no-such-target"):
                await stranger.append(upload, 2, b"x")
            with refused("no-such-target"):
                await stranger.commit(upload)
        a.peer.close()
        again = w.client(node, "a")
        await again.append(upload, 2, b"llo")
        assert (await again.commit(upload)).blob == digest_of(b"hello")


async def test_quotas_of_owner_and_node(world: Any, refused: Any) -> None:
    async with world() as w:
        node = await w.node("n1", owner_bytes_max=1_000, node_bytes_max=1_500)
        a, b = w.client(node, "a"), w.client(node, "b")
        with refused("quota-exceeded"):
            await a.begin(1_001)
        upload = await a.begin()
        await a.append(upload, 0, bytes(900))
        with refused("quota-exceeded"):
            await a.append(upload, 900, bytes(101))
        await a.append(upload, 900, bytes(100))
        item = await a.commit(upload)
        with refused("storage-full"):
            await b.store(bytes(501))
        await a.peer.call(messages.RELEASE, messages.Release(blob=item.blob, key=item.key))
        await b.store(bytes(501))


async def test_uploads_are_counted(world: Any, refused: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "UPLOADS_OF_OWNER_MAX", 2)
    monkeypatch.setattr(limits, "UPLOADS_MAX", 3)
    async with world() as w:
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        first = await a.begin()
        await a.begin()
        with refused("limit-exceeded"):
            await a.begin()
        await b.begin()
        with refused("limit-exceeded"):
            await b.begin()
        await a.commit(first)
        await b.begin()


async def test_a_disk_that_is_almost_full_is_left_to_the_others(world: Any, refused: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        upload = await a.begin()
        await a.append(upload, 0, b"x")
        node.free = limits.DISK_FREE_BYTES_MIN - 1
        with refused("storage-full"):
            await a.begin()
        with refused("storage-full"):
            await a.append(upload, 1, b"y")
        node.free = limits.DISK_FREE_BYTES_MIN
        await a.append(upload, 1, b"y")
        assert (await a.commit(upload)).size == 2


async def test_a_full_disk_ends_the_upload_and_costs_nothing(
    world: Any, refused: Any, monkeypatch: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        upload = await a.begin()
        await a.append(upload, 0, bytes(100))

        def full(_descriptor: int, _data: bytes) -> None:
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(files, "write_all", full)
        with refused("storage-full"):
            await a.append(upload, 100, bytes(100))
        monkeypatch.undo()
        with refused("no-such-target"):
            await a.append(upload, 100, bytes(100))
        assert (node.files(), node.agent.shelf.total) == ([], 0)
        assert (await a.store(DATA)).size == len(DATA)


async def test_pieces_and_reads_that_wait_are_bounded(world: Any, monkeypatch: Any) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        item = await a.store(DATA)
        upload = await a.begin()
        codes: list[str] = []

        async def attempt(what: Callable[[], Any]) -> None:
            try:
                await what()
                codes.append("")
            except PlatformError as exc:
                codes.append(exc.code)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(attempt, partial(a.append, upload, 1, bytes(1_000)))
        assert set(codes) == {"invalid", "limit-exceeded"}
        codes.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(attempt, partial(a.read, item))
        assert "limit-exceeded" in codes
        assert "" in codes
        assert await a.read_all(item) == DATA
        assert node.bugs == []


async def test_what_is_not_used_goes_and_its_file_with_it(
    world: Any, refused: Any, autojump_clock: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a, b = w.client(node, "a"), w.client(node, "b")
        item, short = await a.store(DATA), await b.store(b"short")
        upload = await a.begin()
        await a.append(upload, 0, bytes(100))
        node.ended.append("b")
        await trio.sleep(limits.ENDED_KEPT_S + limits.SWEEP_PERIOD_S + 1)
        with refused("no-such-target"):
            await a.read(short)
        await a.append(upload, 100, b"in time")
        await trio.sleep(limits.UPLOAD_IDLE_S + limits.SWEEP_PERIOD_S + 1)
        with refused("no-such-target"):
            await a.append(upload, 107, b"too late")
        await trio.sleep(limits.KEPT_S - 200)
        await a.read(item)
        await trio.sleep(limits.KEPT_S - limits.SWEEP_PERIOD_S - 1)
        await a.read(item)
        await trio.sleep(limits.KEPT_S + limits.SWEEP_PERIOD_S + 1)
        with refused("no-such-target"):
            await a.read(item)
        assert (node.files(), node.agent.shelf.total) == ([], 0)
        assert node.agent.statistics()["uploads"] == 0


async def test_damage_on_the_disk_is_found_by_the_next_process_and_removed(
    world: Any, refused: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        whole, torn, bent = await a.store(DATA), await a.store(b"t" * 5_000), await a.store(b"b")
        for item, data in ((torn, b"t" * 4_999), (bent, b"c")):
            (path,) = (p for p in node.files() if p.name == item.blob[7:])
            os.chmod(path, 0o644)
            path.write_bytes(data)
        node = await w.node("n1")
        a = w.client(node, "a")
        for item in (torn, bent):
            with refused("corrupt"):
                await a.read(item)
            with refused("no-such-target"):
                await a.read(item)
        assert len(node.troubles) == 2
        assert await a.read_all(whole) == DATA
        assert (await a.store(b"b")).blob == bent.blob


async def test_a_process_that_is_killed_leaves_whole_attachments_and_no_uploads(
    world: Any, refused: Any
) -> None:
    async with world() as w:
        node = await w.node("n1")
        a = w.client(node, "a")
        item = await a.store(DATA)
        upload = await a.begin()
        await a.append(upload, 0, bytes(10_000))
        blobs, references, incoming = (
            w.root / "n1" / d for d in ("blobs", "references", "incoming")
        )
        assert len(list(incoming.iterdir())) == 1
        strange = blobs / "zz"
        strange.mkdir()
        (strange / "x").write_bytes(b"x")
        (blobs / "file").write_bytes(b"x")
        lonely = digest_of(b"lonely")[7:]
        (blobs / lonely[:2]).mkdir(exist_ok=True)
        (blobs / lonely[:2] / lonely).write_bytes(b"lonely")  # no grant: killed in between
        (references / ("0" * 64)).mkdir()
        (references / ("0" * 64) / "x.y").touch()  # no content
        (references / item.blob[7:] / "not-a-grant").touch()
        (references / "..strange").touch()
        elsewhere = w.root / "elsewhere"
        elsewhere.write_text("kept")
        os.symlink(w.root, references / "link")
        node = await w.node("n1")
        a = w.client(node, "a")
        assert {p.name for p in node.files()} == {f"{item.key}.a", item.blob[7:]}
        assert await a.read_all(item) == DATA
        assert node.agent.shelf.used("a") == len(DATA)
        with refused("no-such-target"):
            await a.append(upload, 10_000, b"x")
        assert elsewhere.read_text() == "kept"


OPERATIONS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["append", "again", "commit", "begin"]),
              st.integers(0, 4_000)),
    max_size=40,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(OPERATIONS, st.integers(0, 1 << 30))
def test_interleaved_uploads_do_not_mix(
    tmp_path_factory: Any, plan: list[tuple[int, str, int]], seed: int
) -> None:
    """Uploads of several owners, in any order, all at once: each reads back what it sent."""

    async def go() -> None:
        async with pairs() as maker, trio.open_nursery() as nursery:
            w = World(nursery, maker, tmp_path_factory.mktemp("store"))
            node = await w.node("n1")
            clients = [w.client(node, "ab"[n % 2]) for n in range(4)]
            sent: list[bytes] = [b""] * 4
            uploads: list[int] = [await c.begin() for c in clients]
            kept: list[tuple[messages.Stored, bytes]] = []
            turns = [trio.Lock() for _ in clients]

            async def step(number: int, what: str, size: int) -> None:
                client = clients[number]
                async with turns[number]:
                    if what == "append":
                        data = bytes([number, size % 251]) * (size // 2)
                        await client.append(uploads[number], len(sent[number]), data)
                        sent[number] += data
                    elif what == "again" and sent[number]:
                        with pytest.raises(PlatformError):
                            await client.append(uploads[number], 0, b"x")
                    elif what == "commit":
                        kept.append((await client.commit(uploads[number]), sent[number]))
                        uploads[number], sent[number] = await client.begin(), b""

            async with trio.open_nursery() as steps:
                for one in plan:
                    steps.start_soon(step, *one)
            for item, data in kept:
                assert item.blob == digest_of(data)
                assert await clients[0].read_all(item, 1_000) == data
            owed = {(i.blob, i.key): i.size for i, _ in kept}
            charged = sum(owed.values()) + sum(len(s) for s in sent)
            assert node.agent.shelf.used("a") + node.agent.shelf.used("b") == charged
            assert node.bugs == []
            nursery.cancel_scope.cancel()

    trio.run(go)
