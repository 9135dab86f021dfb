"""Images are read from layouts and archives, each blob by its digest; what is wrong is named."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.oci import documents
from paas.oci.documents import Defaults
from paas.oci.source import Found, open_image
from paas.oci.target import Writer, archive

DEFAULTS = Defaults(environment={"A": "1"}, command=("/bin/x",))
Edit = Callable[[Path], None]


def layer(name: str = "f", content: bytes = b"content") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def layout(path: Path, *layers: bytes, machine: str = "amd64", name: str = "one") -> Path:
    path.mkdir()
    writer = Writer(path)
    for data in layers or (layer(),):
        writer.add_layer([data])
    writer.finish(name, DEFAULTS, machine, ["a test"])
    return path


def opened(path: Path, tmp_path: Path, **more: Any) -> Found:
    scratch = tmp_path / f"scratch{len(os.listdir(tmp_path))}"
    scratch.mkdir()
    return open_image(path, scratch, machine="x86_64", **more)


def contents(found: Found) -> list[bytes]:
    return [gzip.decompress(b"".join(found.chunks(x))) for x in found.image.layers]


def test_a_layout_is_read_back_from_directory_tar_and_compressed_tar(tmp_path: Path) -> None:
    directory = layout(tmp_path / "layout", layer("a"), layer("b"))
    archive(directory, tmp_path / "image.tar")
    (tmp_path / "image.tgz").write_bytes(gzip.compress((tmp_path / "image.tar").read_bytes()))
    digests = set()
    for name in ("layout", "image.tar", "image.tgz"):
        found = opened(tmp_path / name, tmp_path)
        assert contents(found) == [layer("a"), layer("b")]
        assert (found.reference, found.image.defaults) == ("one", DEFAULTS)
        digests.add(found.image.manifest_digest)
    assert len(digests) == 1


def test_the_same_image_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    for number in "12":
        directory = layout(tmp_path / f"layout{number}")
        archive(directory, tmp_path / f"{number}.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def docker(path: Path, *layers: bytes, tags: list[str] | None = None, **changes: Any) -> Path:
    """What `docker save` writes: one layer as a link to another, as older ones did."""
    config = documents.write_config(
        [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers], DEFAULTS, "amd64", []
    )
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    entry = {"Config": "c.json", "RepoTags": tags or ["x/name:1"], "Layers": names, **changes}
    with tarfile.open(path, "w") as tar:
        files = {"c.json": config, "manifest.json": json.dumps([entry]).encode()}
        for name, data in (*zip(names, layers, strict=True), *files.items()):
            info = tarfile.TarInfo(name)
            if name == "1/layer.tar" and layers[1] == layers[0]:
                info.type, info.linkname = tarfile.SYMTYPE, "../0/layer.tar"
                data = b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_docker_archive_is_read_and_its_layers_are_packed(tmp_path: Path) -> None:
    path = docker(tmp_path / "saved.tar", layer("a"), layer("a"), layer("b"))
    found = opened(path, tmp_path)
    assert contents(found) == [layer("a"), layer("a"), layer("b")]
    assert found.reference == "x/name:1"
    again = opened(path, tmp_path)
    assert again.image == found.image


def test_a_docker_archive_with_a_layer_of_another_image_is_refused(tmp_path: Path) -> None:
    path = docker(tmp_path / "saved.tar", layer("a"), layer("b"), Layers=["1/layer.tar"] * 2)
    with pytest.raises(PlatformError, match="is not sha256:") as caught:
        opened(path, tmp_path)
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "c.json/x", "missing"])
def test_a_docker_archive_names_its_own_members_only(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlatformError):
        opened(docker(tmp_path / "saved.tar", layer("a"), Config=name), tmp_path)
    with pytest.raises(PlatformError):
        opened(docker(tmp_path / "other.tar", layer("a"), Layers=[name]), tmp_path)


def test_an_unpacked_docker_archive_does_not_lead_out_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(
        documents.write_config(["sha256:" + "1" * 64], DEFAULTS, "", [])
    )
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "link").symlink_to("../secret")
    for name in ("../secret", str(tmp_path / "secret"), "link"):
        entry = {"Config": name, "Layers": ["x"]}
        (folder / "manifest.json").write_text(json.dumps([entry]))
        with pytest.raises(PlatformError, match=r"climb|leads out|[Nn]o such"):
            opened(folder, tmp_path)


def test_one_of_several_images_must_be_chosen(tmp_path: Path) -> None:
    path = layout(tmp_path / "layout")
    index = json.loads((path / "index.json").read_text())
    (first,) = index["manifests"]
    other = {**first, "annotations": {documents.REFERENCE: "two"}}
    (path / "index.json").write_text(json.dumps({**index, "manifests": [first, other]}))
    with pytest.raises(PlatformError, match="several images: one, two"):
        opened(path, tmp_path)
    assert opened(path, tmp_path, reference="two").reference == "two"
    with pytest.raises(PlatformError, match="called three"):
        opened(path, tmp_path, reference="three")


def test_of_several_platforms_this_machines_is_taken(tmp_path: Path) -> None:
    path = layout(tmp_path / "layout")
    index = json.loads((path / "index.json").read_text())
    (first,) = index["manifests"]
    arm = {**first, "digest": "sha256:" + "0" * 64}
    arm["platform"] = {"architecture": "arm64", "os": "linux"}
    inner = json.dumps({"schemaVersion": 2, "manifests": [arm, first]}).encode()
    digest = documents.digest_of(inner)
    (path / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(inner)
    outer = {"mediaType": documents.INDEX, "digest": digest, "size": len(inner)}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [outer]}))
    assert contents(opened(path, tmp_path)) == [layer()]


def test_an_image_for_another_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="no image for linux on amd64"):
        opened(layout(tmp_path / "layout", machine="arm64"), tmp_path)


def damage_layer(path: Path) -> None:
    largest = max((path / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-1] ^= 1
    largest.write_bytes(data)


def lengthen_layer(path: Path) -> None:
    for blob in (path / "blobs/sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(blob.read_bytes() + b"more")


def damage_documents(path: Path) -> None:
    for blob in (path / "blobs/sha256").iterdir():
        if blob.read_bytes()[:1] == b"{":
            blob.write_bytes(blob.read_bytes() + b" ")


def lose_blobs(path: Path) -> None:
    for blob in (path / "blobs/sha256").iterdir():
        if blob.read_bytes()[:1] != b"{":
            blob.unlink()


def replace_by_pipe(path: Path) -> None:
    (path / "index.json").unlink()
    os.mkfifo(path / "index.json")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (damage_layer, "corrupt"),
        (lengthen_layer, "corrupt"),
        (damage_documents, "corrupt"),
        (lose_blobs, "corrupt"),
        (replace_by_pipe, "invalid"),
        (lambda path: (path / "index.json").write_text("{}"), "invalid"),
        (lambda path: (path / "index.json").write_text("[1,"), "invalid"),
        (lambda path: (path / "index.json").unlink(), "invalid"),
    ],
)
def test_a_damaged_layout_is_refused(tmp_path: Path, edit: Edit, code: str) -> None:
    path = layout(tmp_path / "layout")
    edit(path)
    with pytest.raises(PlatformError) as caught:
        contents(opened(path, tmp_path))
    assert caught.value.code == code


def test_something_that_is_no_image_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no image")
    (tmp_path / "empty").write_text("")
    with pytest.raises(PlatformError):
        opened(tmp_path / "text", tmp_path)
    with pytest.raises(PlatformError, match="neither") as caught:
        opened(tmp_path / "empty", tmp_path)
    assert "skopeo" in caught.value.hint
