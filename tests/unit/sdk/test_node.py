"""The tests of the Node.js SDK in its own language, where that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SDK = HERE.parents[2] / "paas" / "sdk" / "node" / "paas-component.mjs"
NODE = [path for path in [shutil.which("node")] if path]


@pytest.mark.parametrize("node", NODE)
def test_its_own_tests_pass(node: str) -> None:
    done = subprocess.run(
        [node, "--test", str(HERE / "paas-component.test.mjs")],
        env={**os.environ, "SDK": str(SDK)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 18" in done.stdout
    assert "fail 0" in done.stdout
