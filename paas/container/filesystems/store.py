"""Snapshots of components' files on this node: their places, facts, and orders to go back to them.

    snapshots/COMPONENT/NAME/info.json   what is known of it
    snapshots/COMPONENT/NAME/data        the content, as the file system keeps it
    snapshots/COMPONENT/.NAME            one that is being made or removed; cleared at the start
    snapshots/COMPONENT/.order.json      go back to this one at the next start

A snapshot is there when its directory has its name, and that is the last step of making it and the
first of removing it.  They belong to the component, not to one container of it: they stay when it
is restarted, and go when it is destroyed or forgotten.

An order to go back stands until a container with the snapshot's files has run; so a start that
fails, or a controller that dies in between, does not lose it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec

from paas.base import ids
from paas.base.errors import invalid
from paas.bundle.files import reporting_full_disk
from paas.container.filesystems.contract import SNAPSHOT_DATA, SnapshotInfo

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_INFO = "info.json"
_ORDER = ".order.json"
_UNDONE = "."
_FROZEN = "frozen"
"""Beside the content while it is made: the component was stopped for it."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Go back to the snapshot `name`; `token` tells this order from an earlier one."""

    name: str
    token: str


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise invalid("name", "lower-case letters, digits and -, at most 40")
    return name


class SnapshotStore:
    """See the module's text.  Short file operations; content is the file systems' affair."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def path(self, component: str, name: str) -> str:
        return f"{self._directory}/{component}/{check_name(name)}"

    # -- looking ----------------------------------------------------------------------------

    def components(self) -> list[str]:
        return sorted(name for name in os.listdir(self._directory) if ids.is_id(name))

    def kept(self, component: str = "") -> list[SnapshotInfo]:
        """Those of one component or of all, the oldest first."""
        found: list[SnapshotInfo] = []
        for owner in [component] if component else self.components():
            with suppress(FileNotFoundError):
                names = [n for n in os.listdir(f"{self._directory}/{owner}") if _NAME.fullmatch(n)]
                infos = (self.info(owner, name) for name in names)
                found += (info for info in infos if info is not None)
        return sorted(found, key=lambda info: (info.component, info.made_ms, info.name))

    def info(self, component: str, name: str) -> SnapshotInfo | None:
        try:
            data = Path(self.path(component, name), _INFO).read_bytes()
            return msgspec.json.decode(data, type=SnapshotInfo)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    # -- making and removing ----------------------------------------------------------------

    def begin(self, component: str, name: str) -> str:
        """An empty directory for the content; not yet the snapshot."""
        path = f"{self._directory}/{component}/{_UNDONE}{check_name(name)}"
        with reporting_full_disk():
            os.makedirs(path, mode=0o700)
        return path

    def sync(self, path: str) -> None:
        """Have the content at `path` on the disk; called in a thread."""
        with reporting_full_disk():
            fd = os.open(f"{path}/{SNAPSHOT_DATA}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def finish(self, path: str, info: SnapshotInfo) -> None:
        """From now on the content at `path` is the snapshot that `info` tells of."""
        with reporting_full_disk():
            Path(path, _INFO).write_bytes(msgspec.json.encode(info))
            os.rename(path, self.path(info.component, info.name))

    def set_aside(self, component: str, name: str) -> str:
        """It is no snapshot from now on; returns where its content is."""
        path = f"{self._directory}/{component}/{_UNDONE}{check_name(name)}"
        os.rename(self.path(component, name), path)
        return path

    def forget(self, path: str) -> None:
        """Remove what is left of one whose content has been removed."""
        for name in (_INFO, _FROZEN):
            with suppress(FileNotFoundError):
                os.unlink(f"{path}/{name}")
        with suppress(FileNotFoundError):
            os.rmdir(path)
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))  # the last of its component

    def mark_frozen(self, path: str, on: bool) -> None:
        """The component is (about to be) stopped for the snapshot that is made at `path`."""
        if on:
            Path(path, _FROZEN).touch()
        else:
            os.unlink(f"{path}/{_FROZEN}")

    def froze(self, path: str) -> bool:
        """Was the component stopped for what is left at `path`?"""
        return os.path.exists(f"{path}/{_FROZEN}")

    def undone(self) -> dict[str, list[str]]:
        """Component to the places of what was being made or removed when a controller ended."""
        found: dict[str, list[str]] = {}
        for component in self.components():
            directory = f"{self._directory}/{component}"
            found[component] = [
                f"{directory}/{name}"
                for name in os.listdir(directory)
                if name.startswith(_UNDONE)
                and name != _ORDER
                and os.path.isdir(f"{directory}/{name}")
            ]
        return found

    # -- orders to go back ------------------------------------------------------------------

    def order(self, component: str, order: Order) -> None:
        path = f"{self._directory}/{component}/{_ORDER}"
        fresh = f"{path}.new"
        with reporting_full_disk():
            Path(fresh).write_bytes(msgspec.json.encode(order))
            os.rename(fresh, path)

    def ordered(self, component: str) -> Order | None:
        try:
            data = Path(self._directory, component, _ORDER).read_bytes()
            return msgspec.json.decode(data, type=Order)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def fulfilled(self, component: str, token: str) -> None:
        """The order was followed; a newer one stands."""
        order = self.ordered(component)
        if order is not None and order.token == token:
            self.withdraw(component)

    def withdraw(self, component: str) -> None:
        for name in (_ORDER, f"{_ORDER}.new"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._directory}/{component}/{name}")
