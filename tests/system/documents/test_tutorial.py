"""The tutorial, executed as it is written, on a real development cluster."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUNNER = ROOT / "tests" / "documents" / "tutorial_runner.py"


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
    document = (ROOT / "docs" / "tutorial" / "first-component.md").read_text(encoding="utf-8")
    assert module.Runner(work, environment).run(document) > 15
