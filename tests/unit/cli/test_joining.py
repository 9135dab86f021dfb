"""Where a node listens, what node.json says, and how the program that joins is spoken to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from paas.assembly.node_settings import settings_of
from paas.base.errors import Exit, PlatformError
from paas.cli import cluster, joining
from paas.cli.joining import Listen, join_address


@pytest.mark.parametrize(
    ("text", "hub", "join"),
    [
        ("192.0.2.7", "192.0.2.7:7420", "192.0.2.7:7421"),
        ("192.0.2.7:9000", "192.0.2.7:9000", "192.0.2.7:9001"),
        ("lab.example:80", "lab.example:80", "lab.example:81"),
    ],
)
def test_an_address_may_have_a_port(text, hub, join):
    assert Listen.of(text) == Listen(hub, join)


@pytest.mark.parametrize("text", ["", ":7420", "host:", "host:x", "host:0", "host:65535", "a/b:1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(PlatformError) as caught:
        Listen.of(text)
    assert caught.value.code == "invalid"


def test_who_joins_asks_at_the_joining_port_unless_another_is_named():
    assert join_address("192.0.2.7") == "192.0.2.7:7421"
    assert join_address("192.0.2.7:5000") == "192.0.2.7:5000"


def test_a_node_that_begins_a_cluster_reads_what_was_written(tmp_path):
    where = Listen.of("10.130.0.1")
    joining.write_node(
        tmp_path, cluster="lab-1", node="n1", listen=where, containers="10.70.8.0/21"
    )
    settings = settings_of(str(tmp_path))
    assert (settings.cluster, settings.node) == ("lab-1", "n1")
    assert (settings.listen, settings.join_listen) == (where.hub, where.join)
    assert settings.container_network == "10.70.8.0/21"
    assert not settings.joined


def _join(tmp_path, program: str) -> joining.Join:
    def spawn(words: list[str]) -> subprocess.Popen[str]:
        (tmp_path / "words").write_text(json.dumps(words))
        return joining.spawn_here([sys.executable, "-c", program])

    return joining.Join(
        tmp_path, node="n2", address="a:1", listen=Listen.of("b"), containers="", spawn=spawn
    )


def test_the_token_goes_through_a_pipe_and_the_answer_comes_back(tmp_path):
    echo = "import json; print(json.dumps({'node': 'n2', 'token': input()}))"
    running = _join(tmp_path, echo)
    try:
        running.send_token("paas1-secret")
        assert running.wait() == {"node": "n2", "token": "paas1-secret"}
    finally:
        running.close()
    assert "paas1-secret" not in (tmp_path / "words").read_text()


@pytest.mark.parametrize(
    ("said", "code"),
    [("error: denied: the token was used", "denied"), ("Segmentation fault", "failed")],
)
def test_what_the_program_says_is_the_error(tmp_path, said, code):
    running = _join(tmp_path, f"import sys; input(); sys.exit({said!r})")
    try:
        running.send_token("t")
        with pytest.raises(PlatformError, match="n2 did not join") as caught:
            running.wait()
    finally:
        running.close()
    assert caught.value.code == code


def test_what_to_do_about_it_stands_in_the_line_before_the_error():
    said = "noise\nhint: another name: --name NAME\nerror: conflict: n2 was removed\n"
    error = joining.error_of(said, "it failed: ")
    assert (error.code, error.message) == ("conflict", "it failed: n2 was removed")
    assert error.hint == "another name: --name NAME"
    assert joining.error_of("noise\nerror: conflict: no\n").hint != "noise"


def test_a_program_that_has_ended_before_its_token_came_says_why(tmp_path):
    running = _join(tmp_path, "import sys; sys.exit('error: invalid: no')")
    running._process.wait(20)
    running.send_token("t")
    with pytest.raises(PlatformError) as caught:
        running.wait()
    running.close()
    assert caught.value.code == "invalid"


def test_a_directory_that_has_a_cluster_is_not_used_for_another(run, state):
    for words in (("cluster", "init"), ("cluster", "join", "192.0.2.1", "--token", "t")):
        done = run(*words, "--state", str(state))
        assert done.status == Exit.CONFLICT
        assert "has a cluster already" in done.err


@pytest.mark.parametrize("name", ["", "N1", "-a", "a-", "a.b", "a" * 33])
def test_names_that_do_not_fit_into_certificates_are_refused(run, tmp_path, name):
    folder = str(tmp_path / "new")
    done = run("cluster", "init", "--name", name, "--state", folder)
    assert done.status == Exit.USAGE
    done = run("cluster", "join", "192.0.2.1", "--token", "t", "--name", name, "--state", folder)
    assert done.status == Exit.USAGE
    assert not (tmp_path / "new").exists()


LOG = """
import json, sys
found = {"node": "n1", "cluster": "test", "last_index": 90, "last_term": 4, "commit_index": 88}
forced = {"index": 91, "term": 5} if "--force" in sys.argv else {}
print(json.dumps({**found, "voters": ["n1", "n2", "n3"], "observers": [], **forced}))
"""


@pytest.fixture
def log(monkeypatch):
    """A program that seems to have looked at a log."""
    words = [sys.executable, "-c", LOG]
    monkeypatch.setattr(cluster.supervisor, "agent_command", lambda role, state: words)


def test_recovery_says_what_may_be_lost_unless_asked_twice(run, state, log):
    words = ("cluster", "recover", "--state", str(state))
    for more in ((), ("--i-accept-losses", "another")):
        done = run(*words, *more)
        assert done.status == Exit.FAILED
        assert "nothing was done" in done.err
        assert "entries up to 90 of term 4" in done.err
        assert "n1, n2, n3" in done.err
        assert "--i-accept-losses test" in done.err


def test_recovery_is_done_when_the_cluster_is_named(run, state, log):
    words = ("cluster", "recover", "--state", str(state), "--i-accept-losses", "test")
    done = run(*words, "-o", "json")
    assert done.json()["index"] == 91
    assert "empty state directories" in done.err


def test_a_directory_without_a_log_is_not_recovered(run, state):
    done = run("cluster", "recover", "--state", str(state))
    assert done.status == Exit.USAGE
    assert "directory of a node" in done.err


def test_a_node_that_runs_is_not_recovered(run, state, hub, log):
    done = run("cluster", "recover", "--state", str(state), "--i-accept-losses", "test")
    assert done.status == Exit.CONFLICT
