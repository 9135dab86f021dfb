"""Small layers, and a place to unpack them that shows when something leaves it."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from paas.layers.trees import StoredLayers, Trees
from paas.layers.unpack import Unpacked, Unpacker, write_plain
from paas.oci.documents import Layer
from paas.real.kernel_open import open_in_root

SECRET = "what a layer must not reach"


def member(name: str, content: bytes | None = None, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A file with this content, or what `type` and the other facts of a TarInfo say."""
    info = tarfile.TarInfo(name)
    info.mode = 0o755 if facts.get("type") == tarfile.DIRTYPE else 0o644
    info.size = len(content or b"")
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, content or b""


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def folder(name: str, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, **facts)


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """The archive that Python's own library makes of these."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass
class Ground:
    """A directory `tree` to unpack into, beside things that must stay as they are."""

    root: Path
    before: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    def apply(self, *layers: bytes) -> Unpacked:
        unpacker = Unpacker(
            str(self.tree),
            open_in_root,
            lambda descriptor, _entry, content: write_plain(descriptor, content) or "",
            None,
        )
        try:
            for layer in layers:
                unpacker.apply([layer])
        except BaseException:
            unpacker.close(finish=False)
            raise
        unpacker.close(finish=True)
        return unpacker.done

    def names(self) -> list[str]:
        return sorted(str(p.relative_to(self.tree)) for p in self.tree.rglob("*"))

    def outside(self) -> dict[str, str]:
        """Everything beside the tree: paths with kinds, modes, times and contents."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            if path == self.tree or self.tree in path.parents:
                continue
            facts = path.lstat()
            content = path.read_text() if path.is_file() else ""
            found[str(path)] = f"{facts.st_mode} {facts.st_nlink} {facts.st_mtime_ns} {content}"
        return found

    def untouched(self) -> bool:
        return self.outside() == self.before


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    ground = Ground(tmp_path / "ground")
    (ground.root / "beside").mkdir(parents=True)
    (ground.root / "beside" / "secret").write_text(SECRET)
    (ground.root / "secret").write_text(SECRET)
    ground.tree.mkdir()
    ground.before = ground.outside()
    yield ground
    assert ground.untouched()


@dataclass
class Store:
    """Layers as the hub's store has them on the disk."""

    root: Path

    def put(self, layer: bytes, pack: Callable[[bytes], Iterable[bytes]] | None = None) -> Layer:
        stored = layer if pack is None else b"".join(pack(layer))
        name = hashlib.sha256(stored).hexdigest()
        path = self.root / "blobs" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored)
        return Layer(
            digest=f"sha256:{name}",
            size=len(stored),
            diff_id="sha256:" + hashlib.sha256(layer).hexdigest(),
        )

    def path(self, layer: Layer) -> Path:
        name = layer.digest.removeprefix("sha256:")
        return self.root / "blobs" / name[:2] / name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def trees(tmp_path: Path, store: Store) -> Trees:
    return make_trees(tmp_path, store)


def make_trees(tmp_path: Path, store: Store, boot_id: str = "one") -> Trees:
    return Trees(tmp_path / "bases", StoredLayers(store.root), open_in_root, boot_id=boot_id)


def inode(path: Path) -> int:
    return os.lstat(path).st_ino
