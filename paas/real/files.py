"""A real directory behind the Files port.

Calls block: whoever waits for a disk inside an event loop does so in a worker thread.  Symbolic
links are never followed and a path cannot leave the root.  `sync` is fdatasync(2): data, and of the
metadata only what is needed to read it back, such as the size.
"""

from __future__ import annotations

import errno
import os

from paas.base import locks
from paas.base.errors import LocalError, PlatformError

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class SystemFile:
    """`base.ports.File` on a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, count: int) -> bytes:
        pieces: list[bytes] = []
        while count > 0:
            piece = os.pread(self._descriptor, count, offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            offset += written
            view = view[written:]

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SystemFiles:
    """`base.ports.Files` on a directory, which is created if needed."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._lock: int | None = None
        _make_durable_directory(self.root)

    def lock(self) -> None:
        """Make this process the only user of the directory.  Raises `conflict`."""
        try:
            self._lock = locks.take(self.root)
        except BlockingIOError:
            raise PlatformError(
                "conflict",
                "another process uses this state directory",
                hint="stop it first: paas down",
            ) from None

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def open(self, path: str, *, create: bool = False) -> SystemFile:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        return SystemFile(os.open(self._absolute(path), flags, FILE_MODE))

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._absolute(path))

    def list(self, path: str = "") -> list[str]:
        return sorted(os.listdir(self._absolute(path)))

    def make_dir(self, path: str) -> None:
        os.makedirs(self._absolute(path), mode=DIRECTORY_MODE, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        os.replace(self._absolute(source), self._absolute(target))

    def remove(self, path: str) -> None:
        os.unlink(self._absolute(path))

    def sync_dir(self, path: str = "") -> None:
        _sync_directory(self._absolute(path))

    def free_bytes(self) -> int:
        figures = os.statvfs(self.root)
        return figures.f_bavail * figures.f_frsize

    def _absolute(self, path: str) -> str:
        """Raises LocalError for a path outside, OSError for a link on the way."""
        if path.startswith("/") or ".." in path.split("/"):
            raise LocalError(f"{path!r} is not a path inside the directory")
        folder = self.root
        for name in path.split("/")[:-1]:
            folder = os.path.join(folder, name)
            if os.path.islink(folder):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return os.path.join(self.root, path) if path else self.root


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_durable_directory(path: str) -> None:
    """A directory that a power cut does not take back: each new name is synced in its parent."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_durable_directory(parent)
    os.makedirs(path, mode=DIRECTORY_MODE, exist_ok=True)
    _sync_directory(parent)
