"""Writable layers of exact size: a file system in a nameless sparse file, on a loop device.

The file has no name from the beginning (O_TMPFILE) and the device clears itself when its last user
closes it, so a layer ends with the container that has mounted it (or with the controller that holds
it ready), whatever is killed and when.  Writing beyond the size gives ENOSPC; the host loses only
what was really written.

Formatting takes 10 ms; therefore one blank image is formatted per size and its few written blocks
are copied.  There is no journal in the file system: a layer never outlives its mount, except as a
copy that was made while nobody wrote (`copy_out`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paas.real import kernel_mounts as mounts

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_SET_FD = 0x4C00
_LO_FLAGS_AUTOCLEAR = 4
_CONFIG_BYTES = 304
_CONFIG_FLAGS_OFFSET = 8 + 52
_BLOCK_BYTES = 4096
_PIECE_BYTES = 1 << 20
_RUN_BYTES = 16 << 10
_TRIES = 64
_LOOP_MAJOR = 7

MOUNT_OPTIONS = "noinit_itable,nobarrier,errors=remount-ro"


@dataclass(frozen=True, slots=True)
class Disk:
    """A writable layer: held by `fd` until a container has mounted `device`.

    `mount_fd`: it is mounted already, nowhere (-1: it is not); see `kernel_mounts.detached`.
    """

    size_bytes: int
    device: str
    fd: int
    mount_fd: int = -1

    @property
    def mount(self) -> str:
        """A path of that mount, for every process of the host's root; empty: there is none."""
        return f"/proc/{os.getpid()}/fd/{self.mount_fd}" if self.mount_fd >= 0 else ""

    def release(self) -> None:
        for fd in (self.mount_fd, self.fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


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


def make_disk(source: str, directory: str, size_bytes: int = 0) -> Disk:
    """A new layer with the content of `source`, stored namelessly in `directory`.

    With `size_bytes` it is made that large; raises `ENOSPC` when the content does not fit in it.
    """
    size = Path(source).stat().st_size
    image = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(image, size)
        _copy_written(source, image, size)
        if size_bytes and size_bytes != size:
            _resize(image, size, size_bytes)
            size = size_bytes
        device, fd = attach(image)
    finally:
        os.close(image)
    return Disk(size, device, fd, _mounted(device))


def _mounted(device: str) -> int:
    """-1 where the kernel cannot: then whoever needs it mounts it."""
    flags = mounts.NO_SUID | mounts.NO_DEV | mounts.NO_ATIME
    try:
        return mounts.detached(device, "ext4", flags, MOUNT_OPTIONS.split(","))
    except OSError:
        return -1


def _resize(image: int, size: int, wanted: int) -> None:
    path = f"/proc/self/fd/{image}"
    if wanted > size:
        os.ftruncate(image, wanted)
    blocks = str(wanted // _BLOCK_BYTES)
    for program, arguments in (("e2fsck", ("-f", "-y")), ("resize2fs", ("-f",))):
        found = shutil.which(program, path=_PATH) or program
        words = [found, *arguments, path, *([blocks] if program == "resize2fs" else [])]
        done = subprocess.run(words, capture_output=True, text=True, check=False, pass_fds=(image,))
        # e2fsck answers 1 when it has mended something, such as a count of free blocks.
        if done.returncode > (1 if program == "e2fsck" else 0):
            number = errno.ENOSPC if program == "resize2fs" else errno.EIO
            raise OSError(number, f"{program}: {done.stderr.strip()[-400:]}")
    os.ftruncate(image, wanted)


def copy_out(device: str, path: str, lives: Callable[[], bool], bytes_max: int) -> int:
    """Copy what is written on a mounted layer to a sparse file; returns the bytes it takes.

    The copy is not synced: nobody need stand still for that.

    Nobody may write to the layer meanwhile, and what was written must have been synced.  `lives`
    is asked when the device is open: from then on it cannot become somebody else's, and if the
    mount was there at that moment, it is the right one.  Raises `EFBIG` beyond `bytes_max`.
    """
    source = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    try:
        if not lives():
            raise OSError(errno.ENXIO, f"{device} is not in use any more")
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = os.lseek(source, 0, os.SEEK_END)
            os.ftruncate(target, size)
            written = _copy_not_zero(source, target, size, bytes_max)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return written


def _copy_not_zero(source: int, target: int, size: int, bytes_max: int) -> int:
    """What is not zero, block by block; reading a hole is as quick as clearing memory."""
    written, zeros = 0, bytes(_PIECE_BYTES)
    with mmap.mmap(-1, _PIECE_BYTES) as piece:  # aligned, as direct reading wants it
        for offset in range(0, size, _PIECE_BYTES):
            count = os.preadv(source, [piece], offset)
            if piece[:count] == zeros[:count]:
                continue
            for start in range(0, count, _RUN_BYTES):
                run = piece[start : min(start + _RUN_BYTES, count)]
                if run == zeros[: len(run)]:
                    continue
                written += len(run)
                if written > bytes_max:
                    raise OSError(errno.EFBIG, "the snapshot is too large")
                os.pwrite(target, run, offset + start)
    return written


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
            while start < end:
                data = os.pread(source, min(end - start, _PIECE_BYTES), start)
                start += os.pwrite(image, data, start)
            offset = end
    finally:
        os.close(source)


def attach(image: int) -> tuple[str, int]:
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
