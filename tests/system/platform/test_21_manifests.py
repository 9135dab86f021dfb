"""Errors in a manifest name file, line, field and what was expected; `paas push` ends with 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system

GOOD = """\
[component]
name = "small"
version = "1.0.0"
command = ["true"]

[limits]
memory = "16M"
"""

WRONG = {
    "unknown field": ('comand = ["false"]', 5, "component.comand", 'did you mean "command"?'),
    "unknown section": ("[limit]\nmemory = 1", 5, "limit", 'did you mean "limits"?'),
    "field of another section": ("cpu = 1.0", 5, "component.cpu", "[limits]"),
    "wrong type": ('description = ["a", "list"]', 5, "component.description", "a string"),
    "wrong protocol": ('protocol = "xml"', 5, "component.protocol", '"msgpack"'),
    "half a string": ('description = "half', 5, "", ""),
}

IMPOSSIBLE = {
    "no memory": ("memory = 0", "limits.memory"),
    "memory of another planet": ('memory = "99999T"', "limits.memory"),
    "memory that is no size": ('memory = "much"', "limits.memory"),
    "negative cores": ("cpu = -1", "limits.cpu"),
    "no processes": ("pids = 0", "limits.pids"),
    "half a process": ("pids = 1.5", "limits.pids"),
    "too large a disk": ('disk = "9999P"', "limits.disk"),
}


def push(platform: Any, folder: Path, text: str) -> str:
    (folder / "component.toml").write_text(text)
    done = platform.run("push", str(folder), status=2)
    assert done.out == ""
    error: str = done.err
    return error


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named_with_its_line(platform: Any, tmp_path: Path, case: str) -> None:
    line, number, field, help_ = WRONG[case]
    said = push(platform, tmp_path, GOOD.replace("\n\n", f"\n{line}\n\n", 1))
    assert f"component.toml:{number}:" in said
    assert f"{field}: " in said
    assert help_ in said


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_limit_is_named_with_its_line(
    platform: Any, tmp_path: Path, case: str
) -> None:
    line, field = IMPOSSIBLE[case]
    said = push(platform, tmp_path, GOOD.replace('memory = "16M"', line))
    assert f"component.toml:7: {field}: expected " in said


def test_a_missing_field_and_a_missing_manifest_are_named(platform: Any, tmp_path: Path) -> None:
    assert "component.version" in push(platform, tmp_path, GOOD.replace('version = "1.0.0"\n', ""))
    (tmp_path / "empty").mkdir()
    done = platform.run("push", str(tmp_path / "empty"), status=2)
    assert "component.toml" in done.err


def test_the_api_checks_the_manifest_too(platform: Any) -> None:
    bundle = platform.api("controller.type", type="probe")["bundle"]
    manifest = {"component": {"name": "Bad Name", "version": "1", "command": ["true"]}}
    with pytest.raises(PlatformError) as caught:
        platform.api("controller.register_type", bundle=bundle, manifest=manifest)
    assert caught.value.code == "invalid"
    assert caught.value.data["field"] == "component.name"


def test_more_than_the_machine_has_finds_no_place(platform: Any) -> None:
    source = platform.source("huge", ["true"], limits='memory = "15T"')
    kind = platform.push(source)
    with pytest.raises(PlatformError) as caught:
        platform.create(kind)
    assert caught.value.code == "no-placement"
    assert "n1" in caught.value.message + str(caught.value.data)
    assert platform.components() == []
