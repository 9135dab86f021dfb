"""Small files of the container controller: replaced as a whole, removed as trees.

Not durable on purpose: containers do not outlive the machine's boot, see `container/journal.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

_FRESH = ".new"


class StateStore:
    """Named files in one directory that only root can read."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in os.listdir(directory):
            if name.endswith(_FRESH):  # of a writer that was killed
                os.unlink(f"{directory}/{name}")

    def names(self) -> list[str]:
        return [n for n in os.listdir(self._directory) if not n.endswith(_FRESH)]

    def read(self, name: str) -> bytes | None:
        try:
            return Path(self._directory, name).read_bytes()
        except FileNotFoundError:
            return None

    def replace(self, name: str, data: bytes) -> None:
        fresh = f"{self._directory}/{name}{_FRESH}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.rename(fresh, f"{self._directory}/{name}")

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._directory}/{name}")


def remove_tree(path: str) -> None:
    """Remove a directory and everything in it; links are removed, not followed."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def read_tail(path: str, count: int) -> bytes:
    """The last `count` bytes of a file; nothing if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, count, max(0, size - count))
    finally:
        os.close(fd)


def sealed_order(data: bytes) -> int:
    """A nameless file in memory with this content, as a descriptor."""
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
    except BaseException:
        os.close(fd)
        raise
    return fd
