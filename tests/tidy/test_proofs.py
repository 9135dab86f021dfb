"""The pages of proofs: every row names tests, and every test that it names exists."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = "docs/internals/proofs.md"
HUB_PAGE = "docs/internals/hub/proofs.md"
CONTAINERS_PAGE = "docs/internals/containers/proofs.md"
WORLD_PAGE = "docs/internals/world/proofs.md"
PAGES = {PAGE: 80, HUB_PAGE: 30, CONTAINERS_PAGE: 25, WORLD_PAGE: 110}
"""And how many rows each has at least."""

REFERENCE = re.compile(r"`((?:unit|system|simulation|contract|documents|tidy|bench)/[^`]+)`")
MEASURED = "bench/"
"""What is measured and not tested."""

RULE = re.compile(r"[|\s:-]+")
TITLES = ("claim", "what comes", "port", "story")
STORIES = [number for number in range(1, 22) if number != 15]
"""The numbers of the stories; there is none with the number 15."""

PORTS_TITLE = "| port | garbage | said again | too much |"
PORTS_MIN = 6


def rows(text: str) -> Iterator[str]:
    """The rows of its tables, without their headings."""
    for line in text.splitlines():
        if not line.startswith("|") or RULE.fullmatch(line):
            continue
        if line.split("|")[1].strip() not in TITLES:
            yield line


@functools.cache
def functions(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^\s*(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))


def findings(text: str, root: Path) -> list[str]:
    """Rows without a test, cells without one that should have it, tests that do not exist."""
    found = []
    for row in rows(text):
        cells = [cell.strip() for cell in row.strip().strip("|").split(" | ")]
        if not REFERENCE.search(cells[-1]):
            found.append(f"no test: {row[:60]}")
        for reference in REFERENCE.findall(row):
            name, _, function = reference.partition("::")
            path = root / name if name.startswith(MEASURED) else root / "tests" / name
            if not path.is_file():
                found.append(f"no such file: {reference}")
            elif function and function not in functions(path):
                found.append(f"no such test: {reference}")
    return found


def test_there_is_no_other_page_of_proofs(root: Path) -> None:
    assert {str(p.relative_to(root)) for p in (root / "docs").rglob("*proofs*")} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_claim_names_tests_that_exist(root: Path, page: str) -> None:
    text = (root / page).read_text()
    assert len(list(rows(text))) >= PAGES[page]
    found = findings(text, root)
    assert not found, "\n" + "\n".join(found)


def test_for_every_port_there_are_garbage_replay_and_oversize(root: Path) -> None:
    table = (root / PAGE).read_text().partition(PORTS_TITLE)[2].partition("\n\n")[0]
    ports = list(rows(table))
    assert len(ports) >= PORTS_MIN
    for port in ports:
        _, *cells = port.strip("|").split(" | ")
        assert [bool(REFERENCE.search(cell)) for cell in cells] == [True] * 3, port


def test_every_story_is_there(root: Path) -> None:
    told = {int(n) for n in re.findall(r"^\| s(\d+):", (root / PAGE).read_text(), re.MULTILINE)}
    assert sorted(told) == STORIES


def test_what_is_missing_is_found(root: Path) -> None:
    own = "`tidy/test_proofs.py::test_every_story_is_there`"
    assert findings(f"| claim | how | tests |\n|---|---|---|\n| a | b | {own} |\n", root) == []
    assert findings("| a | b | nobody looked |", root) == ["no test: | a | b | nobody looked |"]
    assert len(findings("| a | b | `tidy/test_proofs.py::test_that_is_not` |", root)) == 1
    assert len(findings("| a | b | `tidy/test_nothing.py::test_x` |", root)) == 1
    assert findings("| a | b | `bench/dns.py` |", root) == []
    assert len(findings("| a | b | `bench/nothing.py` |", root)) == 1
    assert len(findings(f"| a | {own} | |", root)) == 1
