"""Writable layers of exact size: a file system in a nameless sparse file, on a loop device.

The file has no name from the beginning (O_TMPFILE) and the device clears itself when its last user
closes it, so a layer ends with the container that has mounted it (or with the controller that holds
it ready), whatever is killed and when.  Writing beyond the size gives ENOSPC; the host loses only
what was really written.

Formatting takes 10 ms; therefore one blank image is formatted per size and its few written blocks
are copied.  There is no journal in the file system: a layer never outlives its mount.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_SET_FD = 0x4C00
_LO_FLAGS_AUTOCLEAR = 4
_CONFIG_BYTES = 304
_CONFIG_FLAGS_OFFSET = 8 + 52
_BLOCK_BYTES = 4096
_TRIES = 64
_LOOP_MAJOR = 7

MOUNT_OPTIONS = "noinit_itable,nobarrier,errors=remount-ro"


@dataclass(frozen=True, slots=True)
class Disk:
    """A writable layer: held by `fd` until a container has mounted `device`."""

    size_bytes: int
    device: str
    fd: int

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


def missing() -> str | None:
    """What this machine lacks for layers in images, if anything."""
    if shutil.which("mkfs.ext4", path=_PATH) is None:
        return "mkfs.ext4 (package e2fsprogs)"
    if not Path("/dev/loop-control").exists():
        return "/dev/loop-control (kernel module loop)"
    return None


_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def format_blank(path: str, size_bytes: int) -> None:
    """Make an empty file system of this size in a sparse file."""
    fresh = f"{path}.new"
    with open(fresh, "wb") as file:
        file.truncate(size_bytes)
    program = shutil.which("mkfs.ext4", path=_PATH) or "mkfs.ext4"
    options = [
        "-b",
        str(_BLOCK_BYTES),
        "-O",
        "^has_journal,^resize_inode",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=1,nodiscard",
    ]
    done = subprocess.run(
        [program, "-q", "-F", *options, fresh], capture_output=True, text=True, check=False
    )
    if done.returncode:
        Path(fresh).unlink()
        raise OSError(errno.EIO, f"mkfs.ext4: {done.stderr.strip()[-400:]}")
    Path(fresh).rename(path)


def make_disk(blank: str, directory: str) -> Disk:
    """A new layer with the content of `blank`, stored namelessly in `directory`."""
    size = Path(blank).stat().st_size
    image = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(image, size)
        _copy_written(blank, image, size)
        device, fd = _attach(image)
    finally:
        os.close(image)
    return Disk(size, device, fd)


def _copy_written(blank: str, image: int, size: int) -> None:
    source = os.open(blank, os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset = 0
        while offset < size:
            try:
                start = os.lseek(source, offset, os.SEEK_DATA)
            except OSError as exc:
                if exc.errno == errno.ENXIO:  # only a hole follows
                    return
                raise
            end = os.lseek(source, start, os.SEEK_HOLE)
            os.pwrite(image, os.pread(source, end - start, start), start)
            offset = end
    finally:
        os.close(source)


def _attach(image: int) -> tuple[str, int]:
    """Bind a free loop device to the image; another process may be quicker, then the next one."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = f"/dev/loop{number}"
            fd = _open_device(device, number)
            config = bytearray(_CONFIG_BYTES)
            struct.pack_into("=II", config, 0, image, _BLOCK_BYTES)
            struct.pack_into("=I", config, _CONFIG_FLAGS_OFFSET, _LO_FLAGS_AUTOCLEAR)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, bytes(config))
            except OSError as exc:
                os.close(fd)
                if exc.errno != errno.EBUSY:
                    raise
                continue
            return device, fd
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no free loop device")


def _open_device(device: str, number: int) -> int:
    try:
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # A /dev without devtmpfs: the node of a new device does not appear by itself.
        os.mknod(device, 0o600 | stat.S_IFBLK, os.makedev(_LOOP_MAJOR, number))
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)
