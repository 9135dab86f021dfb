"""Who uses what, on disk (io): an empty file per (thing, user), so a reference cannot be half-made.

    <root>/<thing>/<user, percent-encoded>

A reference is a set member, not a counter: taking it twice is one reference, dropping it twice is
none, so a repeated command or a restart in the middle counts right.  Creating and removing a file
is atomic; with `durable` the directories are synced too.
"""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from pathlib import Path

from paas.base.errors import PlatformError
from paas.bundle import files, limits


class References:
    """The users of each thing; a thing is a plain word such as the digits of a digest."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        self._root = root
        self._durable = durable
        files.make_directory(root, 0o700)

    def add(self, thing: str, user: str) -> None:
        folder = self._root / thing
        if len(self.users(thing)) >= limits.REFERENCES_MAX:
            raise PlatformError(
                "limit-exceeded", f"more than {limits.REFERENCES_MAX} users refer to one bundle"
            )
        with files.reporting_full_disk():
            files.make_directory(folder, 0o700)
            descriptor = os.open(folder / _file_name(user), os.O_CREAT | os.O_WRONLY, 0o600)
            os.close(descriptor)
            self._sync(folder)

    def drop(self, thing: str, user: str) -> None:
        """Take a reference back; one that is not there is no error."""
        folder = self._root / thing
        with contextlib.suppress(FileNotFoundError):
            (folder / _file_name(user)).unlink()
            self._sync(folder)
        with contextlib.suppress(OSError):  # not empty, or gone: both are right
            folder.rmdir()

    def users(self, thing: str) -> list[str]:
        """Who refers to it, sorted."""
        try:
            return sorted(urllib.parse.unquote(name) for name in os.listdir(self._root / thing))
        except FileNotFoundError:
            return []

    def things(self) -> list[str]:
        """Everything that has a user."""
        return sorted(name for name in os.listdir(self._root) if self.users(name))

    def _sync(self, folder: Path) -> None:
        if self._durable:
            files.sync_directory(folder)


def _file_name(user: str) -> str:
    name = urllib.parse.quote(user, safe="@+")
    # Quoting leaves dots alone, and "." and ".." are no names.
    name = name.replace(".", "%2E") if name.strip(".") == "" else name
    if not name or len(name) > limits.NAME_BYTES_MAX:
        raise PlatformError(
            "invalid", f"{user!r}: expected a name of moderate length", field="user"
        )
    return name
