"""The programs of the pages for developers do what the pages say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from paas.bundle.build import read_manifest
from paas.sdk.joined import source
from paas.sdk.paas_testing import Harness

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "howto"
PAAS = (sys.executable, "-c", "import sys; from paas.cli.main import main; sys.exit(main())")
MANIFEST = """
[component]
name = "shop"
version = "1"
command = ["python3", "shop.py"]
sdk = "python"
"""
WATCHER = """
from paas_component import Component

component = Component()
component.connect()
"""


def blocks(page: str, language: str = "python") -> list[str]:
    block = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return block.findall((PAGES / page).read_text())


def test_the_shop_of_one_page_passes_the_tests_of_the_other(tmp_path: Path) -> None:
    program, _ = blocks("write-a-component.md")
    (tests,) = blocks("test-a-component.md")
    (console,) = blocks("test-a-component.md", "console")
    (tmp_path / "shop.py").write_text(program)
    (tmp_path / "test_shop.py").write_text(tests)
    (tmp_path / "component.toml").write_text(MANIFEST)
    command, _, said = console.partition("\n")
    assert command == "$ paas test ."
    done = subprocess.run(
        [*PAAS, "test", "."],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.sub(r"[\d.]+s\n", "s\n", done.stdout) == re.sub(r"[\d.]+s\n", "s\n", said)


def test_the_watcher_of_the_page_hears_what_the_page_says(tmp_path: Path) -> None:
    _, fragment = blocks("write-a-component.md")
    (tmp_path / "paas_component.py").write_text(source())
    (tmp_path / "watcher.py").write_text(WATCHER + fragment)
    command = [sys.executable, "-u", "watcher.py"]
    with Harness(command, directory=str(tmp_path), wait=False) as harness:
        watch = harness.await_watch(signals={"target": "group:shops"})
        harness.event(watch, "signal", signal="sold", payload={"item": "tea"})
        harness._until(lambda: len(harness.output) == 2, 10, "it prints nothing")
        assert harness.output == ["[]\n", "signal {'item': 'tea'}\n"]


@pytest.mark.parametrize("page", ["connect-applications.md", "run-an-existing-program.md"])
def test_the_manifests_of_the_pages_are_read(tmp_path: Path, page: str) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "component.toml").write_text(text)
        assert read_manifest(folder).component.name
