"""The modules of the feeds example, each component's by itself: `part("fetcher").throttle`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "feeds"
_loaded: dict[tuple[str, str], ModuleType] = {}


class Part:
    """Modules of one component, imported at first use.

    Components have modules of the same names, so none of them stays among those that Python knows.
    """

    def __init__(self, role: str) -> None:
        self._folder = EXAMPLE / role
        self._role = role

    def __getattr__(self, name: str) -> Any:
        key = (self._role, name)
        if key not in _loaded:
            _loaded.update(self._load(name))
        return _loaded[key]

    def _load(self, name: str) -> dict[tuple[str, str], ModuleType]:
        ours = {path.stem for path in self._folder.glob("*.py")}
        wheels = [str(path) for path in sorted((self._folder / "vendor").glob("*.whl"))]
        hidden = {word: sys.modules.pop(word) for word in ours if word in sys.modules}
        known = {word: module for (role, word), module in _loaded.items() if role == self._role}
        sys.modules.update(known)
        sys.path[:0] = [str(self._folder), *wheels]
        try:
            importlib.import_module(name)
            return {(self._role, word): sys.modules[word] for word in ours if word in sys.modules}
        finally:
            for word in [str(self._folder), *wheels]:
                sys.path.remove(word)
            for word in ours:
                sys.modules.pop(word, None)
            sys.modules.update(hidden)


@pytest.fixture(scope="session")
def part() -> Callable[[str], Part]:
    return Part


@pytest.fixture(scope="session")
def example() -> Path:
    return EXAMPLE


@pytest.fixture(scope="session")
def documents(part: Callable[[str], Part]) -> dict[str, bytes]:
    """All documents of the corpus."""
    found: dict[str, bytes] = part("origin").corpus.load().documents
    return found
