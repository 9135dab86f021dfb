"""What every file system of containers offers; `tests/system/container/filesystems` runs on all.

    template   what all containers of one base and bundle share; made once, never written to
    take       a writable clone of the template for one container, bounded in bytes
    drop       remove what of it has a name on the host
    snapshot   keep the files of a running container under a path
    restore    a writable clone of a snapshot, in place of one of the template

Rules: `take` and `restore` leave nothing behind when they fail, or what `drop` removes.  `drop`
knows only a path, works after a crash at any point, and a second time.  A component that has filled
its clone gets an error (`ENOSPC`; on Btrfs `EDQUOT`), and nobody else does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import msgspec

from paas.container.hooks.contract import WantedFiles, WritableLayer
from paas.container.plan import Base

_KEY_DIGITS = 40

SNAPSHOT_DATA = "data"
"""Name of the content in the directory of a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A running container whose files are to be kept."""

    directory: str
    device: str
    pid: int


class SnapshotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a snapshot; kept beside its content."""

    name: str
    component: str
    incarnation: int
    made_ms: int
    filesystem: str
    files_key: str
    uid_base: int
    """Range of the owners of the files, as they are on the disk."""
    disk_bytes: int
    """Bound of the container that it was made of."""
    size_bytes: int = 0
    """What it takes on the node's disk (on Btrfs: at most, parts may be shared)."""


def files_key(base: Base, bundle_dir: str) -> str:
    """Tells one pair of base and bundle from all others: bundles have places of their own."""
    text = repr((base.name, base.stack, bundle_dir))
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


class FileSystem(Protocol):
    """See the module's text."""

    @property
    def name(self) -> str: ...

    @property
    def momentary(self) -> bool:
        """A snapshot is of one moment, whoever writes meanwhile; else the component must stand."""
        ...

    async def take(self, wanted: WantedFiles) -> WritableLayer: ...

    async def restore(
        self, wanted: WantedFiles, snapshot: SnapshotInfo, path: str
    ) -> WritableLayer:
        """Raises `invalid` where the content does not fit in the wanted size."""
        ...

    async def before_snapshot(self, source: Source) -> None:
        """What can be done while the component still runs, so that it stands still for less."""
        ...

    async def snapshot(self, source: Source, path: str) -> int:
        """Write the files to `path`, a directory that exists; returns its size in bytes.

        Raises `unsupported` where the files are in memory, `storage-full`.
        """
        ...

    async def drop(self, directory: str) -> None: ...

    async def run(self) -> None:
        """Keep some clones ready, until cancelled."""
        ...

    def close(self) -> None:
        """Let go of what is kept ready."""
        ...

    async def remove_all(self) -> None:
        """Remove the templates and whatever else the node's directory cannot just be emptied of."""
        ...


def unsupported_in_memory() -> tuple[str, str]:
    """(text, hint) of the refusal to keep files that are in memory."""
    return (
        "the files of this component are in memory; no snapshot can be made of them",
        "on the node: loop devices and mkfs.ext4, or the state directory on Btrfs (paas doctor)",
    )
