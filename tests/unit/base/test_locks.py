"""Locks that end with their process, and with nobody else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paas.base import locks

HOLDER = """
import os, signal, sys
from paas.base import locks
locks.take(sys.argv[1])
if "child" in sys.argv and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("held", flush=True)
signal.pause()
"""


def holding(path: Path, *more: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_one_holds_it_and_whoever_comes_after_the_end_gets_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "directory" else tmp_path / "lock"
    first = locks.take(path)
    with pytest.raises(BlockingIOError):
        locks.take(path, patience_s=0.05)
    os.close(first)
    os.close(locks.take(path, patience_s=0))


def test_a_refusal_leaves_no_descriptor(tmp_path: Path) -> None:
    held = locks.take(tmp_path / "lock")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlockingIOError):
        locks.take(tmp_path / "lock", patience_s=0)
    assert os.listdir("/proc/self/fd") == before
    os.close(held)


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    with holding(tmp_path / "lock") as process:
        with pytest.raises(BlockingIOError):
            locks.take(tmp_path / "lock", patience_s=0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(locks.take(tmp_path / "lock", patience_s=0))


def test_a_child_on_its_way_to_another_program_is_waited_for(tmp_path: Path) -> None:
    """It has the descriptor of the process that was killed when it had just been forked."""
    with holding(tmp_path / "lock", "child") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(BlockingIOError):
            locks.take(tmp_path / "lock", patience_s=0)
        assert process.stdin is not None
        process.stdin.close()
        os.close(locks.take(tmp_path / "lock", patience_s=5))
