"""The source tree as the tidy tests see it: every module parsed once, with what it imports.

The rules themselves are in the test files beside this one.  Each rule is a function from source to
findings, and is itself tested on a planted violation: a rule that finds nothing proves nothing.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUT_OF_TREE = {".venv", ".git", "__pycache__", "node_modules", "vendor", "build", "dist"}


@dataclass(frozen=True)
class Import:
    """One imported name: `module` is absolute, `name` what `from module import name` takes."""

    module: str
    name: str
    line: int


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: str
    text: str

    @property
    def module(self) -> str:
        dotted = self.path.removesuffix(".py").replace("/", ".")
        return dotted.removesuffix(".__init__")

    @property
    def package(self) -> str:
        """`paas/hub/x.py` -> `hub`; modules of paas itself -> ``."""
        parts = self.path.split("/")
        return parts[1] if len(parts) > 2 else ""

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All of the tree, which is walked once for all rules."""
        return tuple(ast.walk(self.tree))

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(self._imports())

    def _imports(self) -> Iterator[Import]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, "", node.lineno)
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if node.level:
                    parts = self.module.split(".")
                    keep = len(parts) - node.level + (1 if self.path.endswith("__init__.py") else 0)
                    module = ".".join([*parts[:keep], *([module] if module else [])])
                for alias in node.names:
                    yield Import(module, alias.name, node.lineno)

    @staticmethod
    def called(node: ast.expr) -> str:
        """How it is written, as `a.b.c`; quickly for names, which nearly all of them are."""
        names = []
        inner = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            return ast.unparse(node)
        return ".".join([inner.id, *reversed(names)])


@functools.cache
def _file(path: Path) -> Source:
    return Source(path.relative_to(ROOT).as_posix(), path.read_text())


def _read(*folders: str) -> list[Source]:
    return [
        _file(path)
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not OUT_OF_TREE & set(path.relative_to(ROOT).parts)
    ]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Source]:
    """Everything in `paas`."""
    return _read("paas")


@pytest.fixture(scope="session")
def scripts() -> list[Source]:
    """All Python that is ours, with tests, examples and benchmarks."""
    return _read("paas", "tests", "examples", "bench")


@pytest.fixture(scope="session")
def source() -> type[Source]:
    """To build a planted file in a test."""
    return Source
