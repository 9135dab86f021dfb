"""On which line of a TOML document does a key stand?  The standard parser does not say.

A scanner over text that the parser has accepted already: it finds headers, keys (bare, quoted,
dotted) and keys of inline tables, and skips values.  It decides nothing about validity; on text
that is not TOML its answer is meaningless, but it always ends, as every step consumes a character.
Source: TOML 1.0, "Keys", "Table", "Inline Table".
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'", re.DOTALL
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^\s,\[\]{}#\"']+")


def locate(text: str) -> dict[Path, int]:
    """The first line (from 1) of every table and key, by its full path."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest table around it; 1 when nothing of it is written."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.lines: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip_space():
            if self._peek() == "[":
                start = self._at
                while self._peek() == "[":
                    self._at += 1
                table = self._key(())
                self._note(table, start)
                while self._peek() == "]":
                    self._at += 1
            else:
                self._pair(table)

    def _pair(self, table: Path) -> None:
        """One `key = value`; a character that fits nowhere is stepped over."""
        start = self._at
        path = self._key(table)
        self._note(path, start)
        self._skip_space()
        if self._peek() == "=":
            self._at += 1
            self._value(path)
        elif self._at == start:
            self._at += 1

    def _key(self, prefix: Path) -> Path:
        """A dotted key, appended to `prefix`."""
        path = prefix
        while self._skip_space():
            quoted = _STRING.match(self._text, self._at)
            found = quoted or _BARE_KEY.match(self._text, self._at)
            if found is None:
                break
            self._at = found.end()
            path = (*path, _unquote(found[0]) if quoted else found[0])
            self._skip_space()
            if self._peek() != ".":
                break
            self._at += 1
        return path

    def _value(self, path: Path) -> None:
        """Step over one value; an inline table's keys are noted, elements of arrays are not."""
        if not self._skip_space():
            return
        if self._peek() not in "[{":
            found = _STRING.match(self._text, self._at) or _SCALAR.match(self._text, self._at)
            self._at = found.end() if found else self._at + 1
            return
        closing = "]" if self._peek() == "[" else "}"
        self._at += 1
        while self._skip_space():
            if self._peek() == closing:
                self._at += 1
                return
            if self._peek() == ",":
                self._at += 1
            elif closing == "}":
                self._pair(path)
            else:
                self._value(path)

    def _note(self, path: Path, at: int) -> None:
        line = self._text.count("\n", 0, at) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _skip_space(self) -> bool:
        """Go to the next character that means something; False at the end of the text."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at < len(self._text)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]


def _unquote(quoted: str) -> str:
    """The key that a quoted key names; the standard parser knows the escapes."""
    try:
        return next(iter(tomllib.loads(f"{quoted} = 0")))
    except tomllib.TOMLDecodeError:
        return quoted
