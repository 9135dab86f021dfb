"""Published escapes: every row of the table names probes or tests that there are, or a reason."""

from __future__ import annotations

import re
from pathlib import Path

from tests.system.escape import battery

_ROOT = Path(__file__).parents[3]
_TABLE = _ROOT / "docs/internals/containers/walls.md"
_REASON = "cannot apply: "


def _rows() -> dict[str, str]:
    found = {}
    for line in _TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 3 and re.match(r'CVE-|"', cells[0]):
            found[cells[0]] = cells[2]
    return found


def _tests() -> set[str]:
    return {
        name
        for path in (_ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def test_every_published_escape_has_a_probe_or_a_reason() -> None:
    known = {probe.name for probe in battery.PROBES} | _tests()
    wrong = {}
    for published, here in _rows().items():
        names = re.findall(r"`(\w+)`", here)
        if here.startswith(_REASON):
            continue
        if not names or not set(names) <= known:
            wrong[published] = sorted(set(names) - known)
    assert wrong == {}


def test_the_list_covers_the_peers() -> None:
    text = " ".join(_rows())
    assert text.count("(runc") >= 15
    assert text.count("(containerd)") >= 15
    assert text.count("LXC)") >= 10
    assert len(re.findall(r"CVE-\d+-\d+", text)) >= 55
    reasons = [here for here in _rows().values() if here.startswith(_REASON)]
    assert all(len(here) > len(_REASON) + 10 for here in reasons)
    assert len(reasons) < len(_rows()) / 2
