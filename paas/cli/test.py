"""`paas test DIR|FILE`: run a component's own tests, without a cluster (io).

    sources ── copied, with the SDK's file and `paas_testing.py` ── tests run there

Tests are files `test_*.py` (or `*_test.py`) beside the program or in `tests/`; they start it with
`paas_testing.Harness`.  They run with pytest where it is installed for the interpreter, else with
unittest.  The exit status is 0 only if there were tests and all passed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from paas.base.errors import Exit, PlatformError
from paas.bundle.build import read_manifest
from paas.bundle.limits import MANIFEST_NAME
from paas.cli.push import with_files
from paas.cli.sdk_files import TESTING, sdk_files, testing_file
from paas.cli.session import Session

PATTERNS = ("test_*.py", "*_test.py")
NO_TESTS = 5
"""Exit status of pytest when it found no tests; before Python 3.12 unittest has none for that."""

_LOOK = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pytest') is None)"
UNITTEST = f"""
import sys, unittest
done = unittest.main(module=None, argv=["unittest", "-v", *sys.argv[1:]], exit=False).result
sys.exit({NO_TESTS} if not done.testsRun else not done.wasSuccessful())
"""


def test(session: Session, *, path: str | None, python: str, runner: str | None) -> int:
    """The tests' own output, and whether they passed."""
    given = Path(path or ".").resolve()
    if not given.exists():
        raise PlatformError("invalid", f"{given}: there is nothing")
    source = _source_of(given)
    component = read_manifest(source).component
    python = python or sys.executable
    tests = [_test_file(given, source)] if given.is_file() else _tests_of(source)
    run = _runner(runner, python)
    with tempfile.TemporaryDirectory(prefix="paas-test-") as folder:
        files = {**sdk_files(component.sdk), TESTING: testing_file()}
        missing = {name: text for name, text in files.items() if not (source / name).exists()}
        copy = with_files(source, Path(folder) / "source", missing)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(copy), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PAAS_TEST_COMMAND": json.dumps(component.command),
        }
        words = [python, *run, *(str(name) for name in tests)]
        done = _run(words, copy, environment)
    passed = done.returncode == 0
    names = ", ".join(str(name) for name in tests)
    if done.returncode == NO_TESTS:
        raise PlatformError(
            "invalid",
            f"{names}: no tests were found",
            hint="functions test_* need pytest, unittest wants classes of TestCase",
        )
    text = f"{session.output.state('passed' if passed else 'failed')}: {names}"
    session.output.value({"passed": passed, "files": [str(n) for n in tests]}, text, [])
    return Exit.DONE if passed else Exit.FAILED


def _source_of(given: Path) -> Path:
    """The directory with the manifest: this one, or the nearest above a file of tests."""
    for folder in [given] if given.is_dir() else given.parents:
        if (folder / MANIFEST_NAME).is_file():
            return folder
    raise PlatformError(
        "invalid",
        f"{given}: there is no {MANIFEST_NAME} here or above",
        hint="name the directory of a component",
    )


def _run(
    words: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(words, cwd=folder, env=environment, check=False)
    except OSError as exc:
        text = f"python: cannot run {words[0]}: {exc.strerror}"
        raise PlatformError("invalid", text) from None


def _test_file(given: Path, source: Path) -> Path:
    if not any(given.match(pattern) for pattern in PATTERNS):
        raise PlatformError(
            "invalid", f"{given}: this is no file of tests", hint="tests are called test_*.py"
        )
    return given.relative_to(source)


def _tests_of(source: Path) -> list[Path]:
    found = {
        file.relative_to(source)
        for folder in (source, source / "tests")
        for pattern in PATTERNS
        for file in folder.glob(pattern)
        if file.is_file()
    }
    if not found:
        raise PlatformError(
            "invalid", f"{source}: there are no tests", hint="write test_*.py beside the program"
        )
    return sorted(found)


def _runner(wanted: str | None, python: str) -> list[str]:
    """How the interpreter runs tests."""
    if wanted != "unittest":
        has_pytest = _has_pytest(python)
        if wanted == "pytest" and not has_pytest:
            raise PlatformError("invalid", f"{python} has no pytest", hint="use: --runner unittest")
        wanted = "pytest" if has_pytest else "unittest"
    if wanted == "pytest":
        return ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    return ["-c", UNITTEST]


def _has_pytest(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("pytest") is not None
    return _run([python, "-c", _LOOK], Path.cwd(), {**os.environ}).returncode == 0
