"""Btrfs: subvolumes, snapshots of them, and quota groups, by ioctl.

A subvolume looks like a directory (its inode is 256) and has a quota group of its own, number
0/<its number>.  `referenced` counts what it can reach, `exclusive` what nobody else shares.  The
figures are those of the last transaction that the kernel has written (every 30 seconds, or at a
snapshot); the bounds hold at once, since space is reserved before it is written.

Numbers and structures: the kernel's include/uapi/linux/btrfs.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_MAGIC = 0x94
_WRITE, _READ = 1, 2
_NAME_AT = 8
_NAME_AT_2 = 56
_ARGS_BYTES = 4096
_ROOT_INODE = 256
_READ_ONLY = 1 << 1
_QUOTA_ENABLE = 1
_LIMIT_REFERENCED, _LIMIT_EXCLUSIVE = 1, 2
_SYSFS = Path("/sys/fs/btrfs")


def _request(direction: int, number: int, size: int) -> int:
    return (direction << 30) | (size << 16) | (_MAGIC << 8) | number


_SUBVOLUME_CREATE = _request(_WRITE, 14, _ARGS_BYTES)
_SUBVOLUME_DESTROY = _request(_WRITE, 15, _ARGS_BYTES)
_LOOK_UP = _request(_READ | _WRITE, 18, _ARGS_BYTES)
_SNAPSHOT_CREATE = _request(_WRITE, 23, _ARGS_BYTES)
_SYNC = _request(0, 8, 0)
_FILE_SYSTEM_INFO = _request(_READ, 31, 1024)
_QUOTA_CONTROL = _request(_READ | _WRITE, 40, 16)
_QUOTA_GROUP = _request(_WRITE, 42, 16)
_QUOTA_LIMIT = _request(_READ, 43, 48)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def identifier(path: str) -> str | None:
    """The UUID of the Btrfs that `path` is on; None when it is on something else."""
    data = bytearray(1024)
    with _opened(path) as fd:
        try:
            fcntl.ioctl(fd, _FILE_SYSTEM_INFO, data)
        except OSError as exc:
            if exc.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
                return None
            raise
    text = data[16:32].hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def is_subvolume(path: str) -> bool:
    """On Btrfs: is this the root of a subvolume?"""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return found.st_ino == _ROOT_INODE


def quota_enabled(path: str) -> bool:
    found = identifier(path)
    return found is not None and (_SYSFS / found / "qgroups").is_dir()


def enable_quota(path: str) -> None:
    """Switch quota groups on for the file system; on already is no error."""
    if quota_enabled(path):
        return
    with _opened(path) as fd:
        fcntl.ioctl(fd, _QUOTA_CONTROL, bytearray(struct.pack("=QQ", _QUOTA_ENABLE, 0)))


def create(path: str) -> None:
    """An empty subvolume."""
    parent, name = os.path.split(path)
    arguments = bytearray(_ARGS_BYTES)
    _put_name(arguments, _NAME_AT, name)
    with _opened(parent) as fd:
        fcntl.ioctl(fd, _SUBVOLUME_CREATE, arguments)


def snapshot(source: str, path: str, *, read_only: bool = False) -> None:
    """A subvolume with the content of `source` as it is now; one transaction is written."""
    parent, name = os.path.split(path)
    arguments = bytearray(_ARGS_BYTES)
    with _opened(source) as source_fd, _opened(parent) as fd:
        flags = _READ_ONLY if read_only else 0
        struct.pack_into("=qQQ", arguments, 0, source_fd, 0, flags)
        _put_name(arguments, _NAME_AT_2, name)
        fcntl.ioctl(fd, _SNAPSHOT_CREATE, arguments)


def destroy(path: str) -> None:
    """Remove a subvolume with all that is in it, and its quota group; nothing there is no error.

    The kernel empties it later; until then its quota group is in use, and where the kernel does not
    remove that by itself (before 6.11) it stays, as a few bytes that bound nobody.
    """
    parent, name = os.path.split(path)
    try:
        number = subvolume_number(path)
    except FileNotFoundError:
        return
    arguments = bytearray(_ARGS_BYTES)
    _put_name(arguments, _NAME_AT, name)
    with _opened(parent) as fd:
        fcntl.ioctl(fd, _SUBVOLUME_DESTROY, arguments)
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _QUOTA_GROUP, bytearray(struct.pack("=QQ", 0, number)))


def subvolume_number(path: str) -> int:
    """The number of the subvolume that `path` is in."""
    arguments = bytearray(_ARGS_BYTES)
    struct.pack_into("=QQ", arguments, 0, 0, _ROOT_INODE)
    with _opened(path) as fd:
        fcntl.ioctl(fd, _LOOK_UP, arguments)
    return int(struct.unpack_from("=Q", arguments, 0)[0])


def limit(path: str, *, referenced: int, exclusive: int) -> None:
    """Bound what the subvolume `path` may reach, and what it may have for itself, in bytes."""
    flags = _LIMIT_REFERENCED | _LIMIT_EXCLUSIVE
    arguments = bytearray(struct.pack("=QQQQQQ", 0, flags, referenced, exclusive, 0, 0))
    with _opened(path) as fd:
        fcntl.ioctl(fd, _QUOTA_LIMIT, arguments)


def synchronise(path: str) -> None:
    """Write a transaction of the whole file system; the figures of quota groups are of it then."""
    with _opened(path) as fd:
        fcntl.ioctl(fd, _SYNC)


def usage(path: str) -> tuple[int, int]:
    """(referenced, exclusive) bytes of the subvolume `path`, as last written."""
    found = identifier(path)
    group = _SYSFS / str(found) / "qgroups" / f"0_{subvolume_number(path)}"
    try:
        return (
            int((group / "referenced").read_text()),
            int((group / "exclusive").read_text()),
        )
    except FileNotFoundError:
        return 0, 0


def _put_name(arguments: bytearray, at: int, name: str) -> None:
    data = name.encode()
    if not data or len(data) > 255:
        raise ValueError("a subvolume's name has 1 to 255 bytes")
    arguments[at : at + len(data)] = data
