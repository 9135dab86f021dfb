"""Archive to directory (io): whole and verified, or not at all.

    packed bytes --read--> entries --> .unpack-XXXX --digest right?--> rename --> destination

Every file is created relative to the descriptor of the directory that this extraction made itself,
with O_EXCL and O_NOFOLLOW, so no link in the archive or in a neighbouring directory can redirect a
write, even if a check of `paths` were wrong.  Entries come parents first and depth first, so the
open directories form a stack.  The tree belongs to the caller (root, on a node) and is read-only
for all: many components share it.  Nothing is visible under the destination's name before the last
byte was checked; on any failure the temporary directory is removed.  A crash leaves a directory
called `.unpack-*`, which `remove_leftovers` takes away.  Durability is not sought: see `unpacked`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from paas.base.errors import PlatformError
from paas.bundle import archive, digest, files
from paas.bundle.tar_format import Entry, Kind

TEMPORARY_PREFIX = ".unpack-"

_DIRECTORY_MODE = 0o555
_FILE_MODE = 0o444
_PROGRAM_MODE = 0o555
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(chunks: Iterable[bytes], destination: Path, expected: digest.Digest) -> None:
    """Unpack the archive with this digest to `destination`, which must not exist.

    Raises `invalid`, `limit-exceeded` or `corrupt` naming the entry, or `storage-full`.
    """
    if destination.exists() or destination.is_symlink():
        raise PlatformError("conflict", f"{destination}: something is there already")
    with files.reporting_full_disk():
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=destination.parent))
        try:
            _unpack(digest.verified(chunks, expected), temporary)
            os.rename(temporary, destination)
        except BaseException:
            files.remove_tree(temporary)
            raise


def remove_leftovers(parent: Path) -> list[str]:
    """Remove what crashed extractions left in a directory; their names, for the log."""
    found = sorted(name for name in os.listdir(parent) if name.startswith(TEMPORARY_PREFIX))
    for name in found:
        files.remove_tree(parent / name)
    return found


def _unpack(chunks: Iterable[bytes], root: Path) -> None:
    stack = _Stack(os.open(root, _ENTER))
    try:
        for entry, content in archive.read(chunks):
            names = entry.path.decode().split("/")
            stack.go(names[:-1])
            if entry.kind is Kind.DIRECTORY:
                stack.enter(names[-1])
            elif entry.kind is Kind.LINK:
                os.symlink(entry.target, names[-1], dir_fd=stack.top)
            else:
                _write_file(entry, content, names[-1], stack.top)
    finally:
        stack.close()


def _write_file(entry: Entry, content: Iterator[bytes], name: str, directory: int) -> None:
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        for piece in content:
            files.write_all(descriptor, piece)
        os.fchmod(descriptor, _PROGRAM_MODE if entry.executable else _FILE_MODE)
    finally:
        os.close(descriptor)


class _Stack:
    """The directories from the root to where entries are being written, open."""

    def __init__(self, root: int) -> None:
        self._names: list[str] = []
        self._descriptors = [root]

    @property
    def top(self) -> int:
        return self._descriptors[-1]

    def enter(self, name: str) -> None:
        """Make a directory below the top, and go there."""
        os.mkdir(name, 0o700, dir_fd=self.top)
        self._descriptors.append(os.open(name, _ENTER, dir_fd=self.top))
        self._names.append(name)

    def go(self, names: list[str]) -> None:
        """Leave directories until the top is the one with this path."""
        while self._names != names[: len(self._names)]:
            self._leave()
        while len(self._names) > len(names):
            self._leave()
        if self._names != names:
            raise AssertionError("the reader lets no entry come before its directory")

    def close(self) -> None:
        while self._descriptors:
            self._leave()

    def _leave(self) -> None:
        """Nothing more comes into this directory: it becomes read-only."""
        descriptor = self._descriptors.pop()
        try:
            os.fchmod(descriptor, _DIRECTORY_MODE)
        finally:
            os.close(descriptor)
        if self._names:
            self._names.pop()
