"""From words to an exit status: global options, help, unknown words, Ctrl-C, closed pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paas.base.errors import Exit, PlatformError
from paas.cli import commands, main, manual
from paas.cli.main import split_globals

ROOT = Path(__file__).resolve().parents[3]
PAAS = [sys.executable, "-m", "paas.cli"]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_global_options_stand_before_or_after_the_command():
    given, rest = split_globals(["-o", "json", "--state=/s", "ps", "-a"])
    assert given == {"output": "json", "state": "/s"}
    assert rest == ["ps", "-a"]
    assert split_globals(["-ojson", "ps"]) == ({"output": "json"}, ["ps"])


@pytest.mark.parametrize("words", [["-o"], ["-o", "yaml", "ps"], ["--color=sometimes"]])
def test_a_global_option_without_a_valid_value_is_refused(words):
    with pytest.raises(PlatformError, match="invalid"):
        split_globals(words)


def test_the_later_global_option_counts(run, tmp_path):
    assert json.loads(run("-o", "table", "version", "-o", "json").out)["version"]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_lists_every_command_that_is_not_hidden(run, words):
    done = run(*words)
    assert done.status == 0
    for row in commands.COMMANDS:
        assert (f"  {row.path} " in done.out) is not row.hidden


def test_help_of_a_command_begins_with_two_examples(run):
    for words in (["create", "--help"], ["help", "create"]):
        lines = run(*words).out.splitlines()
        assert lines[2] == "Examples"
        assert lines[3].startswith("  paas create")
        assert lines[4].startswith("  paas create")


def test_help_after_two_dashes_is_an_argument():
    assert main.asks_for_help(["x", "--help"])
    assert not main.asks_for_help(["x", "--", "--help"])


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["creat"], "did you mean 'paas create'?"),
        (["xyzzy"], "paas --help"),
        (["create", "x", "--cout", "3"], "did you mean --count?"),
        (["create"], "usage: paas create TYPE"),
        (["create", "x", "--count", "many"], "usage:"),
        (["call", "x", "y", "--timeout", "soon"], "usage:"),
        (["help", "nothing"], "topics:"),
        (["--nonsense"], "paas --help"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error_with_a_hint(run, words, hint):
    done = run(*words)
    assert done.status == Exit.USAGE
    assert done.out == ""
    assert hint in done.err


def test_a_usage_error_in_json_mode_is_json(run):
    for words in (["-o", "json", "creat"], ["create", "-ojson"], ["--output=json", "ps", "--x"]):
        assert json.loads(run(*words).err)["error"]["code"] == "invalid"


def test_a_command_without_a_cluster_is_unreachable_and_says_how_to_start_one(run, tmp_path):
    done = run("ps", "--state", str(tmp_path / "none"))
    assert done.status == Exit.UNREACHABLE
    assert "paas dev" in done.err


def test_our_own_fault_is_one_line_and_never_a_traceback(run, monkeypatch):
    def broken(session: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("paas.cli.topics.version", broken)
    done = run("version")
    assert done.status == Exit.INTERNAL
    assert "ZeroDivisionError: a bug" in done.err
    assert "Traceback" not in done.err
    monkeypatch.setenv("PAAS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("version")


def test_ctrl_c_ends_with_130(run, monkeypatch):
    def interrupted(session: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("paas.cli.topics.version", interrupted)
    assert run("version").status == Exit.INTERRUPTED


def test_a_reader_that_has_gone_ends_the_command_quietly():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*PAAS, "help"], stdout=write, stderr=subprocess.PIPE, env=ENV)
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == b""


def test_help_imports_neither_a_parser_nor_anything_heavy():
    code = (
        "import sys; from paas.cli.main import main; main(['--help']);"
        "heavy = {'trio','rich','cryptography','msgspec','msgpack','click','jmespath','asyncio'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everyday_commands_import_no_event_loop_and_no_certificate_library():
    code = (
        "import sys; from paas.cli import component, call, group, log, event, cluster, dev, down;"
        "from paas.cli import completion, doctor, api, context;"
        "heavy = {'trio','rich','cryptography','msgspec','asyncio'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_m_paas_cli_is_the_command():
    done = subprocess.run([*PAAS, "--help"], env=ENV, capture_output=True, text=True)
    assert done.stdout == manual.overview()
