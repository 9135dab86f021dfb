"""`python -m paas.cli.reference`: the reference pages, from the tables that the code runs on (io).

    messages.md    the register of messages    errors.md    the catalogue of errors
    lifecycles.md  every life-cycle table      settings.md  settings, environment variables
    cli.md         the table of commands       files.md     every module, and what it is about

A page is never edited by hand; a test compares what is there with what would be written.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import paas
from paas.base.errors import CATALOGUE
from paas.base.fsm import Table
from paas.cli import manual, topics
from paas.cli.commands import COMMANDS
from paas.cli.rows import GLOBAL_OPTIONS, SECTIONS
from paas.wire.registry import BY_NUMBER, Message, Params

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
_NOTE = "<!-- Made by `python -m paas.cli.reference`; do not edit. -->\n"
_COMMON = {field.name for field in msgspec.structs.fields(Params)}


def load(*names: str) -> list[Any]:
    """The modules of these names in every package, in a fixed order."""
    root = list(paas.__path__)
    infos = pkgutil.walk_packages(root, "paas.")
    last = {info.name: info.name.rpartition(".")[2] for info in infos}
    wanted = [name for name, end in last.items() if end in names or end.split("_")[-1] in names]
    found = [importlib.import_module(name) for name in wanted]
    return sorted(found, key=lambda module: str(module.__name__))


def _method_modules() -> None:
    """Import all that declare messages, wherever they stand."""
    load("messages", "methods", "resources")


def _of_tests(params: type[Any]) -> bool:
    """Programs for tests have methods of their own, known where they have been imported."""
    module = params.__module__
    return not module.startswith("paas.") or module.startswith("paas.testing")


def messages() -> str:
    _method_modules()
    lines = [
        "# Messages",
        "",
        "Every method of every channel. *Public* ones belong to the component API: components,",
        "operators and programs outside may call them. Every request may also carry `timeout`",
        "(seconds), `deadline` (Unix time) and `trace` (W3C traceparent).",
        "",
    ]
    for number in sorted(BY_NUMBER):
        method = BY_NUMBER[number]
        if _of_tests(method.params):
            continue
        kind = "public" if method.public else "internal"
        lines += [
            f"## {method.name}",
            "",
            f"Number {number}, {kind}.",
            "",
            _text(method.params),
            "",
        ]
        lines += _fields("Parameters", method.params, _COMMON)
        lines += _fields("Result", method.result, set())
        text = _text(method.result)
        if text:
            lines += [text, ""]
    return "\n".join(lines)


def _fields(title: str, kind: type[Message], without: set[str]) -> list[str]:
    shown = [f for f in msgspec.structs.fields(kind) if f.encode_name not in without]
    if not shown:
        return []
    lines = [f"| {title} | type | default |", "|---|---|---|"]
    for field in shown:
        default = "required" if field.required else f"`{_default(field)}`"
        lines.append(f"| `{field.encode_name}` | `{_type(field.type)}` | {default} |")
    return [*lines, ""]


def _default(field: Any) -> str:
    value = field.default
    if value is msgspec.UNSET:
        return "left out"
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if isinstance(value, msgspec.Raw):
        value = msgspec.msgpack.decode(value)
    return repr(value)


def _type(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    for prefix in ("typing.", "msgspec._core.", "msgspec."):
        text = text.replace(prefix, "")
    for sign in "[],":
        text = text.replace(sign, f" {sign} ")
    words = [w.rpartition(".")[2] if w.startswith("paas.") else w for w in text.split(" ")]
    joined = " ".join(w for w in words if w)
    for before, after in ((" [ ", "["), (" ]", "]"), (" , ", ", "), ("NoneType", "None")):
        joined = joined.replace(before, after)
    return joined.replace(" | UnsetType", "").replace("|", "\\|").replace("Raw", "any value")


def _text(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def lifecycles() -> str:
    tables: dict[str, tuple[str, Table[Any, Any]]] = {}
    for module in load("lifecycle", "supervisor", "supervision"):
        for value in vars(module).values():
            if isinstance(value, Table):
                tables.setdefault(value.name, (module.__name__, value))
    lines = [
        "# Life-cycles",
        "",
        "States, events and the moves they allow. A move that is not drawn is refused.",
        "",
    ]
    for name in sorted(tables):
        module, table = tables[name]
        lines += [f"## {name}", "", f"Declared in `{module}`.", ""]
        lines += ["```mermaid", table.mermaid(), "```", ""]
        lines += ["| state | event | next state |", "|---|---|---|"]
        lines += [f"| `{s}` | `{e}` | `{t}` |" for s, e, t in table.walk()]
        final = [f"`{s}`" for s in table.states if table.final(s)]
        lines += ["", f"Final: {', '.join(final) or 'none'}.", ""]
    return "\n".join(lines)


def errors() -> str:
    lines = [
        "# Errors",
        "",
        "Every error has a code, a message for people and a hint what to do. The exit status is",
        "that of the command line. *Retryable*: the same request may succeed later.",
        "",
    ]
    for kind in CATALOGUE.values():
        again = "Retryable." if kind.retryable else "Not retryable."
        lines += [f"## {kind.code}", "", f"{kind.text[0].upper()}{kind.text[1:]}.", ""]
        lines += [f"Exit status {int(kind.exit_status)}. {again} Hint: {kind.hint}.", ""]
    return "\n".join(lines)


def settings() -> str:
    lines = [
        "# Settings",
        "",
        "## Environment of the command line",
        "",
        "| variable | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {text} |" for name, text in topics.ENVIRONMENT.items()]
    lines += [
        "",
        "## Environment of a component",
        "",
        "| variable | meaning |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in topics.COMPONENT_ENVIRONMENT.items()),
        "",
    ]
    for module in load("settings"):
        if module.__name__ == "paas.base.settings":
            continue  # the mechanism, not settings
        for name, value in sorted(vars(module).items()):
            if getattr(value, "__module__", "") != module.__name__ or not isinstance(value, type):
                continue
            rows = _setting_rows(value)
            if rows:
                lines += [f"## {module.__name__}.{name}", "", _text(value), ""]
                lines += ["| setting | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _setting_rows(kind: type) -> list[str]:
    texts = _attribute_texts(kind)
    rows = []
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            default = "required"
            if field.default is not dataclasses.MISSING:
                default = f"`{field.default!r}`"
            elif field.default_factory is not dataclasses.MISSING:
                default = f"`{field.default_factory()!r}`"
            rows.append(_row(field.name, field.type, default, texts))
    elif issubclass(kind, msgspec.Struct):
        for entry in msgspec.structs.fields(kind):
            default = "required" if entry.required else f"`{_default(entry)}`"
            rows.append(_row(entry.name, entry.type, default, texts))
    return rows


def _row(name: str, kind: Any, default: str, texts: dict[str, str]) -> str:
    return f"| `{name}` | `{_type(kind)}` | {default} | {texts.get(name, '')} |"


def _attribute_texts(kind: type) -> dict[str, str]:
    """The strings that stand below attributes in the source."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            texts[statement.target.id] = " ".join(str(following.value.value).split())
    return texts


