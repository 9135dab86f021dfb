"""All machines of a cluster together, with a small program that seems to be a node on each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from paas.base.errors import Exit, PlatformError
from paas.cli import address_plan, joining, limits, machines, place, supervisor
from paas.cli.fleet import Fleet, follow, lay_out
from paas.cli.leftovers import picture
from paas.cli.machine_record import read
from paas.cli.main import main

from .conftest import tables, until

pytestmark = pytest.mark.system

NODE = """
import json, os, signal, socket, sys, time
state, ready, runtime = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if os.path.exists(f"{state}/dies"):
    os.write(ready, b'{"code": -32000, "message": "no disk", "data": {"code": "failed"}}\\n')
    sys.exit(1)
if os.path.exists(f"{state}/hangs"):
    time.sleep(1_000)
os.makedirs(runtime, exist_ok=True)
path = f"{runtime}/api.sock"
def end(*_):
    os.unlink(path)
    os.rmdir(runtime)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
os.write(ready, b'{"ready": true}\\n')
os.close(ready)
known = {"state": "available", "role": "voter", "since": time.time() + 60}
nodes = [{"name": f"n{n}", **known} for n in (1, 2, 3)]
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rw") as file:
        for line in file:
            request = json.loads(line)
            members = request["method"] == "cluster.members"
            result = {"wanted": 5} if members else {"nodes": nodes}
            answer = {"jsonrpc": "2.0", "id": request["id"], "result": result}
            file.write(json.dumps(answer) + "\\n")
            file.flush()
"""


class Cluster:
    """Three nodes that are members already."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "cluster"
        self.program = folder / "node.py"
        self.program.write_text(NODE)
        self.said: list[str] = []
        laid_out = lay_out(self.state, 3)
        for name in laid_out.nodes:
            supervisor.prepare(laid_out.node_state(name))
            joining.write_node(
                laid_out.node_state(name),
                cluster=laid_out.name,
                node=name,
                listen=joining.Listen.of("a"),
            )
            supervisor.write_cluster(laid_out.node_state(name), pid=None, node_pid=None)
        self.fleet = Fleet(laid_out, command=self.command, report=self.said.append)

    def command(self, state: Path, ready_fd: int) -> list[str]:
        runtime = supervisor.runtime_directory(state)
        return [sys.executable, str(self.program), str(state), str(ready_fd), runtime]

    def node(self, name: str) -> Path:
        return self.fleet.cluster.node_state(name)

    def run(self, *words: str) -> int:
        return main([*words, "--state", str(self.state)])

    def end(self) -> None:
        for name in self.fleet.cluster.nodes:
            machine = read(self.node(name))
            if machine is not None:
                machines.kill(machine)
            shutil.rmtree(supervisor.runtime_directory(self.node(name)), ignore_errors=True)
        if self.state.exists():
            self.fleet.end()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    one = Cluster(tmp_path)
    try:
        yield one
    finally:
        one.end()


def test_all_machines_start_and_each_is_reported(cluster: Cluster) -> None:
    cluster.fleet.start()
    assert sorted(line.split()[0] for line in cluster.said) == ["n1", "n2", "n3"]
    assert {m.condition for m in cluster.fleet.all()} == {"running"}


def test_the_network_of_the_nodes_is_a_route_of_the_host(cluster: Cluster) -> None:
    cluster.fleet.start()
    own = str(cluster.fleet.cluster.facts["network"])
    taken = address_plan.routes(address_plan.ROUTES.read_text())
    assert own in map(str, taken)
    assert address_plan.plan(supervisor.digits(cluster.state), 1, taken).machines != own


