"""Processes that simulate end with who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

PARENT = """
from paas.sim.workers import WorkerProcess
order = {"seeds": list(range(1_000)), "nodes": 3, "seconds": 300.0, "mutant": ""}
worker = WorkerProcess("paas.sim.platform", order, hash_seed=0)
print(worker.pid, flush=True)
worker.wait()
"""


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(signal.SIGKILL)
            end_s = time.monotonic() + 30
            while not _ended(worker) and time.monotonic() < end_s:
                time.sleep(0.01)
            assert _ended(worker)
        finally:
            os.close(worker)


def _ended(pidfd: int) -> bool:
    """Of a process that is not ours: nothing to wait for, only to be signalled."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return False
