"""What umoci and skopeo make is read as they read it, and what is written here they read."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from paas.layers.trees import StoredLayers, Trees
from paas.oci.documents import Defaults
from paas.oci.source import Found, open_image
from paas.oci.target import Writer, archive
from paas.real.kernel_open import open_in_root

pytestmark = pytest.mark.system

SET_ID = stat.S_ISUID | stat.S_ISGID


def run(*words: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Three layers by umoci: files of all kinds; removals; a directory that became a file."""
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:one")
    for step in (_first, _second, _third):
        run("umoci", "unpack", "--image", f"{layout}:one", bundle)
        step(bundle / "rootfs")
        run("umoci", "repack", "--image", f"{layout}:one", bundle)
        run("rm", "-rf", bundle)
    run("umoci", "config", "--image", f"{layout}:one", "--config.entrypoint", "/bin/x")
    run("umoci", "config", "--image", f"{layout}:one", "--config.env", "A=1")
    return layout


def _first(root: Path) -> None:
    for name in ("usr/lib", "etc/conf.d", "var/empty", "opt/tool/deep"):
        (root / name).mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "etc/out").symlink_to("../../../../etc/passwd")
    (root / "etc/conf.d/a").write_text("a")
    (root / "etc/conf.d/b").write_text("b" * 100_000)
    (root / "usr/lib/program").write_bytes(os.urandom(300_000))
    (root / "usr/lib/program").chmod(0o4755)
    os.link(root / "usr/lib/program", root / "usr/lib/same")
    (root / "opt/tool/deep/file").write_text("deep")
    os.chown(root / "opt/tool", 1_234, 4_321)
    (root / "var/empty").chmod(0o1777)
    (root / ("long" * 60)).write_text("a long name")
    os.mkfifo(root / "etc/pipe")


def _second(root: Path) -> None:
    (root / "etc/conf.d/a").unlink()
    run("rm", "-rf", root / "opt/tool")
    (root / "opt/tool").write_text("now a file")
    (root / "etc/conf.d/c").write_text("c")


def _third(root: Path) -> None:
    run("rm", "-rf", root / "etc/conf.d")
    (root / "etc/conf.d").mkdir()
    (root / "etc/conf.d/only").write_text("only")
    (root / "usr/lib/same").chmod(0o700)


def picture(root: Path) -> dict[str, str]:
    """Every entry with kind, mode, owner, and content or target; as a container can see it."""
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        kind, text = stat.S_IFMT(facts.st_mode), ""
        if kind in (stat.S_IFIFO, stat.S_IFCHR):
            continue
        if kind == stat.S_IFLNK:
            text = os.readlink(path)
        elif kind == stat.S_IFREG:
            text = hashlib.sha256(path.read_bytes()).hexdigest()
        mode = 0 if kind == stat.S_IFLNK else stat.S_IMODE(facts.st_mode) & ~SET_ID
        times = "" if kind == stat.S_IFDIR else int(facts.st_mtime)
        found[str(path.relative_to(root))] = (
            f"{kind:o} {mode:o} {facts.st_uid}:{facts.st_gid} {times} {text}"
        )
    return found


def unpacked(found: Found, tmp_path: Path, *, steps: bool = False) -> Path:
    """The image as a node lays it out; with `steps`, after images of its lower layers."""
    store = tmp_path / "store"
    for layer in found.image.layers:
        name = layer.digest.removeprefix("sha256:")
        path = store / "blobs" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(found.chunks(layer)))
    trees = Trees(tmp_path / "bases", StoredLayers(store), open_in_root, boot_id="test")
    for count in range(1 if steps else len(found.image.layers), len(found.image.layers)):
        trees.acquire(found.image.layers[:count], "test")
    return trees.acquire(found.image.layers, "test")


def scratch(tmp_path: Path) -> Path:
    path = tmp_path / f"scratch{len(list(tmp_path.iterdir()))}"
    path.mkdir()
    return path


def test_umocis_image_unpacks_as_umoci_unpacks_it(layout: Path, tmp_path: Path) -> None:
    found = open_image(layout, scratch(tmp_path), reference="one")
    assert len(found.image.layers) == 3
    assert found.image.defaults == Defaults(environment={"A": "1"}, command=("/bin/x",))
    run("umoci", "unpack", "--image", f"{layout}:one", tmp_path / "theirs")
    theirs = picture(tmp_path / "theirs/rootfs")
    assert "opt/tool" in theirs
    assert picture(unpacked(found, tmp_path)) == theirs


def test_a_tree_that_begins_with_another_is_the_same(layout: Path, tmp_path: Path) -> None:
    found = open_image(layout, scratch(tmp_path), reference="one")
    whole = unpacked(found, tmp_path / "whole")
    begun = unpacked(found, tmp_path / "begun", steps=True)
    assert picture(begun) == picture(whole)
    for path in [p for p in whole.rglob("*") if p.is_dir() and not p.is_symlink()]:
        other = begun / path.relative_to(whole)
        assert int(other.stat().st_mtime) == int(path.stat().st_mtime), path


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci"])
def test_skopeos_copies_are_the_same_file_system(layout: Path, tmp_path: Path, kind: str) -> None:
    copy = tmp_path / "copy"
    tag = ":x/one:1" if kind == "docker-archive" else ":one"
    run("skopeo", "--insecure-policy", "copy", f"oci:{layout}:one", f"{kind}:{copy}{tag}")
    original = open_image(layout, scratch(tmp_path), reference="one")
    found = open_image(copy, scratch(tmp_path))
    assert found.image.chain == original.image.chain
    assert found.image.defaults == original.image.defaults
    assert picture(unpacked(found, tmp_path)) == picture(unpacked(original, tmp_path / "again"))


def test_what_is_written_here_is_read_there(layout: Path, tmp_path: Path) -> None:
    """Layers as they came, one more of our own, in a tar: through skopeo, unpacked by umoci."""
    original = open_image(layout, scratch(tmp_path), reference="one")
    written = tmp_path / "written"
    written.mkdir()
    writer = Writer(written)
    for layer in original.image.layers:
        media = "application/vnd.oci.image.layer.v1.tar+gzip"
        writer.add_blob(layer, media, original.chunks(layer))
    added = tmp_path / "app"
    (added / "app").mkdir(parents=True)
    (added / "app/main").write_text("main")
    tar = subprocess.run(["tar", "-C", added, "-c", "app"], capture_output=True, check=True).stdout
    writer.add_layer([tar])
    digest = writer.finish("two", Defaults(command=("/app/main",)), "amd64", ["a test"])
    archive(written, tmp_path / "written.tar")
    told = json.loads(run("skopeo", "inspect", f"oci-archive:{tmp_path}/written.tar"))
    assert told["Digest"] == digest
    copy = tmp_path / "copy"
    run(
        *("skopeo", "--insecure-policy", "copy"),
        *(f"oci-archive:{tmp_path}/written.tar", f"oci:{copy}:two"),
    )
    run("umoci", "unpack", "--image", f"{copy}:two", tmp_path / "theirs")
    found = open_image(tmp_path / "written.tar", scratch(tmp_path))
    theirs = picture(tmp_path / "theirs/rootfs")
    assert "app/main" in theirs
    assert picture(unpacked(found, tmp_path)) == theirs
