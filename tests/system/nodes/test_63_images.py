"""Images over several nodes: copied, fetched where missing, verified, alive after a node dies."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from paas.oci.documents import Defaults
from paas.oci.target import Writer
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SOURCE = """
[component]
name = "waits"
version = "1.0.0"
base = "waiting"
protocol = "none"
[limits]
memory = "16M"
disk = "8M"
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("program")
    source = "#include <unistd.h>\nint main(int n, char **a) { if (n > 1) pause(); return 3; }\n"
    (folder / "waits.c").write_text(source)
    words = ["cc", "-static", "-Os", "-o", folder / "waits", folder / "waits.c"]
    subprocess.run([str(word) for word in words], check=True)
    return (folder / "waits").read_bytes()


@pytest.fixture(scope="module")
def kind(shared: DevCluster, program: bytes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A type on an image of two layers; the upper one is megabytes that do not compress."""
    folder = tmp_path_factory.mktemp("image")
    layout = folder / "layout"
    layout.mkdir()
    writer = Writer(layout)
    writer.add_layer([layer("bin/waits", program)])
    writer.add_layer([layer("data/noise", os.urandom(6 << 20))])
    writer.finish("waiting", Defaults(command=("/bin/waits", "/data/noise")), "amd64", ["a test"])
    shared.run("images", "import", str(layout), "--name", "waiting")
    (folder / "source").mkdir()
    (folder / "source/component.toml").write_text(SOURCE)
    return shared.push(folder / "source")


def layer(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o755
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def blobs(cluster: DevCluster, node: str) -> dict[str, Path]:
    """The layers that a node has whole, by digest."""
    stored = cluster.node_state(node) / "blobs/images/blobs"
    found = {}
    for path in stored.glob("*/*"):
        if hashlib.sha256(path.read_bytes()).hexdigest() == path.name:
            found[f"sha256:{path.name}"] = path
    return found


def wanted(cluster: DevCluster) -> set[str]:
    info = cluster.api("image.show", name="waiting")
    return {layer["digest"] for layer in info["layers"]}


def test_every_node_comes_to_have_the_layers(cluster: DevCluster, kind: str) -> None:
    digests = wanted(cluster)
    assert len(digests) == 2
    for node in cluster.names:
        cluster.until(lambda node=node: set(blobs(cluster, node)) == digests)


def test_a_node_that_has_lost_a_layer_fetches_it_when_it_starts_something(
    cluster: DevCluster, kind: str
) -> None:
    digests = wanted(cluster)
    for node in cluster.names:
        cluster.until(lambda node=node: set(blobs(cluster, node)) == digests)
        for path in blobs(cluster, node).values():
            path.unlink()
        component = cluster.create(kind, constraints=[f"node={node}"], timeout_s=60)
        assert cluster.available(component) == node
        assert set(blobs(cluster, node)) == digests


def test_a_damaged_layer_is_found_and_healed_from_another_node(
    cluster: DevCluster, kind: str
) -> None:
    digests, node = wanted(cluster), cluster.names[1]
    cluster.until(lambda: set(blobs(cluster, node)) == digests)
    path = max(blobs(cluster, node).values(), key=lambda path: path.stat().st_size)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"damaged")
    cluster.run("images", "verify", "waiting", status=1)
    cluster.until(lambda: set(blobs(cluster, node)) == digests)
    cluster.run("images", "verify", "waiting", status=0)


def test_a_component_starts_on_another_node_when_its_node_dies(
    cluster: DevCluster, kind: str
) -> None:
    component = cluster.create(kind)
    node = cluster.available(component)
    cluster.kill(node)
    assert cluster.available(component, besides=node) != node


def test_an_image_can_be_imported_while_a_node_is_away_which_has_it_afterwards(
    cluster: DevCluster, program: bytes, tmp_path: Path
) -> None:
    away = next(node for node in cluster.names if node != cluster.leader())
    cluster.kill(away)
    layout = tmp_path / "layout"
    layout.mkdir()
    writer = Writer(layout)
    written = writer.add_layer([layer("bin/waits", program), layer("x", os.urandom(1_000))])
    writer.finish("late", Defaults(command=("/bin/waits", "x")), "amd64", ["a test"])
    cluster.run("images", "import", str(layout), "--name", "late")
    cluster.calm()
    cluster.until(lambda: written.digest in blobs(cluster, away))
    cluster.run("images", "remove", "late", "--yes")
    for node in cluster.names:
        cluster.until(lambda node=node: written.digest not in blobs(cluster, node))
