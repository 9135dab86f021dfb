"""Attachments on a file system that is really full: refused, nothing left over, and it recovers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.blob import messages
from tests.unit.blob.conftest import refused, world  # noqa: F401 (fixtures)

pytestmark = pytest.mark.system

MIB = 1 << 20
LARGE = os.urandom(5 * MIB)
SMALL = LARGE[: MIB // 2]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Give the node n2 of the world a small file system."""
    disk = tmp_path / "n2"

    def mount(options: str) -> None:
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)

    yield mount
    if os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)


async def test_an_upload_that_does_not_fit(world: Any, refused: Any, mounted: Any) -> None:  # noqa: F811
    mounted("size=3m")
    async with world() as w:
        node = await w.node("n2")
        a = w.client(node, "a")
        item = await a.store(SMALL)
        with refused("storage-full"):
            await a.store(LARGE)
        assert len(node.files()) == 2
        assert node.agent.shelf.total == len(SMALL)
        assert await a.read_all(item) == SMALL
        await a.peer.call(messages.RELEASE, messages.Release(blob=item.blob, key=item.key))
        fits = LARGE[: 2 * MIB]
        assert await a.read_all(await a.store(fits)) == fits
        assert node.bugs == []


async def test_a_fetch_that_does_not_fit(world: Any, refused: Any, mounted: Any) -> None:  # noqa: F811
    mounted("size=3m")
    async with world() as w:
        n1, n2 = await w.node("n1"), await w.node("n2")
        w.link(n1, n2)
        a, b = w.client(n1, "a"), w.client(n2, "b")
        item, small = await a.store(LARGE), await a.store(SMALL)
        with refused("storage-full"):
            await b.read_all(item)
        assert (n2.files(), n2.agent.shelf.total, len(n2.agent.far)) == ([], 0, 0)
        assert await b.read_all(small) == SMALL
        assert n1.bugs == n2.bugs == []


async def test_a_file_system_without_another_name(
    world: Any,  # noqa: F811
    refused: Any,  # noqa: F811
    mounted: Any,
) -> None:
    """A content that has come to its place gets no grant: it must not stay for ever."""
    mounted("size=3m,nr_inodes=12")
    async with world() as w:
        node = await w.node("n2")
        a = w.client(node, "a")
        stored = []
        with refused("storage-full"):
            for number in range(12):
                stored += [await a.store(b"%d" % number)]
        assert stored
        names = sorted(p.name for p in (node.root / "blobs").rglob("*") if p.is_file())
        assert names == sorted(item.blob[7:] for item in stored)
        assert list((node.root / "incoming").iterdir()) == []
        for item in stored:
            await a.peer.call(messages.RELEASE, messages.Release(blob=item.blob, key=item.key))
        assert (await a.store(b"again")).size == 5
