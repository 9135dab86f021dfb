"""Components whose containers LXC makes, beside others, through the whole platform."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from .conftest import COMPONENTS, Platform, until

pytestmark = pytest.mark.system


def _pushed(platform: Platform, tmp_path: Path) -> str:
    """The type `probe`, with another name and another back end."""
    source = tmp_path / "boxed"
    shutil.copytree(COMPONENTS / "probe", source)
    manifest = source / "component.toml"
    text = manifest.read_text().replace('name = "probe"', 'name = "boxed"\nbackend = "lxc"')
    manifest.write_text(text)
    return platform.push(source)


def _monitors(component: str) -> list[int]:
    """LXC's processes for this component."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"lxc-start") and component.encode() in words:
            found.append(int(entry.name))
    return found


def test_a_component_in_an_lxc_container_lives_as_any_other(
    platform: Platform, tmp_path: Path
) -> None:
    assert _pushed(platform, tmp_path) == "boxed@1.0.0"
    boxed = platform.create("boxed", name="in-a-box")
    plain = platform.create("probe", name="in-the-open")
    assert len(_monitors(boxed)) == 1
    assert _monitors(plain) == []
    pid = platform.component(boxed)["pid"]
    os.kill(platform.agent("containers"), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: platform.component(boxed)["restarts"] == 1)
    found = platform.in_state(boxed, "available")
    assert found["pid"] != pid
    assert platform.run("exec", "in-a-box", "--", "sh", "-c", "exit 7", status=7).status == 7
    platform.run("freeze", "in-a-box")
    platform.run("thaw", "in-a-box")
    platform.api("controller.destroy", component=boxed)
    until(lambda: not _monitors(boxed))


def test_an_unknown_back_end_is_refused_by_name(platform: Platform, tmp_path: Path) -> None:
    source = platform.source("odd", ["true"], text='backend = "chroot"')
    done = platform.run("push", str(source), status=None)
    assert done.status != 0
    assert "component.backend" in done.err
    assert "namespaces" in done.err
