"""The one file that bundles get, made of chapters; with other interpreters, where there are any."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paas.sdk.joined import CHAPTERS, EXPORTED, HERE, LATER, source
from paas.sdk.paas_testing import Harness

NAMES = ("python3.9", "python3.10", "python3.12", "python3.13")
PROGRAM = """
import asyncio
from paas_component import AsyncComponent, Component

kind = {kind}
component = kind()
component.operation("ask")(lambda inputs, call: component.call("x", "y", inputs))
asyncio.run(component.run()) if kind is AsyncComponent else component.run()
"""


def interpreters() -> list[str]:
    """This one, and others that really run (a name alone may be a shim of nothing)."""
    found = [sys.executable]
    for name in NAMES:
        path = shutil.which(name)
        if (
            path
            and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            found.append(path)
    return found


def names_of(tree: ast.Module) -> list[str]:
    found = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [t.id for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
    return found


def test_no_two_chapters_have_the_same_name_for_something() -> None:
    names = [
        name
        for chapter in (*CHAPTERS, *LATER)
        for name in names_of(ast.parse((HERE / "python" / f"{chapter}.py").read_text()))
        if name != "TYPE_CHECKING"
    ]
    assert sorted(names) == sorted(set(names))


def test_it_is_the_same_each_time_and_needs_nothing_of_the_platform(tmp_path: Path) -> None:
    assert source() == source()
    assert "paas.sdk" not in source()
    (tmp_path / "paas_component.py").write_text(source())
    code = "import paas_component as p; [getattr(p, n) for n in p.__all__]; print(p.__all__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:] = ['.', *sys.path]; {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(done.stdout) == sorted(EXPORTED)


def test_chapters_that_are_compiled_later_have_their_lines_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "paas_component.py").write_text(source())
    lines = source().splitlines()
    code = (
        "import paas_component as p; print(p.TrioComponent.run.__code__.co_firstlineno,"
        " p.AsyncComponent._flush.__code__.co_firstlineno)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    run, flush = (int(word) for word in done.stdout.split())
    assert lines[run - 1].strip() == "async def run(self) -> None:"
    assert lines[flush - 1].strip() == "def _flush(self) -> None:"


def test_an_unknown_name_is_an_ordinary_error() -> None:
    from paas.sdk import paas_component

    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = paas_component.Nothing


@pytest.mark.parametrize("kind", ["Component", "AsyncComponent"])
@pytest.mark.parametrize("python", interpreters())
def test_it_runs_with_this_interpreter(tmp_path: Path, python: str, kind: str) -> None:
    (tmp_path / "paas_component.py").write_text(source())
    (tmp_path / "program.py").write_text(PROGRAM.format(kind=kind))
    with Harness([python, "program.py"], directory=str(tmp_path)) as harness:
        pending: Any = [harness.begin("ask", {"n": n}) for n in range(3)]
        for _ in pending:
            asked = harness.expect("hub.call", target="x")
            asked.answer({"outputs": asked.params["inputs"], "component": "x"})
        assert [one.result() for one in pending] == [{"n": n} for n in range(3)]
        assert harness.terminate()["accepted"] is True
        assert harness.wait() == 0, harness.output
