"""A tree is laid out once, whole, for all that ask; and stays while anybody holds it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.bundle import archive, digest, files
from paas.bundle.digest import Digest
from paas.bundle.store import BlobStore
from paas.bundle.unpacked import UnpackedCache


class Source:
    """Bundles in memory; counts how often one was read."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.reads: list[Digest] = []

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        self.reads.append(digest)
        return iter([self.blobs[digest]])

    def add(self, folder: Path, content: bytes) -> Digest:
        folder.mkdir()
        (folder / "file").write_bytes(content)
        pieces: list[bytes] = []
        archive.write(folder, pieces.append)
        blob = b"".join(pieces)
        self.blobs[digest.of(blob)] = blob
        return digest.of(blob)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cache"
    files.remove_tree(tmp_path / "cache")


@pytest.fixture
def one(source: Source, tmp_path: Path) -> Digest:
    return source.add(tmp_path / "one", b"one" * 5000)


def test_a_tree_is_extracted_once_and_shared(source: Source, root: Path, one: Digest) -> None:
    cache = UnpackedCache(root, source)
    first = cache.acquire(one, "c1")
    assert cache.acquire(one, "c2") == first
    assert (first / "file").read_bytes() == b"one" * 5000
    assert source.reads == [one]
    assert cache.in_use(one) == 2
    assert cache.laid_out() == [one]


def test_many_requests_at_once_extract_once(source: Source, root: Path, one: Digest) -> None:
    cache = UnpackedCache(root, source)
    start = threading.Barrier(8)
    trees: list[Path] = []

    def ask(number: int) -> None:
        start.wait()
        trees.append(cache.acquire(one, f"c{number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(trees)) == 1
    assert len(trees) == 8
    assert source.reads == [one]
    assert cache.in_use(one) == 8


def test_a_bundle_that_cannot_be_extracted_is_not_held(
    source: Source, root: Path, one: Digest
) -> None:
    cache = UnpackedCache(root, source)
    whole = source.blobs[one]
    source.blobs[one] = whole[:-5]
    with pytest.raises(PlatformError) as caught:
        cache.acquire(one, "c1")
    assert caught.value.code == "corrupt"
    assert (cache.in_use(one), cache.laid_out()) == (0, [])
    assert os.listdir(root / "trees") == []
    source.blobs[one] = whole
    cache.acquire(one, "c1")


def test_a_bundle_that_changes_between_check_and_use_is_refused(
    source: Source, root: Path, one: Digest, tmp_path: Path
) -> None:
    other = source.add(tmp_path / "other", b"evil")
    source.blobs[one] = source.blobs[other]
    cache = UnpackedCache(root, source)
    with pytest.raises(PlatformError, match="has the digest"):
        cache.acquire(one, "c1")
    assert cache.laid_out() == []


def test_eviction_takes_the_longest_unused_and_never_what_is_held(
    source: Source, root: Path, tmp_path: Path
) -> None:
    cache = UnpackedCache(root, source)
    digests = [source.add(tmp_path / name, name.encode() * 5000) for name in ("a", "b", "c")]
    for age, each in enumerate(digests):
        tree = cache.acquire(each, "c")
        os.utime(tree, (age, age))
    assert cache.evict(0) == []
    for each in digests[:2]:
        cache.release(each, "c")
    assert cache.evict(1 << 30) == []
    assert cache.evict(20_000) == [digests[0]]
    assert cache.evict(0) == [digests[1]]
    assert cache.laid_out() == [digests[2]]
    assert (cache.acquire(digests[0], "c") / "file").is_file()


def test_holders_survive_a_restart_and_those_that_ended_are_dropped(
    source: Source, root: Path, one: Digest
) -> None:
    UnpackedCache(root, source).acquire(one, "c1")
    UnpackedCache(root, source).acquire(one, "c2")
    cache = UnpackedCache(root, source)
    assert cache.in_use(one) == 2
    cache.retain({"c2"})
    assert cache.in_use(one) == 1
    assert cache.evict(0) == []
    cache.retain(())
    assert cache.evict(0) == [one]


def test_a_cache_of_another_boot_is_thrown_away(source: Source, root: Path, one: Digest) -> None:
    UnpackedCache(root, source, boot_id="first").acquire(one, "c1")
    assert UnpackedCache(root, source, boot_id="first").laid_out() == [one]
    cache = UnpackedCache(root, source, boot_id="second")
    assert (cache.laid_out(), cache.in_use(one)) == ([], 0)


def test_leftovers_of_a_crash_are_removed(source: Source, root: Path, one: Digest) -> None:
    UnpackedCache(root, source).acquire(one, "c1")
    for name in (".unpack-x", ".evict-y"):
        (root / "trees" / name / "sub").mkdir(parents=True)
        (root / "trees" / name / "sub").chmod(0o555)
    assert UnpackedCache(root, source).laid_out() == [one]
    assert os.listdir(root / "trees") == [digest.hexadecimal(one)]


_EXTRACTOR = """
import sys
from pathlib import Path
from paas.bundle.digest import Digest
from paas.bundle.store import BlobStore
from paas.bundle.unpacked import UnpackedCache
store, bundle = BlobStore(Path(sys.argv[1]) / "store"), Digest(sys.argv[2])
cache = UnpackedCache(Path(sys.argv[1]) / "cache", store)
print("ready", flush=True)
while True:
    cache.acquire(bundle, "c1")
    cache.release(bundle, "c1")
    cache.evict(0)
"""


def test_a_cache_whose_process_was_killed_recovers(tmp_path: Path) -> None:
    """Killed at a random place, many times: a tree is whole or absent."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(60):
        (folder / f"file{number}").write_text("x" * 1000)
    pieces: list[bytes] = []
    archive.write(folder, pieces.append)
    bundle = digest.of(b"".join(pieces))
    BlobStore(tmp_path / "store").put(pieces, bundle)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for delay in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", _EXTRACTOR, str(tmp_path), bundle],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        while not os.listdir(tmp_path / "cache" / "trees") and child.poll() is None:
            time.sleep(0.0005)
        time.sleep(delay * 0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        cache = UnpackedCache(tmp_path / "cache", BlobStore(tmp_path / "store"))
        assert [name for name in os.listdir(tmp_path / "cache" / "trees") if name[0] == "."] == []
        tree = cache.acquire(bundle, "c2")
        assert len(os.listdir(tree)) == 60
        assert all((tree / name).stat().st_size == 1000 for name in os.listdir(tree))
        cache.retain(())
    files.remove_tree(tmp_path / "cache")
