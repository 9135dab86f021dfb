"""A program of ours as a folder: its modules, and the installed packages that they import (io).

    entry module ──imports, read not run──> modules of ours ──> packages of others, with what they
    require, as they are installed here ──> one folder

Only what the entry can import is in it.  Built packages are for the interpreter that they are
installed for: what runs them must be of the same version.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from paas.base.errors import PlatformError
from paas.bundle import egress

OWN = "paas"

_LEFT_OUT = re.compile(r"(^|/)(_?tests?|testing|__pycache__|docs)(/|$)|\.(pyc|pyi|pxd|h|c)$")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?[^;]*(;.*)?$")


def new_folder(directory: Path) -> None:
    """Make it.  Raises `conflict` when there is something in it."""
    if directory.exists() and any(directory.iterdir()):
        raise PlatformError(
            "conflict",
            f"{directory} is not empty",
            hint="name a new folder, or empty this one first",
        )
    directory.mkdir(parents=True, exist_ok=True)


def egress_section(allow: Sequence[str]) -> str:
    """The section of a manifest that lets these be reached (egress.py).  Raises `invalid`."""
    for entry in allow:
        try:
            egress.parse(entry)
        except ValueError as exc:
            raise PlatformError("invalid", f"allow: {exc}", field="allow") from None
    return f"[egress]\nallow = {json.dumps(list(allow))}\n"


def collect(entry: str, directory: Path, *, more: Iterable[str] = ()) -> None:
    """Copy what module `entry` imports into the folder; `more` distributions by name."""
    modules = own_modules(entry)
    for source in modules.values():
        target = directory / source.relative_to(_root())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for distribution in closure([*packages(modules.values()), *more]):
        _copy(distribution, directory)


def _root() -> Path:
    """The folder that our package is in."""
    return Path(__file__).resolve().parents[2]


def own_modules(entry: str) -> dict[str, Path]:
    """The modules of ours that this one imports, directly or not, with the packages they are in."""
    found: dict[str, Path] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _source(name)
        if path is None:
            continue
        found[name] = path
        parts = name.split(".")
        waiting += [".".join(parts[:end]) for end in range(1, len(parts))]
        for imported in imports(path):
            if imported.split(".")[0] == OWN:
                waiting.append(imported)
    return dict(sorted(found.items()))


def _source(name: str) -> Path | None:
    """The file of a module of ours; None for a name that is something within a module."""
    base = _root().joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def imports(path: Path) -> Iterator[str]:
    """Names that a file imports; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(sources: Iterable[Path]) -> set[str]:
    """Distributions whose packages these files import."""
    by_package = metadata.packages_distributions()
    names = {name.split(".")[0] for path in sources for name in imports(path)}
    names -= {OWN, *sys.stdlib_module_names}
    return {by_package[name][0] for name in names if name in by_package}


def closure(names: Iterable[str]) -> list[metadata.Distribution]:
    """These distributions and what they require here."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            found[key] = distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system or version
        for requirement in distribution.requires or ():
            match = _REQUIREMENT.match(requirement)
            if match and "extra" not in (match[2] or ""):
                waiting.append(match[1])
    return [found[key] for key in sorted(found)]


def _copy(distribution: metadata.Distribution, directory: Path) -> None:
    for file in distribution.files or ():
        text = file.as_posix()
        if text.startswith("..") or ".dist-info/" in text or _LEFT_OUT.search(text):
            continue
        source = Path(str(file.locate()))
        if not source.is_file():
            continue
        target = directory / text
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
