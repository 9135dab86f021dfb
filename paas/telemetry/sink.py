"""Where log lines leave the process, and the clock that stamps them: the one file here with I/O.

Lines go to standard error, which the node controller keeps (or systemd, or a terminal).  An agent
never waits for the reader of its log: when a pipe is full, the line is dropped and counted, and the
next one that goes out is preceded by a `log.dropped` event (architecture, rule 8).
"""

from __future__ import annotations

import os
import select
import time

STDERR = 2


def wall_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class DescriptorSink:
    """Writes whole lines to a descriptor, or says that it could not."""

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, line: bytes) -> bool:
        """False: the line was dropped, since the reader is slow, gone, or the disk is full."""
        try:
            ready = self._poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                return False
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:
            return False
        return True