def cli() -> str:
    lines = [
        "# The command line",
        "",
        "Every command accepts, before and after its name:",
        "",
        "```text",
    ]
    lines += [*manual.option_lines(GLOBAL_OPTIONS), "```", ""]
    for section in SECTIONS:
        lines += [f"## {section}", ""]
        for row in COMMANDS:
            if row.section == section and not row.hidden:
                page = manual.page(row).partition("\nEverywhere\n")[0].rstrip()
                lines += [f"### paas {row.path}", "", "```text", page, "```", ""]
    lines += ["## Exit statuses", "", "```text", topics.exit_codes().rstrip(), "```", ""]
    lines += ["## Formats", "", "```text", topics.FORMATTING.rstrip(), "```", ""]
    lines += ["## Addressing", "", "```text", topics.ADDRESSING.rstrip(), "```", ""]
    return "\n".join(lines)


def files() -> str:
    """Every module below the package, by folder, with the first sentence of its text."""
    root = Path(__file__).resolve().parents[1]
    lines = [
        "# Files",
        "",
        "Every module with the first sentence of its own text. By behaviour: [the",
        "architecture](../architecture.md).",
        "",
    ]
    folder: Path | None = None
    for file in sorted(root.rglob("*.py"), key=lambda f: (f.parent, f.name)):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        first = " ".join(text.split("\n\n")[0].split())
        if file.parent != folder:
            folder = file.parent
            lines += ["", f"## {folder.relative_to(root.parent)}", ""]
        name = file.relative_to(root.parent)
        lines.append(f"- [`{file.name}`](../../{name}) {first}".rstrip())
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "messages.md": messages,
    "lifecycles.md": lifecycles,
    "errors.md": errors,
    "settings.md": settings,
    "cli.md": cli,
    "files.md": files,
}


def page(name: str) -> str:
    """The whole text of one page."""
    return _NOTE + PAGES[name]().rstrip() + "\n"


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(page(name), encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
