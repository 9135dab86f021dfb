"""Stories that need a real machine: descriptors, a full file system, `kill -9` at a bad moment.

Holes P05, P10, P33 of docs/internals/raft.md.  The library runs as it was made, in processes of its
own (bare_process.py); ours runs from tests/simulation/test_raft_kill.py's writer, or as the server
that the mesh listens with.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

BARE = str(Path(__file__).with_name("bare_process.py"))

OURS = """
import sys, trio
from paas.base.errors import PlatformError
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
from paas.raft.settings import RaftSettings
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.sim.replicas import Note, Words

mode, directory = sys.argv[1:]

async def main():
    files, words = SystemFiles(directory), Words()
    files.lock()
    log = ReplicatedLog.open(
        files=files, clock=SystemClock(), entropy=SystemEntropy(), machine=Machine([words]),
        node="a", settings=RaftSettings(compaction_entries=1 << 30 if mode == "fill" else 200),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        print("HAVE", *words.words, flush=True)
        number = 0
        while mode != "look":
            number += 1
            word = f"{len(words.words)}-{number}"
            try:
                await log.propose(Note(word=word, filler="x" * (4_096 if mode == "fill" else 500)))
            except PlatformError as error:
                print("REFUSED", error.code, flush=True)
                break
            print("ACK", word, flush=True)
        await log.close()

trio.run(main)
"""


def bare(mode: str, directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, BARE, mode, str(directory)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0
    )


def ours(mode: str, directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OURS, mode, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)


def kill(process: subprocess.Popen[str]) -> set[str]:
    """Kill it with its children; what it had acknowledged."""
    os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    return {line.split()[1] for line in rest.splitlines() if line.startswith("ACK ")}


def words_of(process: subprocess.Popen[str]) -> set[str]:
    out, _ = process.communicate(timeout=60)
    return set(next(line for line in out.splitlines() if line.startswith("HAVE")).split()[1:])


def wait_for_snapshot(path: Path, seconds: float) -> None:
    """Return at the moment when the file is put in place of the one before, if there was one."""
    before = path.stat().st_ino if path.exists() else 0
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        if path.exists() and path.stat().st_ino != before:
            return
        time.sleep(0.0003)
    raise AssertionError("no snapshot was written")


# -- P10, K1: a full file system -------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_bare_node_dies_of_a_full_file_system_without_a_word(small_disk: Path) -> None:
    process = bare("fill", small_disk)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGBUS
    assert out == ""


def test_ours_refuses_and_lives_on(small_disk: Path) -> None:
    process = ours("fill", small_disk)
    out, _ = process.communicate(timeout=60)
    lines = out.splitlines()
    assert process.returncode == 0
    assert lines[-1] == "REFUSED storage-full"
    acknowledged = {line.split()[1] for line in lines if line.startswith("ACK ")}
    assert len(acknowledged) > 100
    assert acknowledged <= words_of(ours("look", small_disk))


# -- P05, K2: killed when the snapshot appears -----------------------------------------------------


@pytest.mark.timeout(300)
def test_a_bare_node_loses_acknowledged_words_when_killed_as_its_dump_appears(
    tmp_path: Path,
) -> None:
    lost = 0
    for attempt in range(6):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        process = bare("write", directory)
        wait_for_snapshot(directory / "dump", 60)
        acknowledged = kill(process)
        lost = len(acknowledged - words_of(bare("look", directory)))
        if lost:
            break
    assert lost > 0


@pytest.mark.timeout(300)
def test_ours_loses_nothing(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for _ in range(8):
        process = ours("write", tmp_path)
        wait_for_snapshot(tmp_path / "snapshot", 60)
        acknowledged |= kill(process)
        assert acknowledged <= words_of(ours("look", tmp_path))
    assert len(acknowledged) > 500


# -- P33, T0: no descriptors for a moment ----------------------------------------------------------

DEAF = """
import os, resource, socket, sys, time
from pysyncobj import SyncObj, SyncObjConf
port = int(sys.argv[1])
node = SyncObj(f"127.0.0.1:{port}", ["127.0.0.1:9"], SyncObjConf(autoTick=False))
def tick(count):
    for _ in range(count):
        node.doTick(0.01)
tick(5)
caller = socket.socket()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
caller.connect(("127.0.0.1", port))
tick(10)
for descriptor in taken:
    os.close(descriptor)
caller.close()
tick(100)
try:
    socket.create_connection(("127.0.0.1", port), 1)
    print("accepts")
except OSError as error:
    print("deaf", error.errno)
sys.stdout.flush()
os._exit(0)
"""


HEARING = """
import os, resource, socket, sys, trio
from paas.rpc.server import Callers

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    callers = Callers(listener)
    heard = 0

    async def listen():
        nonlocal heard
        while True:
            for caller in await callers.accept():
                heard += 1
                caller.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.sleep(0.1)
        caller = socket.socket()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        caller.connect(("127.0.0.1", port))
        await trio.sleep(0.5)
        for descriptor in taken:
            os.close(descriptor)
        caller.close()
        await trio.sleep(0.5)
        before = heard
        socket.create_connection(("127.0.0.1", port), 1).close()
        with trio.move_on_after(10):
            while heard == before:
                await trio.sleep(0.05)
        print("accepts" if heard > before else "deaf")
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def said(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr, done.stderr
    return done.stdout.strip()


def test_a_bare_node_is_deaf_for_ever_after_a_moment_without_descriptors() -> None:
    assert said(DEAF, str(free_port())) == f"deaf {errno.ECONNREFUSED}"


def test_what_our_mesh_listens_with_hears_again() -> None:
    assert said(HEARING) == "accepts"
