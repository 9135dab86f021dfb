"""Which files of a source directory stay out of its bundle: `.paasignore`, and a few always.

One rule a line, as developers know from version control: `#` comments, `!` takes back, a trailing
`/` means directories only, a slash elsewhere anchors the rule at the root, `*` `?` `[a-z]` do not
cross slashes, `**` does.  The last rule that matches decides.  What is in an ignored directory is
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from paas.base.errors import PlatformError, invalid
from paas.bundle.limits import IGNORE_RULES_MAX

IGNORE_FILE = ".paasignore"

DEFAULTS = (
    IGNORE_FILE,
    ".git",
    ".hg",
    ".svn",
    "__pycache__/",
    "*.pyc",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".venv/",
    ".DS_Store",
    "*~",
    "*.swp",
)


@dataclass(frozen=True, slots=True)
class Rule:
    expression: re.Pattern[str]
    ignores: bool
    directories_only: bool


class Ignore:
    """The rules of one source directory."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._rules = [rule for line in (*DEFAULTS, *lines) if (rule := _rule(line))]
        if len(self._rules) > IGNORE_RULES_MAX:
            raise PlatformError(
                "limit-exceeded", f"{IGNORE_FILE}: there are more than {IGNORE_RULES_MAX} rules"
            )

    def matches(self, path: str, *, directory: bool) -> bool:
        """Does this path, relative to the root, stay out?"""
        for rule in reversed(self._rules):
            if (directory or not rule.directories_only) and rule.expression.fullmatch(path):
                return rule.ignores
        return False


def _rule(line: str) -> Rule | None:
    pattern = line.strip()
    if not pattern or pattern.startswith("#"):
        return None
    ignores = not pattern.startswith("!")
    pattern = pattern.removeprefix("!")
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    if not pattern:
        return None
    anchored = "/" in pattern
    parts = [_part(part) for part in pattern.lstrip("/").split("/")]
    body = "/".join(parts).replace("**/", "(?:[^/]+/)*").replace("/**", "/.+")
    try:
        expression = re.compile(body if anchored else f"(?:.*/)?{body}", re.DOTALL)
    except re.error:
        raise invalid(IGNORE_FILE, f"expected a pattern, got {line.strip()!r}") from None
    return Rule(expression, ignores, directories_only)


def _part(part: str) -> str:
    """One name of a pattern as a regular expression; `**` alone is left for the whole pattern."""
    if part == "**":
        return part
    expression, at = "", 0
    while at < len(part):
        closing = part.find("]", at + 2) if part[at] == "[" else -1
        if closing != -1:
            inside = part[at + 1 : closing].replace("\\", "\\\\").replace("[", "\\[")
            inside = "^" + inside[1:] if inside.startswith("!") else inside.replace("^", "\\^")
            expression += f"(?!/)[{inside}]"
            at = closing
        elif part[at] == "*":
            expression += "[^/]*" if not expression.endswith("[^/]*") else ""
        else:
            expression += "[^/]" if part[at] == "?" else re.escape(part[at])
        at += 1
    return expression
