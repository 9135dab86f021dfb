"""Generated pages are up to date; links lead somewhere; errors have their headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paas.base.errors import CATALOGUE
from paas.cli import reference

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_reference_page_is_up_to_date(name):
    there = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert there == reference.page(name), "run: python -m paas.cli.reference"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document):
    targets = _LINK.findall(document.read_text(encoding="utf-8"))
    dead = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert dead == []


def test_every_error_has_a_heading():
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    assert all(f"\n## {code}\n" in text for code in CATALOGUE)
