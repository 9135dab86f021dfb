"""The programs of the pages for developers do what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from paas.sdk.joined import source

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "howto"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((PAGES / page).read_text())


def test_the_shop_of_one_page_passes_the_tests_of_the_other(tmp_path: Path) -> None:
    program, fragment = blocks("write-a-component.md")
    (tests,) = blocks("test-a-component.md")
    (tmp_path / "shop.py").write_text(program)
    (tmp_path / "test_shop.py").write_text(tests)
    (tmp_path / "paas_component.py").write_text(source())
    harness = (ROOT / "paas" / "sdk" / "paas_testing.py").read_text()
    (tmp_path / "paas_testing.py").write_text(harness)
    (tmp_path / "component.toml").write_text(
        '[component]\nname = "shop"\nversion = "1"\ncommand = ["python3", "shop.py"]\n'
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    compile(fragment, "fragment", "exec")
