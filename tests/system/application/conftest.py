"""One cluster of one node for all of these tests, and the files of an application."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.platform.conftest import Done, Platform, end_platform, make_platform, until

MEMBER = """\
import os, sys, time
from paas_component import Component

component = Component()

@component.operation("who")
def who(inputs, call):
    return {"version": VERSION, "configuration": component.configuration, "pid": os.getpid()}

@component.operation("keep")
def keep(inputs, call):
    with open("/data/kept", "a") as file:
        file.write(inputs["word"] + " ")
    with open("/data/kept") as file:
        return {"kept": file.read().split()}

if VERSION.startswith("9"):
    sys.exit("this version is broken")
component.run()
"""

MANIFEST = """\
[component]
name = "{name}"
version = "{version}"
command = ["python3", "main.py"]
sdk = "python"
{more}
[limits]
memory = "48M"
pids = 32
disk = "16M"
[endpoints.http]
protocol = "http"
[supervision]
max_restarts = 1
within = 60
"""


class Shop:
    """An application's directory, and the cluster that it is deployed to."""

    def __init__(self, cluster: Platform, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.file = folder / "application.toml"

    def member(self, name: str, version: str = "1.0.0", more: str = "") -> None:
        """The source directory of a role."""
        directory = self.folder / name
        directory.mkdir(parents=True, exist_ok=True)
        manifest = MANIFEST.format(name=f"shop-{name}", version=version, more=more)
        (directory / "component.toml").write_text(manifest)
        (directory / "main.py").write_text(f"VERSION = {version!r}\n{MEMBER}")

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def app(self, *words: str, status: int | None = 0) -> Done:
        return self.cluster.run("app", *words, status=status, timeout_s=200)

    def deploy(self, *words: str, status: int | None = 0) -> Done:
        return self.app("deploy", str(self.file), *words, status=status)

    def begin_deploy(self) -> subprocess.Popen[str]:
        """A deploy that goes on while the test does."""
        return self.cluster.spawn("app", "deploy", str(self.file), "-o", "json")

    def kill_hub(self) -> None:
        os.kill(self.cluster.agent("hub"), signal.SIGKILL)
        self.cluster.disconnect()

    def until_members(self, role: str, count: int) -> None:
        until(lambda: len(self.members(role)) >= count)

    def status(self, name: str = "shop") -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.api("application.status", application=name)
        return found

    def members(self, role: str) -> list[dict[str, Any]]:
        return [m for m in self.status()["members"] if m["role"] == role]

    def components(self) -> list[dict[str, Any]]:
        """Everything that lives in the cluster."""
        found: list[dict[str, Any]] = self.cluster.api("controller.components")["components"]
        return found


@pytest.fixture(scope="session")
def cluster() -> Iterator[Platform]:
    made = make_platform()
    try:
        made.start()
        yield made
    finally:
        end_platform(made)


@pytest.fixture(scope="session")
def shop(cluster: Platform, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(cluster, tmp_path_factory.mktemp("shop"))
