"""The supervisor of a development cluster, with small programs in the node controller's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paas.base.errors import Exit, PlatformError
from paas.cli import place, supervisor

ROOT = Path(__file__).resolve().parents[3]

NODE = """
import os, signal, sys, time
from pathlib import Path
role, state = sys.argv[1], Path(sys.argv[sys.argv.index("--state") + 1])
notes = state / "notes"
def note(text):
    with notes.open("a") as file:
        file.write(text + "\\n")
if role == "cleanup":
    note("cleanup")
    sys.exit(int((state / "cleanup-fails").exists()))
def say(text):
    fd = int(os.environ["PAAS_READY_FD"])
    os.write(fd, text.encode() + b"\\n")
    os.close(fd)
signal.signal(signal.SIGTERM, lambda *_: (note("asked"), sys.exit(0)))
note(f"start {os.getpid()}")
if (state / "fails-once").exists():
    (state / "fails-once").unlink()
    say("error: alone")
    sys.exit(1)
if (state / "fails").exists():
    say("error: no overlayfs here")
    sys.exit(1)
say("ready")
while True:
    time.sleep(60)
"""

RUNNER = """
import sys
from pathlib import Path
from paas.cli import supervisor
from paas.base.errors import PlatformError
program = sys.argv[1]
supervisor.limits.RESTARTS_MAX = 3
supervisor.limits.RESTART_DELAY_S_MAX = 0.05
def command(role, state):
    return [sys.executable, program, role, "--state", str(state)]
try:
    watcher = supervisor.Supervisor(Path(sys.argv[2]), command=command)
    watcher.run(lambda: print("ready", flush=True))
except PlatformError as exc:
    print(exc, flush=True)
    sys.exit(1)
"""


class World:
    """A state directory, and a supervisor process on it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.program = folder / "node.py"
        self.program.write_text(NODE)
        self.runner = folder / "runner.py"
        self.runner.write_text(RUNNER)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(self.runner), str(self.program), str(self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.processes.append(process)
        return process

    def notes(self) -> list[str]:
        file = self.state / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def nodes(self) -> list[int]:
        return [int(line.split()[1]) for line in self.notes() if line.startswith("start")]

    def command(self, role: str, state: Path) -> list[str]:
        return [sys.executable, str(self.program), role, "--state", str(state)]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()
        process.stdout.close()
    for pid in made.nodes():
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ready_is_said_once_the_node_says_so_and_the_files_tell_who_runs(world):
    process = world.start()
    assert process.stdout.readline() == "ready\n"
    cluster = place.read_cluster(world.state)
    assert cluster.pid == process.pid
    assert cluster.facts["node_pid"] == world.nodes()[0]
    assert cluster.development
    assert place.running(world.state)


def test_sigterm_ends_the_node_in_good_order_and_keeps_the_state(world):
    process = world.start()
    process.stdout.readline()
    process.terminate()
    assert process.wait(20) == 0
    assert world.notes()[1:] == ["asked"]
    assert place.read_cluster(world.state).pid is None
    assert not place.running(world.state)


def test_a_node_that_dies_is_started_again(world, eventually):
    process = world.start()
    process.stdout.readline()
    os.kill(world.nodes()[0], signal.SIGKILL)
    eventually(lambda: len(world.nodes()) == 2)
    assert place.read_cluster(world.state).pid == process.pid
    assert process.poll() is None


def test_a_node_that_dies_too_often_ends_the_supervisor_after_a_cleanup(world, eventually):
    process = world.start()
    process.stdout.readline()
    for count in range(1, 5):
        eventually(lambda count=count: len(world.nodes()) == count)
        pid = world.nodes()[-1]
        eventually(lambda pid=pid: alive(pid))
        os.kill(pid, signal.SIGKILL)
    assert process.wait(20) == 1
    assert "died 4 times" in process.stdout.read()
    assert world.notes()[-1] == "cleanup"


def test_a_node_that_cannot_start_is_an_error_with_its_own_words(world):
    (world.state / "fails").touch()
    process = world.start()
    assert process.wait(20) == 1
    assert "no overlayfs here" in process.stdout.read()


def test_a_second_supervisor_is_a_conflict_naming_the_first(world):
    process = world.start()
    process.stdout.readline()
    with pytest.raises(PlatformError, match="runs already") as caught:
        supervisor.take_lock(world.state)
    assert caught.value.code == "conflict"
    assert str(process.pid) in caught.value.message


def test_whoever_comes_after_a_killed_supervisor_ends_its_node_first(world, eventually):
    first = world.start()
    first.stdout.readline()
    orphan = world.nodes()[0]
    first.kill()
    first.wait()
    assert alive(orphan)
    second = world.start()
    assert second.stdout.readline() == "ready\n"
    eventually(lambda: not alive(orphan))
    assert len(world.nodes()) == 2


def test_an_orphan_is_ended_only_if_it_is_the_node_of_that_directory(world):
    supervisor.write_cluster(world.state, pid=None, node_pid=os.getpid())
    assert supervisor.end_orphan(world.state, signal.SIGKILL) is False


def test_a_cleanup_that_leaves_something_is_said(world):
    (world.state / "cleanup-fails").touch()
    with pytest.raises(PlatformError, match="is left"):
        supervisor.cleanup(world.state, world.command)


def test_one_node_of_several_that_has_worked_is_tried_again(world):
    (world.state / "node.json").touch()
    first = world.start()
    assert first.stdout.readline() == "ready\n"
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    (world.state / "fails-once").touch()
    second = world.start()
    assert second.stdout.readline() == "ready\n"
    assert len(world.nodes()) == 3
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0


def test_the_state_directory_must_be_possible(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match="invalid"):
        supervisor.prepare(tmp_path / "file" / "state")


def test_a_long_log_becomes_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor.limits, "LOG_BYTES_MAX", 10)
    log = tmp_path / "node.log"
    supervisor.rotate(log)
    log.write_text("x" * 11)
    supervisor.rotate(log)
    assert [f.name for f in tmp_path.iterdir()] == ["node.log.1"]


