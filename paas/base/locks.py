"""Locks on files and directories: one process uses a thing, until it ends (io).

The lock is the open descriptor's (flock(2)), so it ends with its process, however that ends.  A
child that the process was just starting has the descriptor too, until it becomes another program:
when the holder is killed at that moment the lock outlives it by some milliseconds.  So who finds it
held looks again for `PATIENCE_S` before saying that somebody else is there.
"""

from __future__ import annotations

import fcntl
import os
import time

PATIENCE_S = 0.5
_PAUSE_S = 0.01


def take(path: str | os.PathLike[str], *, patience_s: float = PATIENCE_S) -> int:
    """The descriptor that holds the lock of a directory, or of a file, which is made if need be.

    Close it to let go.  Raises BlockingIOError when another process has it.  May take `patience_s`.
    """
    if os.path.isdir(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                os.close(descriptor)
                raise
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor
        time.sleep(_PAUSE_S)
