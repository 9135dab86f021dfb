"""A blob is whole and durable or not there; nothing that is in use is removed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.bundle import digest, files, limits
from paas.bundle.signature import prehash
from paas.bundle.store import BlobStore

CONTENT = b"hello world" * 100_000
DIGEST = digest.of(CONTENT)


def pieces(content: bytes = CONTENT) -> list[bytes]:
    return [content[at : at + 65536] for at in range(0, len(content), 65536)]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def code(exc: pytest.ExceptionInfo[PlatformError]) -> str:
    return exc.value.code


def test_what_is_put_is_got(store: BlobStore) -> None:
    assert not store.has(DIGEST)
    assert store.put(pieces(), DIGEST) == len(CONTENT)
    assert store.has(DIGEST)
    assert store.get(DIGEST) == CONTENT
    assert store.size(DIGEST) == len(CONTENT)
    assert store.stored() == [DIGEST]
    assert os.listdir(store.incoming) == []


def test_an_upload_in_pieces_can_be_checked_before_it_is_kept(store: BlobStore) -> None:
    with store.begin() as upload:
        for piece in pieces():
            upload.write(piece)
        assert upload.size == len(CONTENT)
        assert b"".join(upload.chunks()) == CONTENT
        assert upload.prehash == prehash([CONTENT])
        upload.commit(DIGEST)
    assert store.has(DIGEST)


def test_an_upload_that_is_not_committed_leaves_nothing(store: BlobStore) -> None:
    with store.begin() as upload:
        upload.write(b"x")
    assert os.listdir(store.incoming) == []
    with pytest.raises(PlatformError, match="has ended"):
        upload.write(b"y")


def test_content_with_another_digest_is_not_kept(store: BlobStore) -> None:
    with pytest.raises(PlatformError) as caught:
        store.put([b"other"], DIGEST)
    assert code(caught) == "corrupt"
    assert store.stored() == []
    assert os.listdir(store.incoming) == []


def test_too_large_an_upload_is_stopped(store: BlobStore) -> None:
    with pytest.raises(PlatformError) as caught:
        store.put(pieces(), DIGEST, bytes_max=len(CONTENT) - 1)
    assert code(caught) == "limit-exceeded"
    assert os.listdir(store.incoming) == []


def test_uploads_at_the_same_time_are_bounded_and_the_bound_recovers(store: BlobStore) -> None:
    uploads = [store.begin() for _ in range(limits.UPLOADS_MAX)]
    with pytest.raises(PlatformError) as caught:
        store.begin()
    assert code(caught) == "limit-exceeded"
    for upload in uploads:
        upload.abort()
        upload.abort()
    store.put(pieces(), DIGEST)


def test_putting_again_is_harmless_and_heals_a_damaged_blob(store: BlobStore) -> None:
    store.put(pieces(), DIGEST)
    store.path(DIGEST).chmod(0o644)
    store.path(DIGEST).write_bytes(b"damaged")
    store.put(pieces(), DIGEST)
    assert store.get(DIGEST) == CONTENT


@pytest.mark.parametrize("damage", ["torn", "flipped", "longer"])
def test_a_damaged_blob_is_noticed_at_reading(store: BlobStore, damage: str) -> None:
    store.put(pieces(), DIGEST)
    path = store.path(DIGEST)
    path.chmod(0o644)
    flipped = bytearray(CONTENT)
    flipped[500_000] ^= 4
    path.write_bytes(
        {"torn": CONTENT[:-1], "flipped": bytes(flipped), "longer": CONTENT + b"x"}[damage]
    )
    with pytest.raises(PlatformError) as caught:
        store.get(DIGEST)
    assert code(caught) == "corrupt"


@pytest.mark.parametrize("method", ["get", "size", "delete"])
def test_an_unknown_digest_is_named(store: BlobStore, method: str) -> None:
    with pytest.raises(PlatformError, match=DIGEST) as caught:
        getattr(store, method)(DIGEST)
    assert code(caught) == "no-such-bundle"


def test_what_is_not_a_digest_never_becomes_a_path(store: BlobStore) -> None:
    with pytest.raises(PlatformError, match="digest: expected"):
        store.path(digest.Digest("sha256:../../../etc/passwd"))


def test_a_blob_that_a_type_refers_to_is_not_removed(store: BlobStore) -> None:
    store.put(pieces(), DIGEST)
    store.refer(DIGEST, "hello@1.0.0")
    store.refer(DIGEST, "hello@1.0.0")
    store.refer(DIGEST, "hello@2.0.0")
    assert store.references(DIGEST) == ["hello@1.0.0", "hello@2.0.0"]
    with pytest.raises(PlatformError, match=r"hello@1\.0\.0") as caught:
        store.delete(DIGEST)
    assert code(caught) == "conflict"
    assert store.collect() == []
    store.release(DIGEST, "hello@1.0.0")
    store.release(DIGEST, "hello@1.0.0")
    assert store.collect() == []
    store.release(DIGEST, "hello@2.0.0")
    assert store.collect(keep={DIGEST}) == []
    assert store.collect() == [DIGEST]
    assert not store.has(DIGEST)


def test_references_survive_a_restart(store: BlobStore, tmp_path: Path) -> None:
    store.put(pieces(), DIGEST)
    store.refer(DIGEST, "hello@1.0.0")
    assert BlobStore(tmp_path / "store").references(DIGEST) == ["hello@1.0.0"]


def test_a_reference_needs_its_blob(store: BlobStore) -> None:
    with pytest.raises(PlatformError) as caught:
        store.refer(DIGEST, "hello@1.0.0")
    assert code(caught) == "no-such-bundle"


@pytest.mark.parametrize("user", ["a/b", "..", ".", "ä b", "x%2Fy", "../../etc/passwd"])
def test_any_name_can_refer(store: BlobStore, user: str) -> None:
    store.put(pieces(), DIGEST)
    store.refer(DIGEST, user)
    assert store.references(DIGEST) == [user]
    store.release(DIGEST, user)
    store.delete(DIGEST)


@pytest.mark.parametrize("user", ["", "x" * 256])
def test_a_name_that_no_file_can_have_is_refused(store: BlobStore, user: str) -> None:
    store.put(pieces(), DIGEST)
    with pytest.raises(PlatformError, match="expected a name"):
        store.refer(DIGEST, user)


def test_references_of_one_blob_are_bounded(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REFERENCES_MAX", 1)
    store.put(pieces(), DIGEST)
    store.refer(DIGEST, "a@1")
    with pytest.raises(PlatformError) as caught:
        store.refer(DIGEST, "b@1")
    assert code(caught) == "limit-exceeded"


_UPLOADER = """
import sys
from pathlib import Path
from paas.bundle import digest
from paas.bundle.store import BlobStore
store = BlobStore(Path(sys.argv[1]))
content = b"hello world" * 100_000
print("ready", flush=True)
while True:
    with store.begin() as upload:
        for at in range(0, len(content), 4096):
            upload.write(content[at : at + 4096])
        upload.commit(digest.of(content))
    store.delete(digest.of(content))