def test_a_cluster_that_runs_is_not_started_again(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.fleet.start()
    with pytest.raises(PlatformError) as caught:
        cluster.fleet.start()
    assert caught.value.code == "conflict"
    assert cluster.run("dev", "--nodes", "3", "--detach") == Exit.CONFLICT
    assert "runs already" in capsys.readouterr().err
    assert {m.condition for m in cluster.fleet.all()} == {"running"}


def test_nothing_is_left_after_down(cluster: Cluster) -> None:
    cluster.fleet.start()
    assert any(line.startswith("link pm") for line in picture(str(cluster.state)))
    assert cluster.run("down") == 0
    assert picture(str(cluster.state), with_state=False) == set()
    assert cluster.run("doctor", "--leftovers") == 0
    assert cluster.run("down") == 0


def test_nothing_is_left_of_a_cluster_whose_machines_were_killed_or_paused(
    cluster: Cluster,
) -> None:
    cluster.fleet.start()
    assert cluster.run("nodes", "kill", "n1") == 0
    assert cluster.run("nodes", "pause", "n2") == 0
    assert cluster.run("down", "--purge", "--yes") == 0
    assert picture(str(cluster.state)) == set()


def test_a_node_that_cannot_start_ends_the_others_and_says_why(cluster: Cluster) -> None:
    (cluster.node("n2") / "dies").touch()
    with pytest.raises(PlatformError, match="n2: no disk") as caught:
        cluster.fleet.start()
    assert caught.value.code == "failed"
    assert picture(str(cluster.state), with_state=False) == set()


def test_a_machine_killed_while_it_starts_ends_the_start(cluster: Cluster) -> None:
    (cluster.node("n3") / "hangs").touch()
    caught: list[PlatformError] = []

    def start() -> None:
        try:
            cluster.fleet.start()
        except PlatformError as exc:
            caught.append(exc)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        until(lambda: len(cluster.said) == 2, "the other two do not become ready")
        assert machines.kill(cluster.fleet.machine("n3"))
    finally:
        thread.join(60)
    assert "n3 ended before it was ready" in str(caught[0])
    assert picture(str(cluster.state), with_state=False) == set()


def test_two_commands_do_not_change_the_machines_at_once(cluster: Cluster) -> None:
    cluster.fleet.start()
    with cluster.fleet.locked():
        assert cluster.run("nodes", "kill", "n1") == Exit.CONFLICT
    assert cluster.fleet.machine("n1").condition == "running"


def test_a_killed_node_is_switched_on_and_a_paused_one_goes_on(cluster: Cluster) -> None:
    cluster.fleet.start()
    assert cluster.fleet.kill("n2")
    assert not cluster.fleet.kill("n2")
    assert cluster.fleet.resume("n2")
    cluster.fleet.pause("n2")
    assert cluster.fleet.machine("n2").condition == "paused"
    assert cluster.fleet.resume("n2")
    assert cluster.fleet.machine("n2").condition == "running"


def test_a_node_that_waits_for_others_is_switched_on_all_the_same(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESUME_PATIENCE_S", 0.2)
    cluster.fleet.start()
    cluster.fleet.kill("n2")
    (cluster.node("n2") / "hangs").touch()
    assert not cluster.fleet.resume("n2")
    assert cluster.fleet.machine("n2").condition == "running"


def test_a_partition_covers_containers_is_kept_and_heals(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.fleet.start()
    assert cluster.run("nodes", "partition", "n1|n2,n3", "-o", "json") == 0
    unheard = json.loads(capsys.readouterr().out)["unheard"]
    assert unheard == {"n1": ["n2", "n3"], "n2": ["n1"], "n3": ["n1"]}
    rules = tables(cluster.fleet.machine("n2"))
    assert cluster.fleet.fact("n1", "address") in rules
    assert cluster.fleet.fact("n1", "containers") in rules
    cluster.fleet.kill("n2")
    cluster.fleet.resume("n2")
    assert tables(cluster.fleet.machine("n2")) == rules
    assert cluster.run("nodes", "heal") == 0
    assert "paas-partition" not in tables(cluster.fleet.machine("n2"))


def test_words_that_make_no_sense_are_refused(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster.run("nodes", "kill", "n9") == Exit.USAGE
    assert "nodes: n1, n2, n3" in capsys.readouterr().err
    assert cluster.run("nodes", "partition", "n1") == Exit.USAGE
    assert cluster.run("nodes", "partition", "n1|n4") == Exit.USAGE
    assert cluster.run("dev", "--nodes", "10") == Exit.USAGE
    assert cluster.run("dev", "--nodes", "2") == Exit.CONFLICT


def _watched() -> int:
    """How many other processes this one holds a descriptor of."""
    held = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            held += os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[pidfd]"
    return held


def test_who_watches_hears_of_each_end(cluster: Cluster) -> None:
    cluster.fleet.start()
    cluster.said.clear()
    watcher = threading.Thread(target=follow, args=(cluster.fleet,))
    watcher.start()
    until(lambda: _watched() == 3, "the machines are not watched")
    cluster.fleet.kill("n3")
    until(lambda: cluster.said, "nothing is said")
    assert cluster.said == ["n3 has ended"]
    cluster.fleet.end()
    watcher.join(30)
    assert not watcher.is_alive()


def test_machines_go_on_from_the_same_state_with_their_addresses(cluster: Cluster) -> None:
    cluster.fleet.start()
    before = [m.address for m in cluster.fleet.all()]
    cluster.fleet.end()
    again = Fleet(place.require_cluster(cluster.state), command=cluster.command)
    again.start()
    assert [m.address for m in again.all()] == before
    assert {m.condition for m in again.all()} == {"running"}
