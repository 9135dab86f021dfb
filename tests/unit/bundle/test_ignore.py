"""`.paasignore` means what developers expect of such a file."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.bundle.ignore import Ignore
from paas.bundle.limits import IGNORE_RULES_MAX


@pytest.mark.parametrize(
    ("rule", "path", "directory", "ignored"),
    [
        ("*.log", "a.log", False, True),
        ("*.log", "sub/deep/a.log", False, True),
        ("*.log", "a.logs", False, False),
        ("/a.txt", "a.txt", False, True),
        ("/a.txt", "sub/a.txt", False, False),
        ("sub/*.txt", "sub/a.txt", False, True),
        ("sub/*.txt", "sub/x/a.txt", False, False),
        ("sub/**/a.txt", "sub/x/y/a.txt", False, True),
        ("sub/**/a.txt", "sub/a.txt", False, True),
        ("sub/**", "sub/x/y", False, True),
        ("sub/**", "sub", True, False),
        ("build/", "build", True, True),
        ("build/", "build", False, False),
        ("a?[0-9].c", "ab7.c", False, True),
        ("[!a]x", "bx", False, True),
        ("[!a]x", "ax", False, False),
        ("a[", "a[", False, True),
        ("# *", "anything", False, False),
        ("a.b", "axb", False, False),
        ("", "x", False, False),
        ("/", "x", False, False),
    ],
)
def test_one_rule(rule: str, path: str, directory: bool, ignored: bool) -> None:
    assert Ignore([rule]).matches(path, directory=directory) is ignored


def test_a_later_rule_takes_an_earlier_one_back() -> None:
    rules = Ignore(["*.log", "!keep.log"])
    assert rules.matches("a.log", directory=False)
    assert not rules.matches("keep.log", directory=False)


@pytest.mark.parametrize("name", [".git", "x/__pycache__", ".venv", ".paasignore"])
def test_what_never_belongs_in_a_bundle_is_ignored_by_default(name: str) -> None:
    assert Ignore().matches(name, directory=True)


def test_a_default_can_be_taken_back() -> None:
    assert not Ignore(["!*.pyc"]).matches("a.pyc", directory=False)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(PlatformError, match="expected a pattern"):
        Ignore(["[z-a]"])


def test_too_many_rules_are_refused() -> None:
    with pytest.raises(PlatformError, match="rules"):
        Ignore(["x"] * IGNORE_RULES_MAX)
