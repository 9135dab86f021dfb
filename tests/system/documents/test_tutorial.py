"""The tutorial, executed as it is written, on a real development cluster."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUNNER = ROOT / "tests" / "documents" / "tutorial_runner.py"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A reader's environment: `paas` on the path, a home and a cluster of its own."""
    command = tmp_path / "bin" / "paas"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m paas.cli "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PAAS_STATE": str(tmp_path / "state"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "LANG": "C.UTF-8",
    }


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_tutorial_does_what_it_says(tmp_path: Path, environment: dict[str, str]) -> None:
    spec = importlib.util.spec_from_file_location("tutorial_runner", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tutorial_runner"] = module
    spec.loader.exec_module(module)
    work = tmp_path / "work"
    work.mkdir()
    runner = module.Runner(work, environment)
    document = (ROOT / "docs" / "tutorial" / "first-component.md").read_text(encoding="utf-8")
    try:
        assert runner.run(document) > 15
    finally:
        runner.shell("paas down --purge --yes")
    assert not (tmp_path / "state").exists()