def test_dev_refuses_what_it_cannot_do(run, tmp_path, monkeypatch):
    for number in ("0", "10", "-1", "x"):
        done = run("dev", "--nodes", number, "--state", str(tmp_path))
        assert done.status == Exit.USAGE
        assert "nodes" in done.err
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = run("dev", "--state", str(tmp_path))
    assert done.status == Exit.FAILED
    assert "not root" in done.err


def test_what_is_one_node_cannot_become_several_and_the_other_way_round(run, tmp_path):
    supervisor.write_cluster(tmp_path, pid=None, node_pid=None)
    done = run("dev", "--nodes", "3", "--state", str(tmp_path))
    assert done.status == Exit.CONFLICT
    assert "has 1 node" in done.err
    supervisor.write_cluster(tmp_path, pid=None, node_pid=None, nodes={"n1": {}, "n2": {}})
    done = run("dev", "--nodes", "3", "--state", str(tmp_path))
    assert done.status == Exit.CONFLICT
    assert "has 2 nodes" in done.err


def test_the_directory_of_one_node_of_several_is_not_started_or_ended_alone(run, tmp_path):
    node = tmp_path / "nodes" / "n1"
    node.mkdir(parents=True)
    (node / "machine.json").touch()
    for command in ("dev", "down"):
        done = run(command, "--state", str(node))
        assert done.status == Exit.CONFLICT
        assert f"--state {tmp_path}" in done.err


def test_process_1_of_a_machine_is_not_written_down_as_the_hosts(tmp_path):
    (tmp_path / "machine.json").touch()
    supervisor.write_cluster(tmp_path, pid=1, node_pid=2)
    assert place.require_cluster(tmp_path).pid is None


def test_down_where_nothing_ever_ran_is_done_already(run, tmp_path):
    done = run("down", "--state", str(tmp_path / "none"))
    assert (done.status, done.out) == (0, "down\n")


def test_down_asks_the_supervisor_and_purge_removes_the_state(run, world, monkeypatch):
    monkeypatch.setattr(supervisor, "cleanup", lambda state: None)
    process = world.start()
    process.stdout.readline()
    words = ["--state", str(world.state), "-o", "json"]
    assert run("down", "--dry-run", *words).json()["running"] is True
    assert process.poll() is None
    found = run("down", *words).json()
    assert (found["was_running"], found["running"]) == (True, False)
    assert process.wait(20) == 0
    assert run("down", "--purge", "--yes", *words).json()["was_running"] is False
    assert not world.state.exists()


def test_down_leaves_a_production_cluster_alone(run, state):
    facts = json.loads((state / "cluster.json").read_text())
    (state / "cluster.json").write_text(json.dumps({**facts, "development": False}))
    assert run("down", "--state", str(state)).status == Exit.FAILED


def test_our_programs_find_this_package():
    paths = supervisor.environment().get("PYTHONPATH", "").split(os.pathsep)
    assert str(ROOT) in paths or "packages" in str(ROOT)
