"""The outside world as the platform sees it: every thing a core may not reach by itself.

A core is given ports, never the system, so that the same code runs on a real machine (`paas.real`)
and in a simulated one (virtual time, in-memory disks, one seed).  Waiting is always trio's, whose
clock a test can replace; `Clock` only tells what time it is.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells time.  Wall time is for records and expiry; monotonic time for durations."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since the Unix epoch (UTC)."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin; never goes back."""
        ...


class Entropy(Protocol):
    """Source of unpredictable bytes."""

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        ...

    def fraction(self) -> float:
        """A uniformly distributed number in [0, 1), for jitter and sampling."""
        ...


class File(Protocol):
    """An open file of a `Files` port.  Offsets and sizes are in bytes; failures raise OSError."""

    def read(self, offset: int, count: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` or raise OSError; a raise may leave a torn prefix behind."""
        ...

    def truncate(self, size: int) -> None: ...

    def size(self) -> int: ...

    def sync(self) -> None:
        """Return only when everything written is durable (fdatasync)."""
        ...

    def close(self) -> None: ...


class Files(Protocol):
    """A directory tree.  Paths are relative to its root, with `/`; failures raise OSError."""

    def open(self, path: str, *, create: bool = False) -> File: ...

    def exists(self, path: str) -> bool: ...

    def list(self, path: str = "") -> list[str]:
        """Sorted names in a directory."""
        ...

    def make_dir(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None:
        """Atomic replacement; durable only after `sync_dir` of the parent."""
        ...

    def remove(self, path: str) -> None: ...

    def sync_dir(self, path: str = "") -> None:
        """Make creations, renames and removals in the directory durable."""
        ...

    def free_bytes(self) -> int:
        """Space left for us on the device."""
        ...
