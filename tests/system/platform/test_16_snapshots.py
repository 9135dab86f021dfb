"""Snapshots of a component's files through the whole platform."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from paas.base.errors import PlatformError

from .conftest import Platform, below, until

pytestmark = pytest.mark.system

WRITER = """
import os
from paas_component import Component
component = Component()

@component.operation("write")
def write(inputs, call):
    with open("/app/data", "w") as file:
        file.write(inputs["text"])

@component.operation("read")
def read(inputs, call):
    found = open("/app/data").read() if os.path.exists("/app/data") else ""
    return {"text": found}

component.run()
"""
SDK = 'sdk = "python"'


@pytest.fixture
def writer(platform: Platform) -> str:
    """A component that keeps what it is told."""
    for kind in platform.api("controller.types")["types"]:
        if kind["type"].startswith("writer@"):
            break
    else:
        source = platform.source(
            "writer",
            ["python3", "writer.py"],
            protocol="json",
            text=SDK,
            files={"writer.py": WRITER},
            supervision='restart = "permanent"\nmax_restarts = 8\nwithin = 60',
        )
        platform.push(source)
    return platform.create("writer", name="writes")


def text(platform: Platform) -> str:
    return str(platform.run("call", "writes", "read").json["text"])


def write(platform: Platform, words: str) -> None:
    platform.run("call", "writes", "write", f"text={words}")


def names(platform: Platform) -> list[str]:
    found = platform.run("snapshots", "list", "writes", "-o", "json").json["snapshots"]
    return [one["name"] for one in found]


def restored(platform: Platform, component: str, name: str) -> None:
    before = platform.component(component)["restarts"]
    platform.run("snapshots", "restore", "writes", name, "--yes")
    until(lambda: platform.component(component)["restarts"] > before)
    platform.in_state(component, "available")


def test_files_are_kept_and_come_back(platform: Platform, writer: str) -> None:
    write(platform, "one")
    made = platform.run("snapshots", "create", "writes", "first", "-o", "json").json
    assert made["name"] == "first"
    assert made["size"] > 0
    write(platform, "two")
    platform.run("snapshots", "create", "writes")
    assert names(platform)[0] == "first"
    assert len(names(platform)) == 2
    restored(platform, writer, "first")
    assert text(platform) == "one"
    platform.run("snapshots", "remove", "writes", names(platform)[1], "--yes")
    assert names(platform) == ["first"]
    table = platform.run("snapshots", "list", "writes").out.splitlines()
    assert table[0].split() == ["NAME", "AGE", "SIZE", "NODE"]


def test_they_stay_when_agents_are_killed_and_end_with_the_component(
    platform: Platform, writer: str
) -> None:
    write(platform, "kept")
    platform.run("snapshots", "create", "writes", "first")
    os.kill(platform.agent("containers"), signal.SIGKILL)
    os.kill(platform.agent("hub"), signal.SIGKILL)
    until(lambda: _answers(platform, writer))
    until(lambda: _names_or_nothing(platform) == ["first"])
    restored(platform, writer, "first")
    assert text(platform) == "kept"
    (place,) = (p for p in below(platform.state) if p.parts[-2:] == ("snapshots", writer))
    assert (place / "first").is_dir()
    platform.destroy(writer)
    until(lambda: not place.exists())


def _answers(platform: Platform, component: str) -> bool:
    try:
        return bool(platform.component(component)["state"] == "available")
    except PlatformError:
        return False


def _names_or_nothing(platform: Platform) -> list[str]:
    done = platform.run("snapshots", "list", "writes", "-o", "name", status=None)
    return list(done.out.split())


def test_what_cannot_be_done_is_refused(platform: Platform, writer: str) -> None:
    for words, status in (
        (("restore", "writes", "nothing", "--yes"), 3),
        (("remove", "writes", "nothing", "--yes"), 3),
        (("create", "writes", "No Good"), 2),
        (("list", "nobody"), 3),
    ):
        done: Any = platform.run("snapshots", *words, status=None)
        assert done.status == status, (words, done)
    platform.run("snapshots", "create", "writes", "one")
    twice = platform.run("snapshots", "create", "writes", "one", status=None)
    assert "there is a snapshot one already" in twice.err


def test_a_temporary_component_cannot_go_back(platform: Platform, writer: str) -> None:
    component = platform.create("writer", name="short", restart="temporary")
    platform.in_state(component, "available")
    platform.run("snapshots", "create", "short", "one")
    done = platform.run("snapshots", "restore", "short", "one", "--yes", status=None)
    assert "temporary" in done.err
    assert platform.component(component)["state"] == "available"
