"""A cluster of three nodes with everything in it: started, hurt, healed, ended by its commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.cli.leftovers import picture

from .conftest import until

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[3]


class Paas:
    """The command line on one state directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"

    def run(self, *words: str, status: int | None = 0, state: Path | None = None) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PAAS_", "XDG_"))}
        done = subprocess.run(
            [sys.executable, "-m", "paas.cli", "--state", str(state or self.state), *words],
            env={**kept, "HOME": str(self.home), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        self.said = done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert status is None or done.returncode == status, f"{words}: {done.stderr}"
        return done.stdout

    def nodes(self, *words: str) -> dict[str, dict[str, Any]]:
        said = self.run("nodes", "-o", "json", *words, status=None)
        return {n["name"]: n for n in json.loads(said)["nodes"]} if said else {}

    def until_states(self, states: str, *words: str) -> None:
        """Until the nodes, in the order of their names, are in these states."""
        wanted = states.split()
        until(
            lambda: [n["state"] for _, n in sorted(self.nodes(*words).items())] == wanted,
            f"not {states}: {self.nodes(*words)}",
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paas]:
    home = tmp_path_factory.mktemp("cluster")
    for folder in (home, *list(home.parents)[:2]):
        folder.chmod(0o755)
    one = Paas(home)
    try:
        assert one.run("dev", "--nodes", "3", "--detach").strip() == "ready"
        yield one
    finally:
        one.run("down", "--purge", "--yes", status=None)
        assert picture(str(one.state)) == set()


def test_all_nodes_are_available_and_vote(whole: Paas) -> None:
    found = whole.nodes()
    assert list(found) == ["n1", "n2", "n3"]
    assert {n["state"] for n in found.values()} == {"available"}
    assert sorted(n["role"] for n in found.values()) == ["leader", "voter", "voter"]
    assert len({n["address"] for n in found.values()}) == 3


def test_every_node_answers_with_the_same(whole: Paas) -> None:
    answers = [whole.nodes("--node", name) for name in ("n1", "n2", "n3")]
    states = [{n: found[n]["state"] for n in found} for found in answers]
    assert states[0] == states[1] == states[2]


def test_a_killed_node_is_missed_and_comes_back(whole: Paas) -> None:
    whole.run("nodes", "kill", "n3")
    whole.until_states("available available offline")
    whole.run("nodes", "resume", "n3")
    whole.until_states("available available available")


def test_a_paused_node_is_missed_and_comes_back(whole: Paas) -> None:
    whole.run("nodes", "pause", "n2")
    whole.until_states("available offline available")
    whole.run("nodes", "resume", "n2")
    whole.until_states("available available available")


def test_the_majority_goes_on_without_the_node_that_is_cut_off(whole: Paas) -> None:
    whole.run("nodes", "partition", "n1|n2,n3")
    whole.until_states("offline available available", "--node", "n2")
    assert whole.nodes("--node", "n1")
    whole.run("nodes", "cordon", "n3", "--node", "n2")
    whole.run("nodes", "uncordon", "n3", "--node", "n2")
    whole.run("nodes", "heal")
    whole.until_states("available available available", "--node", "n1")


def test_commands_go_on_when_the_first_node_is_off(whole: Paas) -> None:
    whole.run("nodes", "kill", "n1")
    whole.until_states("offline available available")
    whole.run("nodes", "resume", "n1")
    whole.until_states("available available available")


def test_the_cluster_goes_on_from_its_state_after_down(whole: Paas) -> None:
    whole.run("down")
    assert whole.run("doctor", "--leftovers").strip() == "nothing is left"
    assert whole.run("dev", "--detach").strip() == "ready"
    assert {n["state"] for n in whole.nodes().values()} == {"available"}


def test_one_node_goes_on_alone_when_the_others_are_lost_for_ever(whole: Paas) -> None:
    """The last thing that is done to this cluster."""
    name = json.loads((whole.state / "cluster.json").read_text())["name"]
    node = whole.state / "nodes" / "n2"
    whole.run("cluster", "recover", state=node, status=5)  # it runs
    for other in ("n1", "n2", "n3"):
        whole.run("nodes", "kill", other)
    whole.run("cluster", "recover", state=node, status=1)
    words = ("cluster", "recover", "--i-accept-losses", name, "-o", "json")
    assert json.loads(whole.run(*words, state=node))["voters"] == ["n1", "n2", "n3"]
    whole.run("nodes", "resume", "n2")
    whole.until_states("offline available offline")
    assert whole.nodes()["n2"]["role"] == "leader"
    whole.run("nodes", "cordon", "n2")


def test_a_node_joins_by_token_which_works_once(tmp_path: Path) -> None:
    first, second, third = (Paas(tmp_path / name) for name in ("one", "two", "three"))
    for one in (first, second, third):
        one.home.mkdir()
    port = 20_000 + os.getpid() % 20_000
    words = ("--listen", f"127.0.0.1:{port}")
    try:
        first.run("cluster", "init", "--name", "lab-1", *words)
        token = first.run("cluster", "token", "-o", "name").strip()
        where = f"127.0.0.1:{port + 1}"
        ask = ("cluster", "join", where, "--token", token, "--listen", f"127.0.0.1:{port + 2}")
        server = json.loads(first.run("dns", "status", "-o", "json"))["address"]
        by_name = ("cluster", "join", "paas.internal", "--dns", server, *ask[3:])
        assert "n2 joined lab-1" in second.run(*by_name)
        first.until_states("available available")
        third.run(*ask[:-1], f"127.0.0.1:{port + 4}", "--name", "n3", status=4)
        assert not (third.state / "cluster.json").exists()
        assert list(first.nodes()) == ["n1", "n2"]
        good = first.run("cluster", "token", "-o", "name").strip()
        again = ("cluster", "join", where, "--token", good, *ask[5:-1], f"127.0.0.1:{port + 4}")
        third.run(*again, "--name", "n2", status=None)
        assert "is in this cluster already" in third.said
        assert "join under another name: --name NAME" in third.said
        first.run("cluster", "token", "--revoke", good.split("-")[1])
        third.run(*again, "--name", "n3", status=4)
        assert "used" in first.run("cluster", "token", "--list")
        assert "revoked" in first.run("cluster", "token", "--list")
    finally:
        for one in (third, second, first):
            one.run("down", "--purge", "--yes", status=None)
    assert picture(str(first.state)) | picture(str(second.state)) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_ends_the_machines(tmp_path: Path, number: int) -> None:
    one = Paas(tmp_path)
    words = ["--state", str(one.state), "dev", "--nodes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "paas.cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(one.nodes()) == 2
        process.send_signal(number)
        said = process.communicate(timeout=100)[1]
        assert process.returncode == 0
        assert "nothing runs any more" in said
        assert picture(str(one.state), with_state=False) == set()
    finally:
        process.kill()
        process.communicate()
        one.run("down", "--purge", "--yes", status=None)
