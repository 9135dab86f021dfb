"""A host that is not as it should be: no root, a cluster that runs already, a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system

DISK_BYTES = 64 << 20
TYPES_MAX = 200


def test_without_root_dev_says_what_is_missing(make: Any, as_nobody: Any) -> None:
    one = make()
    done = as_nobody(one.environment(), "-m", "paas.cli", "dev", "--detach")
    assert done.status == 1
    assert "root" in done.err
    assert "namespaces" in done.err
    assert "sudo paas dev" in done.err
    assert "Traceback" not in done.err
    assert not one.state.exists()


def test_a_second_cluster_on_the_same_state_is_a_conflict(platform: Any) -> None:
    refused = platform.run("dev", "--detach", status=5)
    assert str(platform.supervisor()) in refused.err
    assert "paas down" in refused.err
    refused = platform.run("dev", status=5)
    assert "runs already" in refused.err
    assert platform.run("status", "-o", "json").json["nodes"][0]["state"] == "available"


def test_a_command_without_a_cluster_says_how_to_start_one(make: Any) -> None:
    one = make()
    done = one.run("ps", status=6)
    assert "paas dev" in done.err
    assert one.run("down", "--yes").out == "down\n"


def test_a_state_directory_that_cannot_be_one_is_refused(make: Any) -> None:
    one = make()
    one.state.write_text("a file")
    done = one.run("dev", "--detach", status=2)
    assert "--state" in done.err
    one.state.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can be filled."""
    place = tmp_path / "small"
    place.mkdir()
    tmp_path.chmod(0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "small", str(place)]
    subprocess.run(command, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    """Take all the space that there is."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    with pytest.raises(OSError) as caught, path.open("ab", buffering=0) as file:
        file.write(b"x" * 4096)
    assert caught.value.errno == errno.ENOSPC


class Registrar:
    """Registers types with large manifests, which the log has to keep; remembers what was done."""

    def __init__(self, platform: Any) -> None:
        self._platform = platform
        self._bundle = platform.api("controller.type", type="probe")["bundle"]
        self.done: set[str] = set()

    def register(self) -> None:
        manifest = {
            "component": {"name": "large", "version": f"{len(self.done)}", "command": ["true"]},
            "environment": {f"V{n}": "x" * 4_000 for n in range(6)},
        }
        answer = self._platform.api(
            "controller.register_type", bundle=self._bundle, manifest=manifest
        )
        self.done.add(answer["type"])

    def refused(self) -> PlatformError:
        """Register until it is refused."""
        for _ in range(TYPES_MAX):
            try:
                self.register()
            except PlatformError as error:
                return error
        raise AssertionError("a full disk has refused nothing")


def test_a_full_disk_refuses_changes_answers_reads_and_recovers(
    small_disk: Path, make: Any, wait_until: Any
) -> None:
    one = make(small_disk)
    one.start()
    kind = one.push("probe")
    component = one.create(kind, groups=["some"])
    hub = one.agent("hub")
    registrar = Registrar(one)
    registrar.register()
    fill(small_disk / "filler")

    error = registrar.refused()
    assert error.code == "storage-full", error
    assert "free space" in error.hint
    with pytest.raises(PlatformError) as caught:
        one.create(kind)
    assert caught.value.code == "storage-full"
    refused = one.run("push", str(one.source("late", ["true"])), status=1)
    assert "disk is full" in refused.err

    assert one.call(component, "echo")["from"] == component, "calls go on"
    assert one.run("call", "group:some", "echo").json["from"] == component
    assert one.run("status", "-o", "json").json["log"]["storage"] == "full"
    assert [c["id"] for c in one.run("ps", "-o", "json").json["components"]] == [component]
    assert one.run("logs", component).status == 0
    one.call(component, "log")
    assert registrar.refused().code == "storage-full"

    (small_disk / "filler").unlink()

    def accepted() -> bool:
        with contextlib.suppress(PlatformError):
            registrar.register()
            return True
        return False

    wait_until(accepted)
    assert one.run("status", "-o", "json").json["log"]["storage"] == "ok"
    wait_until(lambda: one.records(component=component, grep="of level error"))
    assert one.agent("hub") == hub, "it recovered by itself"
    second = one.create(kind)
    assert one.call(second, "echo")["from"] == second
    known = {t["type"] for t in one.api("controller.types")["types"]}
    assert registrar.done <= known
    one.disconnect()
    os.kill(hub, 9)
    wait_until(lambda: one.run("call", component, "echo", status=None).status == 0)
    known = {t["type"] for t in one.api("controller.types")["types"]}
    assert registrar.done <= known, "what was acknowledged beside a full disk is on the disk"


def test_components_end_and_a_cluster_goes_down_beside_a_full_disk(
    small_disk: Path, make: Any, wait_until: Any
) -> None:
    one = make(small_disk)
    one.start()
    kind = one.push("probe")
    crashing, other = one.create(kind), one.create(kind)
    controller = one.agent("containers")
    pid = one.component(crashing)["pid"]
    fill(small_disk / "filler")
    with contextlib.suppress(PlatformError):
        one.call(crashing, "exit", code=3)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert one.call(other, "echo")["from"] == other
    assert one.agent("containers") == controller
    one.disconnect()
    one.run("down", "--yes", timeout_s=200)
    assert one.leftovers(with_state=False) == set()


def test_a_disk_that_fills_while_layers_are_made_ready_ends_no_agent(
    small_disk: Path, make: Any, wait_until: Any
) -> None:
    """The container controller keeps writable layers ready; it may fail at that, and lives on."""
    one = make(small_disk)
    one.start()
    kind = one.push("probe")
    controller = one.agent("containers")
    component = one.create(kind)
    fill(small_disk / "filler")
    time.sleep(1.5)
    assert one.agent("containers") == controller
    assert one.call(component, "echo")["from"] == component
    (small_disk / "filler").unlink()
    wait_until(lambda: one.run("create", kind, status=None).status == 0)
    assert one.agent("containers") == controller
