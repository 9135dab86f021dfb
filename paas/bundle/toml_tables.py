"""Reading the TOML documents that people write for us: tables of known fields, each checked.  Pure.

    bytes ──load──> tables, text ──a reader (Tables)──> what the document means

An unknown table or field is an error, never ignored: a misspelt limit would otherwise be no limit.
Every error is `invalid` with `file`, `field` (its dotted path) and, for a file, `line`.  The same
tables may come in a request; then there is no text, and no line.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

from paas.base.errors import PlatformError
from paas.bundle import toml_lines
from paas.bundle.toml_lines import Path

SHOWN_MAX = 60
NAME_SHOWN_MAX = 64


def load(text: bytes, file: str, what: str, bytes_max: int) -> tuple[dict[str, Any], str]:
    """Its tables, and its text; raises `invalid` with the line, or `limit-exceeded`."""
    if len(text) > bytes_max:
        raise PlatformError(
            "limit-exceeded",
            f"{file}: a {what} has at most {bytes_max} bytes, not {len(text)}",
            file=file,
        )
    try:
        decoded = text.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        raise _syntax(file, text.count(b"\n", 0, exc.start) + 1, "this is not UTF-8 text") from None
    try:
        return tomllib.loads(decoded), decoded
    except (ValueError, RecursionError) as exc:
        raise _syntax(file, _syntax_line(str(exc), decoded), str(exc)) from None


def _syntax(file: str, line: int, reason: str) -> PlatformError:
    return PlatformError("invalid", f"{file}:{line}: {reason}", file=file, line=line, field="")


def _syntax_line(reason: str, text: str) -> int:
    found = re.search(r"at line (\d+)", reason)
    return int(found[1]) if found else text.count("\n") + 1


class Tables:
    """What readers of documents have in common; knows the text, if there is one, to name lines."""

    what: ClassVar[str]
    """What the whole document is called."""
    outermost: ClassVar[str] = "table"
    """What its outermost tables are called."""
    param: ClassVar[str] = ""
    """The parameter of a request that carries it, if errors name that."""

    def __init__(self, file: str, text: str | None) -> None:
        self._file = file
        self._text = text

    def _table(self, path: Path, value: object) -> dict[str, object]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self._refuse(path, "expected a table of fields")
        return value

    def _check(self, path: Path, check: Callable[[object], Any], value: object) -> Any:
        """The value as `check` returns it; its ValueError says what was expected."""
        try:
            return check(value)
        except ValueError as exc:
            got = repr(value)
            shown = got if len(got) <= SHOWN_MAX else got[: SHOWN_MAX - 3] + "..."
            self._refuse(path, f"expected {exc}; got {shown}")

    def _known(self, path: Path, table: Mapping[str, object], names: tuple[str, ...]) -> None:
        for name in table:
            if name not in names:
                kind = "field" if path else self.outermost
                self._refuse((*path, name), f"unknown {kind}; {self._hint(path, name, names)}")

    def _hint(self, path: Path, name: str, names: tuple[str, ...]) -> str:
        """The closest valid name, or all of them."""
        if close := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
            return f'did you mean "{close[0]}"?'
        return "expected one of " + ", ".join(f'"{known}"' for known in names)

    def _refuse(self, path: Path, reason: str) -> NoReturn:
        field = ".".join(_shown(word) for word in path) or self.what
        data: dict[str, Any] = {"file": self._file, "field": field}
        if self.param:
            data["param"] = self.param
        place = self._file
        if self._text is not None:
            data["line"] = toml_lines.line_of(toml_lines.locate(self._text), path)
            place = f"{self._file}:{data['line']}"
        raise PlatformError("invalid", f"{place}: {field}: {reason}", **data)


def _shown(word: str) -> str:
    """A name from the document, as it may be printed."""
    short = word if len(word) <= NAME_SHOWN_MAX else word[: NAME_SHOWN_MAX - 3] + "..."
    return short if short.isprintable() else ascii(short)
