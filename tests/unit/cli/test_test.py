"""`paas test`: the component's own tests run beside a copy of its sources and the SDK."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from paas.base.errors import Exit
from paas.cli.sdk_files import NODE, PYTHON, sdk_files

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("name", ["guestbook", *(["words"] if shutil.which("node") else [])])
def test_the_tests_of_an_example_pass(run, name):
    assert run("test", str(EXAMPLES / name)).status == 0
    assert not (EXAMPLES / name / PYTHON).exists()
    assert not (EXAMPLES / name / NODE).exists()


def test_one_file_with_unittest(run):
    file = EXAMPLES / "guestbook" / "test_guestbook.py"
    done = run("test", str(file), "--runner", "unittest")
    assert (done.status, done.out.strip()[-24:]) == (0, "passed: test_guestbook.py"[-24:])


def test_a_test_that_fails_is_the_exit_status(run, tmp_path):
    source = tmp_path / "book"
    shutil.copytree(EXAMPLES / "guestbook", source)
    (source / "test_guestbook.py").unlink()
    (source / "tests").mkdir()
    (source / "tests" / "test_wrong.py").write_text(
        "from paas_testing import Harness\n"
        "def test_it():\n"
        "    with Harness() as harness:\n"
        "        assert harness.call('read') == {'entries': ['none']}\n"
    )
    done = run("test", str(source))
    assert done.status == Exit.FAILED
    assert "failed" in done.out


def test_without_a_manifest_or_tests_it_says_so(run, tmp_path):
    assert run("test", str(tmp_path)).status == Exit.USAGE
    assert run("test", str(tmp_path / "nothing")).status == Exit.USAGE
    shutil.copy(EXAMPLES / "guestbook" / "component.toml", tmp_path)
    done = run("test", str(tmp_path))
    assert done.status == Exit.USAGE
    assert "there are no tests" in done.err


def test_no_tests_are_no_success(run, tmp_path):
    source = tmp_path / "book"
    shutil.copytree(EXAMPLES / "guestbook", source)
    (source / "test_guestbook.py").write_text("def test_it():\n    assert False\n")
    done = run("test", str(source), "--runner", "unittest")
    assert done.status == Exit.USAGE
    assert "no tests were found" in done.err
    done = run("test", str(source / "guestbook.py"))
    assert done.status == Exit.USAGE
    assert "no file of tests" in done.err


def test_an_interpreter_that_cannot_run_the_tests_is_named(run, tmp_path):
    for runner in ([], ["--runner", "pytest"], ["--runner", "unittest"]):
        no_python = str(tmp_path / "python")
        done = run("test", str(EXAMPLES / "guestbook"), "--python", no_python, *runner)
        assert done.status == Exit.USAGE
        assert f"cannot run {no_python}" in done.err
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    done = run("test", str(EXAMPLES / "guestbook"), "--python", str(bare), "--runner", "pytest")
    assert done.status == Exit.USAGE
    assert "has no pytest" in done.err


def test_each_language_has_one_file():
    assert list(sdk_files("python")) == [PYTHON]
    assert list(sdk_files("node")) == [NODE]
    assert sdk_files("") == {}
