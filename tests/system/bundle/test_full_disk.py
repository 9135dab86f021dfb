"""On a file system that is really full, changes are refused, reads work, and it recovers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.bundle import archive, digest
from paas.bundle.build import build
from paas.bundle.store import BlobStore
from paas.bundle.unpacked import UnpackedCache

pytestmark = pytest.mark.system

SMALL = os.urandom(200_000)
LARGE = os.urandom(4 << 20)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Two mebibytes."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mounted)], check=True)
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def packed(folder: Path, content: bytes) -> bytes:
    folder.mkdir()
    (folder / "file").write_bytes(content)
    pieces: list[bytes] = []
    archive.write(folder, pieces.append)
    return b"".join(pieces)


def test_a_store_on_a_full_disk_refuses_reads_and_recovers(disk: Path) -> None:
    store = BlobStore(disk / "store")
    store.put([SMALL], digest.of(SMALL))
    with pytest.raises(PlatformError) as caught:
        store.put([LARGE[at : at + 65536] for at in range(0, len(LARGE), 65536)], digest.of(LARGE))
    assert caught.value.code == "storage-full"
    assert os.listdir(store.incoming) == []
    assert store.stored() == [digest.of(SMALL)]
    assert store.get(digest.of(SMALL)) == SMALL
    other = SMALL[::-1]
    store.put([other], digest.of(other))
    assert store.get(digest.of(other)) == other


def test_an_extraction_on_a_full_disk_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    blob = packed(tmp_path / "large", LARGE)
    store = BlobStore(tmp_path / "store")
    store.put([blob], digest.of(blob))
    cache = UnpackedCache(disk / "cache", store)
    with pytest.raises(PlatformError) as caught:
        cache.acquire(digest.of(blob), "c1")
    assert caught.value.code == "storage-full"
    assert os.listdir(disk / "cache" / "trees") == []
    assert cache.in_use(digest.of(blob)) == 0
    small = packed(tmp_path / "small", SMALL)
    store.put([small], digest.of(small))
    assert (cache.acquire(digest.of(small), "c1") / "file").read_bytes() == SMALL


def test_a_build_on_a_full_disk_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "component.toml").write_text(
        '[component]\nname = "a"\nversion = "1"\ncommand = ["x"]\n'
    )
    (source / "large").write_bytes(LARGE)
    with pytest.raises(PlatformError) as caught:
        build(source, disk / "bundle")
    assert caught.value.code == "storage-full"
    assert os.listdir(disk) == []
