"""Small steps on real files that bundles need (io): durable names, whole removal, a full disk.

A name in a directory is durable only after the directory itself is synced; every function here that
says "durably" has done that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from paas.base.errors import PlatformError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def reporting_full_disk() -> Iterator[None]:
    """Turn the kernel's "no space" and "over quota" into `storage-full`."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise PlatformError("storage-full") from exc
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`: the kernel may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int) -> None:
    """Create a directory durably, with this mode whatever the umask; an existing one is left."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(mode)
            sync_directory(path.parent)


def empty_directory(path: Path) -> None:
    """Remove everything in a directory."""
    for name in os.listdir(path):
        remove_tree(path / name)


def remove_tree(path: Path) -> None:
    """Remove a file or a tree, read-only directories included; links are not followed."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        path.unlink(missing_ok=True)
        return
    path.chmod(0o700)
    for folder, names, _files in os.walk(path):
        for name in names:
            inner = Path(folder, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(path)
