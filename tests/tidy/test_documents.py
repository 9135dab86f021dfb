"""Documents: their links lead somewhere; what the code emits is declared for the reference."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from paas.telemetry.event import is_key
from paas.telemetry.names import LOG_KEYS, METRICS

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)
LEVELS = {"debug", "info", "warning", "error"}


def anchors(text: str) -> set[str]:
    """The anchors that headings get where Markdown is shown as pages."""
    names = set()
    for title in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        names.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return names


def dead_links(path: Path) -> list[str]:
    """Relative links of a document that lead nowhere."""
    found = []
    for target in LINK.findall(FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        if not file.exists():
            found.append(f"{path.name}: {target}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            found.append(f"{path.name}: {target}: no such heading")
    return found


def emitted_keys(module: Any) -> list[tuple[int, str]]:
    """Keys that are written literally in calls like `log.info("a.b", …)`."""
    found = []
    for node in module.nodes:
        match node:
            case ast.Call(
                func=ast.Attribute(attr=level, value=logger),
                args=[ast.Constant(value=str(key)), *_],
            ) if level in LEVELS and module.called(logger).split(".")[-1].lstrip("_") == "log":
                found.append((node.lineno, key))
    return found


def test_every_relative_link_leads_somewhere(root: Path) -> None:
    pages = [*(root / "docs").rglob("*.md"), *root.glob("*.md"), *(root / "examples").rglob("*.md")]
    found = [text for page in pages for text in dead_links(page)]
    assert not found, "\n" + "\n".join(found)


def test_every_log_key_is_declared_with_its_meaning(modules: list[Any]) -> None:
    found = [
        f"{module.path}:{line}: {key} is not in paas/telemetry/names.py"
        for module in modules
        for line, key in emitted_keys(module)
        if key not in LOG_KEYS
    ]
    assert not found, "\n" + "\n".join(found)


def test_declared_names_have_the_form_of_names_and_a_meaning() -> None:
    for key, meaning in {**LOG_KEYS, **METRICS}.items():
        assert is_key(key), key
        assert meaning, key
    assert list(LOG_KEYS) == sorted(LOG_KEYS)
    assert list(METRICS) == sorted(METRICS)


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("[a](other.md)", 0),
        ("[a](other.md#the-second-part)", 0),
        ("[a](#here)\n# Here", 0),
        ("[a](https://example.org/x)", 0),
        ("```\n[a](nowhere.md)\n```", 0),
        ("[a](nowhere.md)", 1),
        ("[a](other.md#nowhere)", 1),
        ("[a](#nowhere)", 1),
    ],
)
def test_dead_links_are_found(tmp_path: Path, text: str, dead: int) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## The `second` part\n")
    page = tmp_path / "page.md"
    page.write_text(text)
    assert len(dead_links(page)) == dead


def test_log_keys_are_seen(source: Any) -> None:
    text = 'self._log.info("a.b", x=1)\nagent.log.error("c.d")\nmath.log(2)\nlog.info(key)\n'
    assert emitted_keys(source("paas/x.py", text)) == [(1, "a.b"), (2, "c.d")]