"""


def test_a_store_whose_process_was_killed_recovers(tmp_path: Path) -> None:
    """Killed at a random place, many times: the blob is whole or absent, no leftover stays."""
    root = tmp_path / "store"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for delay in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", _UPLOADER, str(root)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        while not any((root / "incoming").iterdir()) and child.poll() is None:
            time.sleep(0.0005)
        time.sleep(delay * 0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = BlobStore(root)
        assert os.listdir(store.incoming) == []
        if store.has(DIGEST):
            assert store.get(DIGEST) == CONTENT


@pytest.mark.parametrize("step", ["write_all", "fsync", "replace", "sync_directory", "mkstemp"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_any_step_is_reported_and_leaves_nothing(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    def full(*_args: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        module = {"write_all": files, "sync_directory": files}.get(step, os)
        if step == "mkstemp":
            patch.setattr("paas.bundle.store.tempfile.mkstemp", full)
        else:
            patch.setattr(module, step, full)
        with pytest.raises(PlatformError) as caught:
            store.put(pieces(), DIGEST)
        assert code(caught) == "storage-full"
    assert os.listdir(store.incoming) == []
    if store.has(DIGEST):  # renamed, only the directory's sync failed: whole, and put again
        assert store.get(DIGEST) == CONTENT
    store.put(pieces(), DIGEST)
    assert store.get(DIGEST) == CONTENT


def test_another_fault_of_the_disk_is_not_called_full(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(files, "write_all", broken)
    with pytest.raises(OSError, match="broken"):
        store.put(pieces(), DIGEST)
    assert os.listdir(store.incoming) == []
