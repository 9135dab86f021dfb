"""Parsing processes, one document at a time each (io).

A process that takes longer than PARSE_S_MAX, or dies, is replaced, and its document is refused.
One more is always kept warm, so that the next document does not wait for a start.
"""

from __future__ import annotations

import json
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from worker import LENGTH

PROGRAM = Path(__file__).resolve().parent / "worker.py"
PARSE_S_MAX = 5.0
START_S_MAX = 20.0
DOCUMENTS_MAX = 5_000
"""A process is replaced after so many: whatever a parser leaks, it leaks so much at most."""


class WorkerError(Exception):
    """The document was not parsed; the text says why."""


class Worker:
    """One process."""

    def __init__(self) -> None:
        self.done = 0
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
        self._receive(time.monotonic() + START_S_MAX)

    def parse(self, question: dict[str, Any], document: bytes) -> dict[str, Any]:
        """Raises WorkerError; after that the worker must be ended."""
        head = json.dumps(question).encode()
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(LENGTH.pack(len(head)) + head + LENGTH.pack(len(document)) + document)
            stdin.flush()
        except OSError:
            raise WorkerError("the parser has died") from None
        self.done += 1
        found: dict[str, Any] = json.loads(self._receive(time.monotonic() + PARSE_S_MAX))
        return found

    def _receive(self, until_s: float) -> bytes:
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size, until_s))
        return self._exactly(length, until_s)

    def _exactly(self, count: int, until_s: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        found = b""
        while len(found) < count:
            left_s = until_s - time.monotonic()
            ready, _, _ = select.select([stdout], [], [], max(0.0, left_s))
            if not ready:
                raise WorkerError("the document takes too long to parse")
            piece = stdout.raw.read(min(count - len(found), 1 << 16))  # type: ignore[union-attr]
            if not piece:
                raise WorkerError("the parser has died of this document")
            found += piece
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Workers:
    """`count` processes; who comes when all are busy waits."""

    def __init__(self, count: int) -> None:
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.replaced = 0
        for _ in range(count):
            self._idle.put(Worker())

    def parse(self, question: dict[str, Any], document: bytes) -> dict[str, Any]:
        """The feed, or `{"error": …}`."""
        worker = self._idle.get()
        try:
            answer = worker.parse(question, document)
        except WorkerError as exc:
            self._replace(worker)
            return {"error": str(exc)}
        if worker.done >= DOCUMENTS_MAX:
            self._replace(worker)
        else:
            self._idle.put(worker)
        return answer

    def _replace(self, worker: Worker) -> None:
        worker.end()
        self.replaced += 1
        threading.Thread(target=lambda: self._idle.put(Worker()), daemon=True).start()
