"""Images as bases of containers on one node: known while it runs, held while they are used."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.container import base_methods as methods
from paas.container.base_face import BaseFace
from paas.container.messages import Limits
from paas.layers.trees import StoredLayers, Trees
from paas.oci.documents import chain_id
from paas.real.kernel_open import open_in_root

pytestmark = pytest.mark.system

PROGRAM = r"""
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char text[100] = "absent";
    FILE *f = fopen(argv[1], "r");
    if (f) fgets(text, sizeof text, f);
    fprintf(stderr, "\n{\"read\": \"%s\"}\n", text);
    if (argc > 2) pause();
    return 0;
}
"""
NO_CONTEXT: Any = None


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("program")
    (folder / "main.c").write_text(PROGRAM)
    words = ["cc", "-static", "-O1", "-w", "-o", folder / "main", folder / "main.c"]
    subprocess.run([str(word) for word in words], check=True)
    return (folder / "main").read_bytes()


class Store:
    """Layers as the hub's process stores them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, **files: bytes) -> methods.BaseLayer:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name.replace("_", "/"))
                info.size, info.mode = len(content), 0o755
                archive.addfile(info, io.BytesIO(content))
        packed = gzip.compress(out.getvalue())
        name = hashlib.sha256(packed).hexdigest()
        path = self.root / "blobs" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        diff_id = f"sha256:{hashlib.sha256(out.getvalue()).hexdigest()}"
        return methods.BaseLayer(digest=f"sha256:{name}", size=len(packed), diff_id=diff_id)

    def lose(self, layer: methods.BaseLayer) -> None:
        name = layer.digest.removeprefix("sha256:")
        (self.root / "blobs" / name[:2] / name).unlink()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def face_of(engine: Any, node: Any, store: Store) -> tuple[BaseFace, Trees]:
    trees = Trees(Path(node.settings.state_dir) / "bases", StoredLayers(store.root), open_in_root)
    return BaseFace(engine, trees, chain_id), trees


@pytest.fixture
async def face(node: Any, store: Store) -> BaseFace:
    return face_of(node.engine, node, store)[0]


async def prepare(face: BaseFace, component: str, *layers: methods.BaseLayer) -> str:
    params = methods.PrepareBase(component=component, layers=list(layers))
    return (await face._prepare(params, NO_CONTEXT)).base


async def retain(face: BaseFace, *chains: str) -> None:
    await face._retain(methods.RetainBases(chains=list(chains)), NO_CONTEXT)


async def test_a_base_is_known_to_the_engine_that_runs(
    node: Any, face: BaseFace, store: Store, program: bytes, small: Limits
) -> None:
    layers = [store.put(bin_main=program, etc_os=b"one"), store.put(etc_os=b"two")]
    with pytest.raises(PlatformError, match="base"):
        await node.start("/bin/main", "/etc/os", base=chain_id([x.diff_id for x in layers]))
    component = node.new_id()
    base = await prepare(face, component, *layers)
    exited = await node.run("/bin/main", "/etc/os", component=component, base=base, limits=small)
    assert exited.code == 0
    assert '{"read": "two"}' in exited.harness_log


async def test_what_a_container_changes_in_its_base_the_next_does_not_see(
    node: Any, face: BaseFace, store: Store, program: bytes, small: Limits
) -> None:
    layer = store.put(bin_main=program, etc_hostname=b"of the image")
    for _ in range(2):
        component = node.new_id()
        base = await prepare(face, component, layer)
        words = ("/bin/main", "/etc/hostname")
        exited = await node.run(*words, component=component, base=base, limits=small)
        assert "of the image" not in exited.harness_log  # it has a host name of its own
    tree = Path(node.engine.ready().bases[base].lower)
    assert (tree / "etc/hostname").read_bytes() == b"of the image"
    assert not (tree / "run").exists()


async def test_a_tree_in_use_outlives_its_name_and_the_controller_and_then_goes(
    fresh_node: Any, store: Store, program: bytes, small: Limits
) -> None:
    layer = store.put(bin_main=program, etc_os=b"one")
    component = fresh_node.new_id()
    async with fresh_node.running() as engine:
        face, trees = face_of(engine, fresh_node, store)
        base = await prepare(face, component, layer)
        words = ("/bin/main", "/etc/os", "wait")
        await fresh_node.start(*words, component=component, base=base, limits=small)
        await retain(face)
        assert trees.laid_out() == [base]
    async with fresh_node.running() as engine:
        face, trees = face_of(engine, fresh_node, store)
        face.retain([info.component for info in engine.list()])
        await retain(face)
        assert trees.laid_out() == [base]
        await engine.destroy(component)
        face.release(component)
        await retain(face)
        assert trees.laid_out() == []
        assert base not in engine.ready().bases


async def test_a_layer_that_is_missing_is_said_and_nothing_is_held(
    node: Any, face: BaseFace, store: Store, program: bytes
) -> None:
    layer = store.put(bin_main=program)
    store.lose(layer)
    with pytest.raises(PlatformError) as caught:
        await prepare(face, node.new_id(), layer)
    assert caught.value.code == "corrupt"
    assert not node.engine.ready().bases


async def test_a_base_with_links_under_the_platforms_names_starts_no_container(
    node: Any, face: BaseFace, store: Store, program: bytes, small: Limits, tmp_path: Path
) -> None:
    """`/proc`, `/dev`, `/app` … of an image must not lead what is mounted there elsewhere."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("proc")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    name = hashlib.sha256(out.getvalue()).hexdigest()
    path = store.root / "blobs" / name[:2] / name
    path.parent.mkdir(parents=True)
    path.write_bytes(out.getvalue())
    digest = f"sha256:{name}"
    layer = methods.BaseLayer(digest=digest, size=len(out.getvalue()), diff_id=digest)
    component = node.new_id()
    base = await prepare(face, component, store.put(bin_main=program), layer)
    with pytest.raises(PlatformError, match="proc"):
        await node.start("/bin/main", "x", component=component, base=base, limits=small)
    assert not any(node.container_leftovers().values())


async def test_many_starts_at_once_unpack_once(
    node: Any, face: BaseFace, store: Store, program: bytes
) -> None:
    layer, found = store.put(bin_main=program), list[str]()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(_note, found, face, node.new_id(), layer)
    assert len(set(found)) == 1
    assert len(found) == 5


async def _note(found: list[str], face: BaseFace, component: str, layer: methods.BaseLayer) -> None:
    found.append(await prepare(face, component, layer))
