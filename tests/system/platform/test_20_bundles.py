"""Hostile archives, wrong digests and signatures, through the API: refused, and nothing is kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.bundle import keys
from paas.bundle.build import build
from paas.bundle.signature import SecretKey, prehash, sign

from .conftest import below

pytestmark = pytest.mark.system

PIECE_BYTES = 1 << 20


class Uploader:
    """Sends archives as a client of the API does, with a key that the cluster trusts."""

    def __init__(self, platform: Any) -> None:
        self._platform = platform
        self.connection = platform.connect(binary=True)
        self.key = keys.generate()
        self.connection.call("bundle.trust", {"public_key": self.key.public.text()})

    def upload(
        self,
        data: bytes,
        *,
        digest: str | None = None,
        signature: str | None = None,
        key: SecretKey | None = None,
    ) -> str:
        """All of an upload; raises what it is refused with."""
        named = digest or f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = self.connection.call("bundle.begin", {"digest": named, "size": len(data)})
        assert not begun["present"]
        for offset in range(0, len(data), PIECE_BYTES):
            piece = data[offset : offset + PIECE_BYTES]
            params = {"upload": begun["upload"], "offset": offset, "data": piece}
            self.connection.call("bundle.append", params)
        if signature is None:
            signature = sign(key or self.key, prehash([data]), "a test")
        params = {"upload": begun["upload"], "digest": named, "signature": signature}
        self.connection.call("bundle.commit", params)
        return named

    def refused(self, data: bytes, **more: Any) -> PlatformError:
        before = self.stored()
        with pytest.raises(PlatformError) as caught:
            self.upload(data, **more)
        assert self.stored() == before, "something of a refused bundle was kept"
        return caught.value

    def stored(self) -> tuple[list[str], list[str]]:
        """What the cluster says that it has, and what is on its disk."""
        listed = self.connection.call("bundle.list")["bundles"]
        blobs = self._platform.state / "blobs"
        files = [p for folder in ("blobs", "incoming") for p in below(blobs / folder)]
        return sorted(b["digest"] for b in listed), sorted(str(f) for f in files if f.is_file())


@pytest.fixture
def uploader(platform: Any) -> Any:
    one = Uploader(platform)
    yield one
    one.connection.close()


@pytest.fixture
def good(platform: Any, tmp_path: Path) -> bytes:
    """An archive with nothing wrong; each time another one."""
    source = platform.source("good", ["true"], files={"random": tmp_path.name})
    return build(source, tmp_path / "good.bundle").archive.read_bytes()


def test_a_right_bundle_is_kept(uploader: Uploader, good: bytes) -> None:
    digest = uploader.upload(good)
    assert digest in uploader.stored()[0]
    again = uploader.connection.call("bundle.begin", {"digest": digest, "size": len(good)})
    assert again["present"] is True
    uploader.connection.call("bundle.remove", {"digest": digest})
    assert digest not in uploader.stored()[0]


def test_no_hostile_archive_is_kept(uploader: Uploader, hostile: ModuleType) -> None:
    """Path traversal, links out, device nodes, bombs, and what else the corpus knows."""
    for name, (data, word) in hostile.ANSWERS.items():
        if not data:
            continue
        error = uploader.refused(data)
        assert error.code in ("invalid", "corrupt", "limit-exceeded"), (name, error)
        assert word in error.message, (name, error.message)


def test_an_archive_in_an_archive_is_only_a_file(
    uploader: Uploader, hostile: ModuleType, good: bytes
) -> None:
    """A recursive archive is not unpacked again: what is inside of a file stays there."""
    inner = hostile.packed(hostile.file(b"../evil"))
    for _ in range(50):
        inner = hostile.packed(hostile.file(b"inner", inner))
    assert "component.toml" in uploader.refused(inner).message


def test_a_bundle_without_or_with_a_broken_manifest_is_refused(
    uploader: Uploader, hostile: ModuleType
) -> None:
    assert "component.toml" in uploader.refused(hostile.packed(hostile.file(b"a"))).message
    broken = hostile.packed(hostile.file(b"component.toml", b"[component]\nname = 7\n"))
    error = uploader.refused(broken)
    assert error.code == "invalid"
    assert "component.toml:2: component.name" in error.message


def test_a_wrong_digest_is_refused(uploader: Uploader, good: bytes) -> None:
    error = uploader.refused(good, digest="sha256:" + "0" * 64)
    assert error.code == "corrupt"
    error = uploader.refused(good, digest="md5:" + "0" * 32)
    assert error.code == "invalid"


def test_a_missing_signature_is_refused(uploader: Uploader, good: bytes) -> None:
    error = uploader.refused(good, signature="")
    assert error.code == "untrusted"
    assert "missing" in error.message


def test_an_unknown_publisher_is_refused_and_named(uploader: Uploader, good: bytes) -> None:
    stranger = keys.generate()
    error = uploader.refused(good, key=stranger)
    assert error.code == "untrusted"
    assert stranger.public.key_id in error.message


def test_a_signature_over_something_else_is_refused(uploader: Uploader, good: bytes) -> None:
    error = uploader.refused(good, signature=sign(uploader.key, prehash([b"other"]), ""))
    assert error.code == "untrusted"
    assert "is wrong" in error.message


def test_more_bytes_than_announced_are_refused(uploader: Uploader, good: bytes) -> None:
    call = uploader.connection.call
    digest = f"sha256:{hashlib.sha256(good).hexdigest()}"
    begun = call("bundle.begin", {"digest": digest, "size": 10})
    with pytest.raises(PlatformError) as caught:
        call("bundle.append", {"upload": begun["upload"], "offset": 0, "data": good})
    assert caught.value.code == "limit-exceeded"
    with pytest.raises(PlatformError) as caught:
        call("bundle.begin", {"digest": digest, "size": 1 << 40})
    assert caught.value.code == "invalid"
    assert "size" in caught.value.message


def test_half_an_upload_is_not_a_bundle_and_ends_with_its_connection(
    platform: Any, uploader: Uploader, good: bytes, wait_until: Any
) -> None:
    before = uploader.stored()
    other = platform.connect(binary=True)
    digest = f"sha256:{hashlib.sha256(good).hexdigest()}"
    begun = other.call("bundle.begin", {"digest": digest, "size": len(good)})
    other.call("bundle.append", {"upload": begun["upload"], "offset": 0, "data": good[:50]})
    signature = sign(uploader.key, prehash([good]), "")
    with pytest.raises(PlatformError) as caught:
        other.call(
            "bundle.commit",
            {"upload": begun["upload"], "digest": digest, "signature": signature},
        )
    assert caught.value.code == "corrupt"
    begun = other.call("bundle.begin", {"digest": digest, "size": len(good)})
    other.call("bundle.append", {"upload": begun["upload"], "offset": 0, "data": good[:50]})
    other.close()
    wait_until(lambda: uploader.stored() == before)


def test_a_type_of_a_bundle_that_is_not_stored_is_refused(platform: Any) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.api(
            "controller.register_type",
            bundle="sha256:" + "1" * 64,
            manifest={"component": {"name": "ghost", "version": "1", "command": ["true"]}},
        )
    assert caught.value.code == "no-such-bundle"


def test_a_component_of_a_damaged_bundle_does_not_start(platform: Any) -> None:
    """A bit that flipped on the disk is an error, and never a program."""
    kind = platform.push(platform.source("damaged", ["sleep", "1000"]))
    digest = platform.api("controller.type", type=kind)["bundle"].removeprefix("sha256:")
    blob = platform.state / "blobs" / "blobs" / digest[:2] / digest
    blob.chmod(0o644)
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PlatformError) as caught:
        platform.create(kind, restart="temporary")
    assert caught.value.code == "failed"
    assert "digest" in caught.value.message
