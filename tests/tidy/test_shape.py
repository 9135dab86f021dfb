"""The shape of files: length, documentation, names; no file that nobody uses."""

from __future__ import annotations

import ast
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

FUNCTION_LINES_MAX = 70
FILE_LINES_WARN = 400
FILE_LINES_MAX = 600

# A package's __init__.py holds its docstring and nothing else, but for these.
INIT_WITH_CODE = {
    "paas/__init__.py": "the version",
    "paas/container/hooks/__init__.py": "the order of the hooks",
}

# Modules that nothing imports, with the reason; folders end with a slash.
UNUSED_ALLOWED = {
    "paas/base/lifecycle.py": "the shared tables; printed in the reference documentation",
    "paas/telemetry/names.py": "read by the reference documentation and by test_documents.py",
    "paas/telemetry/metrics.py": "offered to every agent",
    "paas/sdk/": "copied into bundles, imported by components",
    "paas/testing/": "imported by tests, also of users",
    "paas/sim/": "imported by tests",
}


def length_findings(module: Any) -> list[str]:
    """Functions that are too long to be understood at once."""
    functions = (
        node for node in module.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [
        f"{module.path}:{f.lineno}: {f.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
        for f in functions
        if (lines := (f.end_lineno or f.lineno) - f.lineno + 1) > FUNCTION_LINES_MAX
    ]


def imported_modules(modules: list[Any]) -> set[str]:
    """Every module that is imported, or named as a whole (`-m paas.x`, importlib)."""
    known = {module.module for module in modules}
    used: set[str] = set()
    for module in modules:
        names = {i.module for i in module.imports}
        names |= {f"{i.module}.{i.name}" for i in module.imports}
        for node in module.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)
                # `module:function`; the command table names modules of its own package.
                module_name = node.value.partition(":")[0]
                names |= {module_name, f"paas.cli.{module_name}"}
        used |= (names & known) - {module.module}
    return used


def test_functions_are_short(scripts: list[Any]) -> None:
    found = [text for script in scripts for text in length_findings(script)]
    assert not found, "\n" + "\n".join(found)


def test_files_are_short(scripts: list[Any]) -> None:
    lengths = {script.path: script.text.count("\n") for script in scripts}
    for path, lines in lengths.items():
        if FILE_LINES_WARN < lines <= FILE_LINES_MAX and path.startswith("paas/"):
            warnings.warn(f"{path} has {lines} lines: think of splitting it", stacklevel=1)
    found = [f"{path}: {n} lines" for path, n in lengths.items() if n > FILE_LINES_MAX]
    assert not found, "\n" + "\n".join(found)


def test_every_module_opens_with_its_docstring(modules: list[Any]) -> None:
    found = [m.path for m in modules if not ast.get_docstring(m.tree)]
    assert not found, "\n" + "\n".join(found)


def test_every_package_has_a_docstring_and_nothing_else(root: Path, modules: list[Any]) -> None:
    paths = {module.path: module for module in modules}
    folders = {str(Path(path).parent) for path in paths}
    found = [
        f"{folder}: no __init__.py" for folder in folders if f"{folder}/__init__.py" not in paths
    ]
    for path, module in paths.items():
        if path.endswith("__init__.py") and path not in INIT_WITH_CODE:
            body = [n for n in module.tree.body if not isinstance(n, ast.Expr)]
            if body or len(module.tree.body) != 1:
                found.append(f"{path}: holds code, or no docstring")
    assert not found, "\n" + "\n".join(found)


def test_no_module_is_called_like_one_of_the_standard_library_at_top_level(
    modules: list[Any],
) -> None:
    packages = {module.package for module in modules}
    assert not packages & sys.stdlib_module_names


def test_every_module_is_used(root: Path, modules: list[Any]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    entries = {target.split(":")[0] for target in project["scripts"].values()}
    used = imported_modules(modules) | entries
    found = [
        module.path
        for module in modules
        if module.module not in used
        and not module.path.endswith(("__init__.py", "__main__.py", "paas/cli/reference.py"))
        and not module.path.startswith(tuple(UNUSED_ALLOWED))
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_exception_for_unused_modules_is_still_needed(modules: list[Any]) -> None:
    files = {path for path in UNUSED_ALLOWED if not path.endswith("/")}
    used = imported_modules(modules)
    assert not {m.path for m in modules if m.module in used} & files, "take it off the list"
    assert not files - {m.path for m in modules}


def test_a_long_function_is_found(source: Any) -> None:
    text = "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX
    assert len(length_findings(source("paas/x.py", text))) == 1
    assert length_findings(source("paas/x.py", text.replace("    pass\n", "", 1))) == []


@pytest.mark.parametrize(
    "text",
    [
        "from paas.a import b",
        "import paas.a.b",
        "from .a import b",
        "from paas.a.b import thing",
        "ARGUMENTS = ['-m', 'paas.a.b']",
    ],
)
def test_uses_of_a_module_are_seen(source: Any, text: str) -> None:
    user, used = source("paas/user.py", text), source("paas/a/b.py", "")
    assert "paas.a.b" in imported_modules([user, used])


def test_a_module_does_not_use_itself(source: Any) -> None:
    assert imported_modules([source("paas/a.py", "import paas.a")]) == set()
