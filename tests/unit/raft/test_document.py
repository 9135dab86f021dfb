"""docs/internals/raft.md tells of every hole, rule and keeper, and of tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/internals/raft.md").read_text()
ROWS = dict(re.findall(r"^\| ([PTK]\d\d?) \|(.*)\|$", TEXT, re.MULTILINE))


def test_every_hole_rule_and_keeper_has_a_row() -> None:
    expected = [*(f"P{n:02}" for n in range(1, 42)), *(f"T{n}" for n in range(8))]
    expected += [f"K{n}" for n in range(1, 11)]
    assert sorted(ROWS) == sorted(expected)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_tests_that_a_row_names_exist(name: str) -> None:
    found = re.findall(r"`((?:tests/|test_)[^`]*)`", ROWS[name].split("|")[-1])
    assert found, f"{name} names no test"
    for reference in found:
        path, _, function = reference.partition("::")
        file = ROOT / (path if "/" in path else f"tests/unit/raft/{path}")
        assert file.is_file(), reference
        if function:
            assert re.search(rf"def {function}\(", file.read_text()), reference


def test_every_module_of_the_package_is_in_the_table() -> None:
    modules = {path.name for path in (ROOT / "paas/raft").glob("*.py")} - {"__init__.py"}
    assert modules == {name for name in modules if f"`{name}`" in TEXT}
