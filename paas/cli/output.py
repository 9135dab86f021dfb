"""What people and programs see: formats, colour, errors.  The only place that prints.

Data goes to standard output; progress, hints, warnings and errors to standard error (cli: rule 2).
    table, wide   for people: columns, times relative ("3m")
    json          one value; times as numbers and RFC 3339 text
    jsonl         one value a line: every stream, and the items of a list
    name          the one word that names each thing
`--query` (JMESPath) picks from the JSON value first.  Colour only on a terminal, and never the only
carrier of a meaning; NO_COLOR, CLICOLOR_FORCE and --color decide (no-color.org and
bixense.com/clicolors).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from paas.base.errors import PlatformError

FORMATS = ("table", "wide", "json", "jsonl", "name")

RED, GREEN, YELLOW, DIM, BOLD = "31", "32", "33", "2", "1"

_MARKS = {
    "available": ("●", "*", GREEN),
    "ready": ("●", "*", GREEN),
    "ok": ("●", "*", GREEN),
    "passed": ("●", "*", GREEN),
    "warn": ("◐", "~", YELLOW),
    "unavailable": ("◐", "~", YELLOW),
    "failed": ("✖", "x", RED),
    "destroyed": ("○", "-", DIM),
}
_MARK_OTHERWISE = ("◐", "~", YELLOW)

Column = tuple[str, Callable[[Any], str]]
"""Heading and the text of a row's cell.  A heading that ends with `*` appears in `wide` only."""


