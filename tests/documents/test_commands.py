"""Commands in documents are commands that there are, with options that they have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.cli.commands import find
from paas.cli.main import split_globals
from paas.cli.parser import parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]
    if "reference" not in page.parts
)
FENCE = re.compile(r"^```(?:console|sh|shell|text)?[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDS = {"&&", "||", "|", ";", "&", "(", ")", "<", ">", ">>"}


def commands(text: str) -> Iterator[list[str]]:
    """The words after `paas` of each command that stands at the beginning of a line of a block."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?paas [a-z]", line) and "…" not in line:
                for ends, part in groupby(words_of(line), lambda word: word in ENDS):
                    found = [word for word in part if word != "$"]
                    if not ends and found and found[0] == "paas":
                        yield found[1:]


def words_of(line: str) -> list[str]:
    """Without its comment; nothing for a line of a drawing, or one whose quotes are open."""
    if re.search(r"\S {3,}[^# ]", line) or line.count("'") % 2:
        return []
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;()<>")
    lexer.wordchars += "$@%+,!#[]{}^*?=:~/.-"
    lexer.commenters = ""
    words = list(lexer)
    return words[: words.index("#")] if "#" in words else words


def wrong(words: list[str]) -> str:
    """Why this is no command; empty if it is one."""
    try:
        _, rest = split_globals(words)
        row = find(rest)
        if row is None:
            return "there is no such command"
        parse(row, rest[len(row.words) :])
    except PlatformError as exc:
        return exc.message
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_document_are_understood(page: Path) -> None:
    found = [(" ".join(words), wrong(words)) for words in commands(page.read_text())]
    assert [(line, why) for line, why in found if why] == []


def test_what_is_no_command_is_noticed() -> None:
    text = "```console\n$ paas run x   # no\n$ paas push . && paas create a --cuont 2\n```\n"
    first, push, create = commands(text)
    assert (first, push) == (["run", "x"], ["push", "."])
    assert "no such command" in wrong(first)
    assert wrong(push) == ""
    assert "--cuont" in wrong(create)
