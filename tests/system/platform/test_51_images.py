"""Images as bases of components: imported, started from, exported, verified, removed, refused."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.oci import documents
from paas.oci.documents import Defaults, Layer
from paas.oci.target import Writer

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

REPORT = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv) {
    char text[4096];
    printf("cwd %s\n", getcwd(text, sizeof text) ? text : "?");
    for (char **e = environ; *e; e++) printf("env %s\n", *e);
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "r");
        if (!f || !fgets(text, sizeof text, f)) strcpy(text, "absent");
        printf("file %s %s\n", argv[i], strtok(text, "\n"));
        if (f) fclose(f);
    }
    FILE *f = fopen("/etc/os", "w");
    printf("etc %s\n", f ? "writable" : "kept");
    fflush(stdout);
    for (;;) pause();
}
"""


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program that needs nothing of its file system: it says what it finds, and waits."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.c").write_text(REPORT)
    subprocess.run(
        ["cc", "-static", "-O1", "-o", folder / "report", folder / "report.c"], check=True
    )
    return (folder / "report").read_bytes()


def tar(**files: bytes | str) -> bytes:
    """A layer of programs and texts; `_` stands for a slash in the names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name.replace("__wh__", "/.wh.").replace("_", "/"))
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layout(folder: Path, *layers: bytes, **defaults: Any) -> Path:
    folder.mkdir()
    writer = Writer(folder)
    for layer in layers:
        writer.add_layer([layer])
    writer.finish("test", Defaults(**defaults), "amd64", ["a test"])
    return folder


class Images:
    """The images that one test makes known; afterwards they are not."""

    def __init__(self, platform: Any, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.names: list[str] = []
        self.types: list[str] = []

    def add(self, name: str, *layers: bytes, more: tuple[str, ...] = (), **defaults: Any) -> Any:
        path = layout(self.folder / f"layout{len(os.listdir(self.folder))}", *layers, **defaults)
        done = self.platform.run(
            *("images", "import", str(path), "--name", name, *more, "-o", "json")
        )
        self.names.append(name)
        return done.json

    def type_on(self, base: str, command: list[str] | None = None) -> str:
        directory = self.folder / f"source{len(os.listdir(self.folder))}"
        directory.mkdir()
        lines = ["[component]", f'name = "on-{base}"', f'version = "{len(self.types)}"']
        lines += [f'base = "{base}"', 'protocol = "none"']
        lines += [f"command = {json.dumps(command)}"] if command else []
        lines += ["[limits]", 'memory = "16M"', 'disk = "8M"']
        (directory / "component.toml").write_text("\n".join(lines) + "\n")
        self.types.append(self.platform.push(directory))
        return self.types[-1]

    def clean(self) -> None:
        self.platform.destroy_all()
        for kind in self.types:
            self.platform.run("types", "remove", kind, "--yes")
        for name in self.names:
            self.platform.run("images", "remove", name, "--yes", status=None)


@pytest.fixture
def images(platform: Any, tmp_path: Path) -> Iterator[Images]:
    made = Images(platform, tmp_path)
    yield made
    made.clean()


def said(platform: Any, component: str, wait_until: Callable[..., Any]) -> list[str]:
    def lines() -> list[str]:
        found = [record["message"] for record in platform.records(component=component)]
        return found if any(line.startswith("etc ") for line in found) else []

    found: list[str] = wait_until(lines)
    return found


def trees(platform: Any) -> set[str]:
    return {p.name for p in (Path(platform.state) / "containers/bases/trees").iterdir()}


def test_a_component_runs_on_an_image_with_the_images_defaults(
    platform: Any, images: Images, report: bytes, wait_until: Callable[..., Any]
) -> None:
    images.add(
        "tiny",
        tar(bin_report=report, etc_os="first\n", srv_here="x\n", app_base="below\n"),
        tar(etc__wh__os="", etc_more="second\n"),
        command=("/bin/report", "/etc/os", "/etc/more", "/srv/here", "/app/base"),
        environment={"GREETING": "hello", "PAAS_X": "no"},
        directory="/srv",
    )
    component = platform.create(images.type_on("tiny"))
    assert platform.in_state(component, "available", "failed")["state"] == "available"
    lines = said(platform, component, wait_until)
    assert "cwd /srv" in lines
    assert "env GREETING=hello" in lines
    assert not [line for line in lines if "PAAS_X" in line]
    assert "file /etc/os absent" in lines
    assert "file /etc/more second" in lines
    assert "file /srv/here x" in lines
    assert "etc kept" in lines


def test_the_manifests_own_command_and_variables_come_first(
    platform: Any, images: Images, report: bytes, wait_until: Callable[..., Any]
) -> None:
    images.add("own", tar(bin_report=report), command=("/none",), directory="/srv")
    component = platform.create(images.type_on("own", ["/bin/report", "/app/component.toml"]))
    lines = said(platform, component, wait_until)
    assert "cwd /app" in lines
    assert "file /app/component.toml [component]" in lines


def test_a_new_image_under_a_name_is_for_what_starts_afterwards(
    platform: Any, images: Images, report: bytes, wait_until: Callable[..., Any]
) -> None:
    base = {"command": ("/bin/report", "/etc/os")}
    images.add("moving", tar(bin_report=report), tar(etc_os="one\n"), **base)
    kind = images.type_on("moving")
    first = platform.create(kind)
    assert "file /etc/os one" in said(platform, first, wait_until)
    path = layout(images.folder / "other", tar(bin_report=report), tar(etc_os="two\n"), **base)
    refused = platform.run("images", "import", str(path), "--name", "moving", status=5)
    assert "--replace" in refused.err
    done = platform.run("images", "import", str(path), "--name", "moving", "--replace")
    assert "was there already" in done.err  # the layer that both have
    second = platform.create(kind)
    assert "file /etc/os two" in said(platform, second, wait_until)
    assert platform.component(first)["state"] == "available"


def test_an_unknown_base_is_said_before_anything_is_made(platform: Any, images: Images) -> None:
    kind = images.type_on("nowhere", ["/bin/x"])
    with pytest.raises(PlatformError, match="nowhere"):
        platform.create(kind, timeout_s=20)


def test_layers_go_when_nothing_needs_them_and_not_before(
    platform: Any, images: Images, report: bytes, wait_until: Callable[..., Any]
) -> None:
    before = trees(platform)
    shared, own = tar(bin_report=report), tar(etc_os="one\n")
    layers = images.add("going", shared, own, command=("/bin/report",))["layers"]
    images.add("staying", shared, command=("/bin/report",))
    kind = images.type_on("going")
    component = platform.create(kind)
    refused = platform.run("images", "remove", "going", "--yes", status=5)
    assert f"the base of {kind}" in refused.err
    said(platform, component, wait_until)
    platform.destroy(component)
    platform.run("types", "remove", kind, "--yes")
    images.types.remove(kind)
    platform.run("images", "remove", "going", "--yes")
    stored = Path(platform.state) / "blobs/images/blobs"
    names = [layer["digest"].removeprefix("sha256:") for layer in layers]
    wait_until(lambda: not (stored / names[1][:2] / names[1]).exists())
    assert (stored / names[0][:2] / names[0]).exists()
    wait_until(lambda: trees(platform) == before)


def test_a_damaged_layer_or_file_is_found(
    platform: Any, images: Images, report: bytes, wait_until: Callable[..., Any]
) -> None:
    info = images.add("checked", tar(bin_report=report, etc_x="good\n"), command=("/bin/report",))
    component = platform.create(images.type_on("checked"))
    said(platform, component, wait_until)
    assert platform.run("images", "verify", "checked").out.count("n1") == 1
    tree = Path(platform.state) / "containers/bases/trees" / info["chain"].removeprefix("sha256:")
    (tree / "etc/x").write_text("evil\n")
    found = platform.run("images", "verify", "checked", "-o", "json", status=1).json
    assert found["nodes"][0]["damaged"] == ["etc/x"]


def test_a_start_survives_the_end_of_the_container_controller(
    platform: Any, images: Images, report: bytes, wait_until: Callable[..., Any]
) -> None:
    """Killed while it unpacks: the next one unpacks anew, and nothing half is left."""
    noise = {f"data_{number}": os.urandom(200_000) for number in range(60)}
    images.add("large", tar(bin_report=report, **noise), command=("/bin/report", "/data/59"))
    kind = images.type_on("large")
    bases = Path(platform.state) / "containers/bases/trees"
    connection = platform.connect()
    with contextlib.closing(connection):
        connection._sock.sendall(
            json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "controller.create",
                    "params": {"type": kind, "timeout": 60},
                }
            ).encode()
            + b"\n"
        )
        wait_until(lambda: any(p.name.startswith(".unpack-") for p in bases.iterdir()))
        os.kill(platform.agent("containers"), signal.SIGKILL)
        (component,) = wait_until(
            lambda: [c["id"] for c in platform.components() if c["type"] == kind]
        )
    platform.in_state(component, "available")
    said(platform, component, wait_until)
    assert not [name for name in trees(platform) if name.startswith(".")]


def test_an_import_that_lost_its_hub_leaves_nothing_and_can_be_repeated(
    fresh: Any, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    path = layout(tmp_path / "layout", tar(data_noise=os.urandom(48 << 20)))
    incoming = Path(fresh.state) / "blobs/images/incoming"
    hub = fresh.agent("hub")
    words = ("images", "import", str(path), "--name", "big")
    with fresh.spawn(*words) as command:
        wait_until(lambda: any(p.stat().st_size > 1 << 20 for p in incoming.iterdir()))
        os.kill(hub, signal.SIGKILL)
        _, err = command.communicate(timeout=60)
        assert command.returncode not in (0, 10), err
        assert "error:" in err

    def back() -> bool:
        with contextlib.suppress(PlatformError, OSError):
            return bool(fresh.api("image.list")["images"] == [])
        return False

    wait_until(back)
    assert not list(incoming.iterdir())
    fresh.run(*words)
    assert [image["name"] for image in fresh.api("image.list")["images"]] == ["big"]


def test_a_type_is_exported_and_its_export_can_be_a_base(
    platform: Any, images: Images, report: bytes, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    images.add("below", tar(bin_report=report), command=("/bin/report",))
    kind = images.type_on("below", ["/bin/report", "/app/component.toml"])
    target = tmp_path / "exported.tar"
    digest = platform.run("images", "export", kind, "--to", str(target), "-o", "name").out.strip()
    told = subprocess.run(
        ["skopeo", "inspect", f"oci-archive:{target}"], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["Digest"] == digest
    again = tmp_path / "again"
    platform.run("images", "export", kind, "--to", str(again))
    assert platform.run("images", "export", kind, "--to", str(again), status=5).err
    unpacked = tmp_path / "unpacked"
    subprocess.run(
        ["umoci", "unpack", "--image", f"{again}:0", unpacked], check=True, capture_output=True
    )
    assert (unpacked / "rootfs/bin/report").read_bytes() == report
    assert "[component]" in (unpacked / "rootfs/app/component.toml").read_text()
    settings = json.loads((unpacked / "config.json").read_text())["process"]
    assert settings["args"] == ["/bin/report", "/app/component.toml"]
    assert settings["cwd"] == "/app"
    platform.run("images", "import", str(target), "--name", "from-export")
    images.names.append("from-export")
    component = platform.create(images.type_on("from-export"))
    assert "file /app/component.toml [component]" in said(platform, component, wait_until)


# -- what nobody may send --------------------------------------------------------------------------


class Sender:
    """Sends layers and documents as a client of the API does."""

    def __init__(self, platform: Any) -> None:
        self.connection = platform.connect(binary=True)

    def layer(self, data: bytes, *, digest: str = "", diff_id: str = "") -> Layer:
        named = digest or documents.digest_of(data)
        inner = diff_id or documents.digest_of(gzip.decompress(data))
        begun = self.connection.call("image.begin", {"digest": named, "size": len(data)})
        assert not begun["present"]
        for at in range(0, len(data), 1 << 20):
            params = {"upload": begun["upload"], "offset": at, "data": data[at : at + (1 << 20)]}
            self.connection.call("image.append", params)
        params = {"upload": begun["upload"], "digest": named, "diff_id": inner}
        self.connection.call("image.commit", params)
        return Layer(digest=named, size=len(data), diff_id=inner)

    def register(self, name: str, *layers: Layer, **more: Any) -> Any:
        config = documents.write_config([x.diff_id for x in layers], Defaults(), "amd64", [])
        manifest = documents.write_manifest(config, layers, [documents.LAYER_GZIP] * len(layers))
        params = {"name": name, "manifest": manifest, "config": config, **more}
        return self.connection.call("image.register", params)


@pytest.fixture
def sender(platform: Any) -> Iterator[Sender]:
    made = Sender(platform)
    with contextlib.closing(made.connection):
        yield made


def hostile_layer(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return gzip.compress(out.getvalue())


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (hostile_layer("../../etc/cron.d/x"), "invalid"),
        (hostile_layer("x", tarfile.LNKTYPE, "../../etc/shadow"), "invalid"),
        (hostile_layer("x", tarfile.GNUTYPE_SPARSE), "invalid"),
        (gzip.compress(b"no archive at all".ljust(512, b".")), "corrupt"),
        (gzip.compress(tar(a="x")[:700]), "corrupt"),
        (gzip.compress(os.urandom(2_000)), "corrupt"),
    ],
)
def test_a_layer_that_could_not_be_unpacked_is_not_kept(
    platform: Any, sender: Sender, layer: bytes, code: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        sender.layer(layer)
    assert caught.value.code == code
    name = hashlib.sha256(layer).hexdigest()
    stored = Path(platform.state) / "blobs/images"
    assert not (stored / "blobs" / name[:2] / name).exists()
    assert not list((stored / "incoming").iterdir())


def test_wrong_digests_are_refused(sender: Sender) -> None:
    data, wrong = gzip.compress(tar(a="1")), "sha256:" + "1" * 64
    for more in ({"digest": wrong}, {"diff_id": wrong}):
        with pytest.raises(PlatformError) as caught:
            sender.layer(data, **more)
        assert caught.value.code == "corrupt"


def test_a_name_needs_layers_that_were_sent(sender: Sender) -> None:
    absent = Layer(digest="sha256:" + "2" * 64, size=5, diff_id="sha256:" + "3" * 64)
    with pytest.raises(PlatformError, match="was not sent"):
        sender.register("ghost", absent)
    known = sender.layer(gzip.compress(tar(b="known")))
    lie = Layer(digest=known.digest, size=known.size, diff_id=absent.diff_id)
    with pytest.raises(PlatformError, match="is not sha256:333"):
        sender.register("ghost", lie)


@pytest.mark.parametrize("name", ["host", "UPPER", "", "a/b", "-x", "x" * 64, "../x"])
def test_names_that_no_manifest_can_give_are_refused(sender: Sender, name: str) -> None:
    layer = Layer(digest="sha256:" + "2" * 64, size=5, diff_id="sha256:" + "3" * 64)
    with pytest.raises(PlatformError) as caught:
        sender.register(name, layer)
    assert caught.value.code == "invalid"
