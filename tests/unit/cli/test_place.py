"""Which cluster is meant, contexts, completion, init, doctor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paas.base.errors import Exit, PlatformError
from paas.cli import completion, place


def test_flag_then_variable_then_context_then_default(run, places, monkeypatch):
    run("context", "add", "lab", "--directory", "/srv/lab")
    run("context", "add", "try", "--directory", "/srv/try", "--use")
    assert place.state_directory(None, None) == Path("/srv/try")
    assert place.state_directory(None, "lab") == Path("/srv/lab")
    monkeypatch.setenv("PAAS_CONTEXT", "lab")
    assert place.state_directory(None, None) == Path("/srv/lab")
    monkeypatch.setenv("PAAS_STATE", "/srv/variable")
    assert place.state_directory(None, None) == Path("/srv/variable")
    assert place.state_directory(None, "lab") == Path("/srv/lab")
    assert place.state_directory("/srv/flag", "lab") == Path("/srv/flag")


def test_the_default_is_below_var_lib_for_root_and_below_home_for_others(places, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert place.state_directory(None, None) == Path("/var/lib/paas/dev")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert place.state_directory(None, None) == places / "state" / "paas" / "dev"


def test_contexts_are_added_listed_used_and_removed(run):
    assert run("context", "-o", "json").json() == {"contexts": []}
    run("context", "add", "lab", "--directory", "/srv/lab")
    assert run("context", "use", "lab").status == 0
    assert run("context", "-o", "json").json()["contexts"] == [
        {"name": "lab", "state": "/srv/lab", "current": True}
    ]
    assert run("context", "add", "lab", "--directory", "/other").status == Exit.CONFLICT
    assert run("context", "use", "-").status == 0
    assert run("context", "remove", "lab").status == 0
    for words in (
        ["context", "use", "lab"],
        ["context", "remove", "lab"],
        ["context", "add", "A b"],
    ):
        assert run(*words).status == Exit.USAGE
    assert run("--context", "nowhere", "ps").status == Exit.USAGE


def test_an_unreadable_contexts_file_is_named(run, places):
    file = places / "config" / "paas" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("current = [")
    done = run("context")
    assert done.status == Exit.USAGE
    assert str(file) in done.err


def test_a_broken_cluster_file_is_corrupt(tmp_path):
    (tmp_path / "cluster.json").write_text("[]")
    with pytest.raises(PlatformError, match="corrupt"):
        place.read_cluster(tmp_path)
    assert place.read_cluster(tmp_path / "none") is None


def test_a_cluster_that_does_not_run_is_unreachable(run, state):
    done = run("ps", "--state", str(state))
    assert done.status == Exit.UNREACHABLE
    assert "does not run" in done.err


@pytest.mark.parametrize(
    ("before", "current", "expected"),
    [
        ([], "cr", ["create"]),
        (["context"], "u", ["use"]),
        (["create"], "--no", ["--no-wait", "--node"]),
        (["ps", "-o"], "j", ["json", "jsonl"]),
        (["logs", "--level"], "w", ["warning"]),
        ([], "agent", []),
    ],
)
def test_completion_from_the_table(before, current, expected):
    assert completion.candidates(before, current) == expected


def test_completion_of_live_names_and_their_cache(paas, hub, places):
    hub.add_type("hello")
    hub.add_component("hello@1.0.0", "one", ("g",))
    assert paas("complete", "--", "call", "on").out == "one\n"
    assert paas("complete", "--", "call", "group:").out == "group:g\n"
    assert paas("complete", "--", "create", "").out == "hello\n"
    asked = len(hub.requests)
    assert paas("complete", "--", "groups", "").out == "g\n"
    assert len(hub.requests) == asked, "the second question is answered from the cache"
    assert paas("complete", "--", "help", "exit").out == "exit-codes\n"


def test_completion_without_a_cluster_is_empty_and_no_error(run, tmp_path):
    done = run("--state", str(tmp_path), "complete", "--", "call", "o")
    assert (done.status, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_for_each_shell(run, shell):
    assert "paas complete" in run("completion", shell).out
    assert run("completion", "csh").status == Exit.USAGE


def test_init_makes_a_component_that_can_be_built(run, tmp_path):
    from paas.cli.push import build_source

    folder = tmp_path / "My Thing"
    assert "would create" in run("init", "--directory", str(folder), "--dry-run").out
    assert not folder.exists()
    done = run("init", "--directory", str(folder))
    assert "name my-thing (from the directory's name)" in done.err
    built = build_source(folder, tmp_path)
    assert built.manifest.type_name == "my-thing@0.1.0"
    assert run("init", "--directory", str(folder)).status == Exit.CONFLICT
    assert run("init", "cobol").status == Exit.USAGE
    assert run("init", "--name", "No Name", "--directory", str(tmp_path / "x")).status == Exit.USAGE
    shell = tmp_path / "s"
    assert run("init", "shell", "--directory", str(shell)).status == 0
    assert build_source(shell, tmp_path).manifest.component.protocol == "none"


def test_doctor_checks_the_machine_and_the_cluster(paas, run, hub, tmp_path):
    findings = paas("doctor", "-o", "json").json()["checks"]
    assert {"machine", "containers", "cluster"} <= {f["area"] for f in findings}
    assert all(f["cure"] for f in findings if not f["ok"] and f["needed"])
    text = run("doctor", "--state", str(tmp_path)).out
    assert "no cluster runs" in text