class Output:
    """Prints in one format."""

    def __init__(
        self,
        form: str = "table",
        *,
        query: str = "",
        color: str = "auto",
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.form = form
        self._query = _compile(query) if query else None
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.colored = _colored(color, self.stdout)
        self._colored_errors = _colored(color, self.stderr)
        self.unicode = "utf" in (self.stdout.encoding or "utf-8").lower()

    @property
    def for_programs(self) -> bool:
        return self.form in ("json", "jsonl") or self._query is not None

    # -- results ---------------------------------------------------------------------------------

    def value(self, value: Any, text: str | None = None, names: Sequence[str] = ()) -> None:
        """One result: the JSON value, what people read instead of it, and its names."""
        if self._query is not None:
            self._picked(value)
        elif self.form in ("json", "jsonl"):
            self.line(self.json(value))
        elif self.form == "name":
            for name in names:
                self.line(name)
        else:
            self.line(self.json(value) if text is None else text)

    def rows(
        self, key: str, items: Sequence[Any], columns: Sequence[Column], name: str = "name"
    ) -> None:
        """A list: in JSON `{key: [...]}`, else a table; an empty one is said on standard error."""
        if self._query is not None:
            self._picked({key: list(items)})
        elif self.form == "json":
            self.line(self.json({key: list(items)}))
        elif self.form == "jsonl":
            for item in items:
                self.line(self.json(item))
        elif self.form == "name":
            for item in items:
                self.line(str(item[name]))
        elif items:
            self._table(items, columns)
        else:
            self.note(f"no {key}")

    def record(self, value: Any, text: str) -> None:
        """One item of a stream, shown at once."""
        if self._query is not None:
            self._picked(value)
        elif self.form in ("json", "jsonl"):
            self.line(self.json(value, pretty=False))
        else:
            self.line(text)
        self.stdout.flush()

    def json(self, value: Any, *, pretty: bool | None = None) -> str:
        """JSON text: indented for a person at a terminal, one line otherwise."""
        if pretty is None:
            pretty = self.form == "json" and self.stdout.isatty()
        return json.dumps(value, ensure_ascii=False, indent=2 if pretty else None, default=_plain)

    def line(self, text: str) -> None:
        try:
            self.stdout.write(text + "\n")
        except UnicodeEncodeError:
            encoding = self.stdout.encoding or "ascii"
            self.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")

    def _picked(self, value: Any) -> None:
        """What --query picks: text as it is and lists of text one a line, unless JSON is wanted."""
        assert self._query is not None
        picked = self._query.search(json.loads(json.dumps(value, default=_plain)))
        if self.form == "jsonl" and isinstance(picked, list):
            for item in picked:
                self.line(self.json(item))
        elif self.form in ("json", "jsonl"):
            self.line(self.json(picked))
        elif isinstance(picked, list) and all(isinstance(i, str | int | float) for i in picked):
            for item in picked:
                self.line(str(item))
        else:
            self.line(picked if isinstance(picked, str) else self.json(picked))

    def _table(self, items: Sequence[Any], columns: Sequence[Column]) -> None:
        shown = [c for c in columns if self.form == "wide" or not c[0].endswith("*")]
        cells = [[heading.rstrip("*") for heading, _ in shown]]
        cells += [[text(item) for _, text in shown] for item in items]
        widths = [max(_width(row[i]) for row in cells) for i in range(len(shown))]
        for number, row in enumerate(cells):
            padded = [
                cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
            ]
            text = "  ".join(padded).rstrip()
            self.line(self.paint(text, BOLD) if number == 0 else text)

    # -- words beside the result -----------------------------------------------------------------

    def note(self, text: str) -> None:
        """Progress, a hint, a warning."""
        try:
            self.stderr.write(text + "\n")
        except UnicodeEncodeError:
            self.stderr.write(text.encode("ascii", "replace").decode() + "\n")
        self.stderr.flush()

    def end_line(self) -> None:
        """After ^C on a terminal, so that the prompt begins on a line of its own."""
        if self.stderr.isatty():
            self.stderr.write("\n")

    def error(self, exc: PlatformError, trace: str) -> int:
        """What happened, what to do next, the trace id (cli: rule 6); the exit status."""
        if self.form in ("json", "jsonl"):
            body: dict[str, Any] = {
                "code": exc.code,
                "message": exc.message,
                "hint": exc.hint,
                "trace_id": trace,
                "retryable": exc.kind.retryable,
            }
            if exc.data:
                body["data"] = exc.data
            self.note(json.dumps({"error": body}, ensure_ascii=False, default=_plain))
            return int(exc.kind.exit_status)
        head = f"\x1b[{RED}merror:\x1b[0m" if self._colored_errors else "error:"
        self.note(f"{head} {exc.message} [{exc.code}]")
        for line in details(exc):
            self.note(f"  {line}")
        if exc.hint:
            self.note(f"  {exc.hint}")
        if trace:
            self.note(f"  trace {trace}")
        return int(exc.kind.exit_status)

    # -- words of a text -------------------------------------------------------------------------

    def paint(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self.colored else text

    def state(self, state: str) -> str:
        """A state with its mark; the word is always there."""
        mark, plain, color = _MARKS.get(state, _MARK_OTHERWISE)
        return self.paint(mark if self.unicode else plain, color) + " " + state


def details(exc: PlatformError) -> list[str]:
    """The parts of an error's data that a person should see: reasons per node, last log lines."""
    lines: list[str] = []
    reasons = exc.data.get("reasons")
    if isinstance(reasons, dict):
        lines += [f"{node}: {_joined(reason)}" for node, reason in reasons.items()]
    elif isinstance(reasons, list):
        lines += [str(reason) for reason in reasons]
    for key in ("log", "logs", "lines", "last_lines"):
        found = exc.data.get(key)
        if isinstance(found, list):
            lines += [f"| {_log_line(item)}" for item in found[-10:]]
        elif isinstance(found, str) and found:
            lines += [f"| {line}" for line in found.splitlines()[-10:]]
    return lines


def _joined(reason: object) -> str:
    return ", ".join(map(str, reason)) if isinstance(reason, list) else str(reason)


def _log_line(item: object) -> str:
    return str(item.get("message", item)) if isinstance(item, dict) else str(item)


def _width(text: str) -> int:
    """Columns on the screen, without colour sequences."""
    if "\x1b" not in text:
        return len(text)
    import re

    return len(re.sub(r"\x1b\[[0-9;]*m", "", text))


def _colored(choice: str, stream: TextIO) -> bool:
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _compile(query: str) -> Any:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.compile(query)
    except JMESPathError as exc:
        text = str(exc).splitlines()[0]
        raise PlatformError(
            "invalid", f"--query: {text}", hint="see: paas help formatting"
        ) from None


def _plain(value: object) -> object:
    """Binary data in JSON is base64, as in the API."""
    if isinstance(value, bytes | bytearray):
        import base64

        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")
