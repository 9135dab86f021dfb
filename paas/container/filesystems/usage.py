"""How much of its file system a component has filled.

The root of a container is looked at by way of its first process; what is below an overlay answers
for it.  On Btrfs the answer would be of the whole file system: there the quota group is asked.  Its
figure is of the last transaction (up to 30 s old), and files are not counted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from paas.real import kernel_btrfs


class Files(Protocol):
    """What is needed of a container's record."""

    @property
    def filesystem(self) -> str: ...

    @property
    def disk_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes and files in use, and how many there may be; 0 where it is not known."""

    used_bytes: int = 0
    bytes_max: int = 0
    inodes: int = 0
    inodes_max: int = 0


def disk_usage(pid: int, files: Files) -> DiskUsage:
    """What the container whose first process is `pid` has written; nothing of one that ended."""
    root = f"/proc/{pid}/root"
    try:
        if files.filesystem == "btrfs":
            return DiskUsage(kernel_btrfs.usage(f"{root}/")[1], files.disk_bytes)
        found = os.statvfs(root)
    except OSError:
        return DiskUsage()
    return DiskUsage(
        used_bytes=(found.f_blocks - found.f_bfree) * found.f_frsize,
        bytes_max=files.disk_bytes,
        inodes=found.f_files - found.f_ffree,
        inodes_max=found.f_files,
    )
