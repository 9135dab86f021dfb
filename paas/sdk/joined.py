"""The Python SDK as one file: `source()` is the text of `paas_component.py` in bundles.

The chapters in `python/` import each other here; in the one file they follow each other in an order
in which nothing is used before it is there, and their imports of the standard library are gathered
at its beginning; what is for type checkers only is left out.  The chapters of asyncio and trio are
there as text that is compiled, with the line numbers it has in the file, when one of them is first
used: most programs use threads, and start sooner.

Runs from Python 3.9 on, without the platform.
"""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHAPTERS = ("wire", "values", "api", "events", "core", "threads")
LATER = ("awaiting", "aio", "nursery")
EXPORTED = (
    *("AsyncComponent", "Attachment", "Call", "Component", "ComponentError", "Pending", "Result"),
    *("TrioComponent", "Watch", "operation"),
)
OWN = "paas.sdk"

_LATER = """

def __getattr__(name: str) -> object:
    if name in ("AsyncComponent", "TrioComponent") and name not in globals():
        text = "\\n" * (_LATER_LINE - 1) + _LATER
        exec(compile(text, globals().get("__file__", "paas_component.py"), "exec"), globals())
        return globals()[name]
    raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}")


_LATER_LINE = {line}
_LATER = r'''{text}'''
"""


def source() -> str:
    """The whole file."""
    title = ast.get_docstring(ast.parse((HERE / "paas_component.py").read_text()), clean=False)
    exported = "".join(f'    "{name}",\n' for name in sorted(EXPORTED))
    head = (
        f'"""{title}"""\n\n'
        "# Made of the chapters in paas/sdk/python of the platform; changes belong there.\n"
        f"# ruff: noqa\n\n{{imports}}\n__all__ = [\n{exported}]\n"
    )
    text = _joined(head, CHAPTERS)
    later = _joined("{imports}", LATER)
    if "'''" in later:
        raise ValueError("a chapter that is compiled later must not contain '''")
    before = text + _LATER[: _LATER.index("{text}")]
    line = before.count("\n") + 1
    return text + _LATER.format(line=line, text=later)


def _joined(head: str, names: tuple[str, ...]) -> str:
    imports: dict[str, None] = {}
    bodies = [_chapter(name, imports) for name in names]
    plain = sorted(line for line in imports if line.startswith("import "))
    taken = sorted(line for line in imports if line.startswith("from "))
    lines = ["from __future__ import annotations", "", *plain, *taken, ""]
    return head.replace("{imports}", "\n".join(lines)) + "".join(bodies)


def _chapter(name: str, imports: dict[str, None]) -> str:
    """What a chapter has after its imports, which are put with the others."""
    text = (HERE / "python" / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    last = 0
    for node in tree.body:
        if isinstance(node, ast.Import):
            imports.update((f"import {alias.name}", None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if not module.startswith(OWN) and module != "__future__":
                imports.update((f"from {module} import {a.name}", None) for a in node.names)
        elif not _is_for_checkers(node):
            continue
        last = node.end_lineno or node.lineno
    body = "\n".join(text.splitlines()[last:]).strip("\n")
    said = (ast.get_docstring(tree) or "").splitlines()
    theory = "\n".join(f"# {line}".rstrip() for line in said)
    rule = f"# -- {name} ".ljust(100, "-")
    return f"\n\n{rule}\n#\n{theory}\n\n\n{body}\n"


def _is_for_checkers(node: ast.stmt) -> bool:
    """`TYPE_CHECKING = False`, or what follows from it."""
    if isinstance(node, ast.Assign):
        named: object = node.targets[0]
    else:
        named = node.test if isinstance(node, ast.If) else None
    return isinstance(named, ast.Name) and named.id == "TYPE_CHECKING"
