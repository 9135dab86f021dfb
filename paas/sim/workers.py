"""Processes that simulate: an order in, lines out.

    parent ── order, a line of JSON ──> worker's input, which stays open
    parent <── a line for each seed ─── a file: a pipe that nobody empties would stop the worker

A worker ends with its parent: the end of its input tells.  Otherwise a run that was killed would
leave processes that simulate for hours.  Each has a hash seed that its parent chose, since the
order of what sets contain is part of what happens.  (io)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any, TextIO


class WorkerProcess:
    """`python -m MODULE --worker`, which calls `take_order`."""

    def __init__(self, module: str, order: Any, *, hash_seed: int) -> None:
        self._out = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--worker"],
            stdin=subprocess.PIPE,
            stdout=self._out,
            text=True,
            env=environment(hash_seed),
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin
        self._input.write(json.dumps(order) + "\n")
        self._input.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> tuple[int, list[str]]:
        """(exit status, lines), when it has ended."""
        status = self._process.wait()
        self._input.close()
        with self._out:
            self._out.seek(0)
            return status, self._out.read().splitlines()


def environment(hash_seed: int) -> dict[str, str]:
    """Of a process in which sets of texts have the order that this seed gives."""
    return {**os.environ, "PYTHONHASHSEED": str(hash_seed)}


def take_order(source: TextIO) -> Any:
    """A worker's order.  From here on this process ends when its input does."""
    order = json.loads(source.readline())
    threading.Thread(target=_end_with_input, args=(source.fileno(),), daemon=True).start()
    return order


def _end_with_input(fd: int) -> None:
    os.read(fd, 1)
    os._exit(1)
