"""Persistent volumes: an ext4 file system in a file of exact size, mounted with shifted owners.

The whole size is set aside when the file is made, so that a full disk refuses a volume and never
breaks one.  Owners are stored as they are inside (component 1000); a container, whose users are a
range of the host's, sees them right through an identifier-mapped mount.  Where the kernel has none,
owners are rewritten at the mount, and the range they are of is noted on the file system's root.

What was never written is a hole; content is read, sent and digested without holes, in blocks.  The
digest is of the content, not of how the file is stored: blocks of zeros count for nothing.

The image must be in use by nobody when it is read, grown or attached: `is_attached` tells.
Sources: mount_setattr(2), "ID-mapped mounts"; ext4(5); lseek(2), SEEK_DATA.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from paas.real import kernel_loop
from paas.real import kernel_mounts as mounts
from paas.real import kernel_namespaces as namespaces
from paas.real.kernel_calls import (
    SYS_MOUNT_SETATTR,
    SYS_MOVE_MOUNT,
    SYS_OPEN_TREE,
    system_call,
)

BLOCK_BYTES = 64 << 10
MOUNT_FLAGS = mounts.NO_SUID | mounts.NO_DEV | mounts.NO_ATIME
MOUNT_OPTIONS = "errors=remount-ro"

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_OWNERS_NOTE = "trusted.paas.owners"
_RANGE = 65_536
_ATTR_IDMAP = 0x00100000
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH = 0x1000
_AT_CWD = -100
_MOVE_FROM_EMPTY_PATH = 0x4
_FSCK_UNCORRECTED = 4
_ZEROS = bytes(BLOCK_BYTES)


class Damaged(Exception):
    """The file system in an image needs a person to repair it."""


def missing() -> str | None:
    """What this machine lacks for volumes, if anything."""
    for program in ("mkfs.ext4", "e2fsck", "resize2fs"):
        if shutil.which(program, path=_PATH) is None:
            return f"{program} (package e2fsprogs)"
    return kernel_loop.missing()


# -- images ----------------------------------------------------------------------------------------


def reserve(path: str, size_bytes: int) -> None:
    """An empty file of this size, its space set aside where the host's file system can."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _set_size(fd, size_bytes)
    finally:
        os.close(fd)


def _set_size(fd: int, size_bytes: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    os.ftruncate(fd, size_bytes)


def make_image(path: str, size_bytes: int, owner: int) -> None:
    """An empty file system that belongs to this user; `path` exists when all of it is durable."""
    fresh = f"{path}.new"
    Path(fresh).unlink(missing_ok=True)
    reserve(fresh, size_bytes)
    extended = f"lazy_itable_init=1,nodiscard,root_owner={owner}:{owner}"
    # The block of the device that it will be on: no file system may have a smaller one.
    options = ["-b", "4096", "-m", "0", "-E", extended]
    _run("mkfs.ext4", "-q", "-F", *options, fresh)
    sync(fresh)
    os.rename(fresh, path)
    sync(os.path.dirname(path))


def make_ready(path: str, size_bytes: int) -> None:
    """Repair what a crash left, and grow it to this size; it never shrinks.

    Raises `Damaged`.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        grow = os.fstat(fd).st_size < size_bytes
        if grow:
            _set_size(fd, size_bytes)
    finally:
        os.close(fd)
    done = _attempt("e2fsck", *(["-f"] if grow else []), "-p", path)
    if done.returncode >= _FSCK_UNCORRECTED:
        raise Damaged(f"e2fsck: {(done.stdout + done.stderr).strip()[-300:]}")
    if grow:
        _run("resize2fs", path)


def _run(*words: str) -> None:
    done = _attempt(*words)
    if done.returncode:
        text = (done.stderr or done.stdout).strip()[-300:]
        full = "No space left" in text
        raise OSError(errno.ENOSPC if full else errno.EIO, f"{words[0]}: {text}")


def _attempt(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(name, path=_PATH) or name
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def sync(path: str) -> None:
    """Make a file, or the entries of a directory, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- who uses it -----------------------------------------------------------------------------------


def is_attached(path: str) -> bool:
    """Is there a block device with this file as its content?"""
    for found in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if found.read_text().rstrip("\n") == path:
                return True
        except OSError:
            continue  # it was given back at this moment
    return False


def attach(path: str) -> kernel_loop.Disk:
    """A block device with the image, which is gone when nobody has it open or mounted."""
    image = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(image).st_size
        device, fd = kernel_loop.attach(image)
    finally:
        os.close(image)
    return kernel_loop.Disk(size, device, fd)


def open_id_map(base: int, count: int = _RANGE) -> int:
    """A user namespace that maps 0..count-1 to base..base+count-1, for mounts; nobody is in it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    ready, told = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            namespaces.unshare(namespaces.NEW_USER)
            os.write(told, b"u")
            os.read(reader, 1)  # until the other end is closed
        finally:
            os._exit(0)
    os.close(reader)
    os.close(told)
    try:
        if os.read(ready, 1) != b"u":
            raise OSError(errno.EPERM, "no user namespace could be made")
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            namespaces.write_id_maps(proc, pid, base, count)
        finally:
            os.close(proc)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(writer)
        os.waitpid(pid, 0)


# -- in the container's own mount namespace --------------------------------------------------------


def mount(device: str, target: str, user_namespace: str, base: int) -> None:
    """Mount the file system of a device so that its owners are `base` and above for the host.

    `user_namespace` is the path of one that maps so; empty where there is none.
    """
    mounts.mount(device, target, "ext4", MOUNT_FLAGS, MOUNT_OPTIONS)
    _remove_empty(f"{target}/lost+found")
    if user_namespace:
        try:
            _shift_view(target, user_namespace, base)
            return
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
                raise
    shift_owners(target, base)


def _shift_view(target: str, user_namespace: str, base: int) -> None:
    if _noted(target):
        shift_owners(target, 0)  # a kernel without such mounts had it before
    namespace = os.open(user_namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        view = _clone(target)
        try:
            attr = struct.pack("=QQQQ", _ATTR_IDMAP, 0, 0, namespace)
            _set_attributes(view, attr)
            mounts.unmount(target)
            _put(view, target)
        finally:
            os.close(view)
    finally:
        os.close(namespace)


def _clone(target: str) -> int:
    path = ctypes.c_char_p(target.encode())
    how = _OPEN_TREE_CLONE | os.O_CLOEXEC
    return system_call(SYS_OPEN_TREE, f"open a view of {target}", _AT_CWD, path, how)


def _set_attributes(view: int, attributes: bytes) -> None:
    empty = ctypes.c_char_p(b"")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    system_call(
        SYS_MOUNT_SETATTR,
        "shift the owners of a mount",
        view,
        empty,
        _AT_EMPTY_PATH,
        buffer,
        len(attributes),
    )


def _put(view: int, target: str) -> None:
    system_call(
        SYS_MOVE_MOUNT,
        f"mount at {target}",
        view,
        ctypes.c_char_p(b""),
        _AT_CWD,
        ctypes.c_char_p(target.encode()),
        _MOVE_FROM_EMPTY_PATH,
    )


def _remove_empty(path: str) -> None:
    """mkfs makes a directory that programs which want an empty one stumble over."""
    try:
        os.rmdir(path)
    except OSError:
        return


def shift_owners(root: str, base: int) -> None:
    """Rewrite all owners from the range that they are of to that at `base`; may be repeated."""
    note = _noted(root)
    old = note[0] if note else 0
    if note == (base, base) or (not note and base == 0):
        return
    # While it goes on the note names both: what is of the new range has been done already.
    _note(root, old, base)
    for path in _entries(root):
        facts = os.lstat(path)
        uid, gid = _shifted(facts.st_uid, old, base), _shifted(facts.st_gid, old, base)
        if (uid, gid) != (facts.st_uid, facts.st_gid):
            os.lchown(path, uid, gid)
            if not stat.S_ISLNK(facts.st_mode):  # changing the owner drops set-id bits
                os.chmod(path, stat.S_IMODE(facts.st_mode))
    _note(root, base, base)


def _shifted(number: int, old: int, base: int) -> int:
    return number - old + base if old <= number < old + _RANGE else number


def _entries(root: str) -> Iterator[str]:
    yield root
    for folder, directories, files in os.walk(root):
        for name in (*directories, *files):
            yield os.path.join(folder, name)


def _noted(root: str) -> tuple[int, int] | None:
    try:
        old, new = os.getxattr(root, _OWNERS_NOTE).split(b" ")
    except OSError as exc:
        if exc.errno == errno.ENODATA:
            return None
        raise
    return int(old), int(new)


def _note(root: str, old: int, new: int) -> None:
    if old == new == 0:
        os.removexattr(root, _OWNERS_NOTE)
    else:
        os.setxattr(root, _OWNERS_NOTE, f"{old} {new}".encode())


# -- content ---------------------------------------------------------------------------------------


def _blocks(fd: int, offset: int) -> Iterator[tuple[int, bytes]]:
    """Every block with something in it, from the one that `offset` is in."""
    size = os.fstat(fd).st_size
    offset -= offset % BLOCK_BYTES
    while offset < size:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # only a hole follows
                return
            raise
        offset -= offset % BLOCK_BYTES
        data = os.pread(fd, BLOCK_BYTES, offset)
        if data != _ZEROS[: len(data)]:
            yield offset, data
        offset += BLOCK_BYTES


def content_bytes(path: str) -> int:
    """How much of it was ever written: its length without the holes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        total = at = 0
        while True:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as exc:
                if exc.errno == errno.ENXIO:
                    return total
                raise
            end = os.lseek(fd, at, os.SEEK_HOLE)
            total, at = total + end - at, end
    finally:
        os.close(fd)


def read_piece(path: str, offset: int, limit: int) -> tuple[int, bytes, int]:
    """(where, content, size of the whole) of the first content at or after `offset`.

    The content is whole blocks that follow each other, at most `limit` bytes; empty at the end.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        start, data = -1, b""
        for at, block in _blocks(fd, offset):
            if start < 0:
                start = at
            elif at != start + len(data):
                break
            data += block
            if len(data) + BLOCK_BYTES > limit:
                break
    finally:
        os.close(fd)
    return (start, data, size) if data else (size, b"", size)


def write_piece(path: str, offset: int, data: bytes) -> None:
    """Put content where it belongs, within the size that was set aside."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if offset < 0 or offset + len(data) > os.fstat(fd).st_size:
            raise OSError(errno.EFBIG, "beyond the end of the volume")
        while data:
            count = os.pwrite(fd, data, offset)
            offset, data = offset + count, data[count:]
    finally:
        os.close(fd)


def digest(path: str) -> tuple[int, str]:
    """The size, and a SHA-256 over it and all blocks that are not zero, each with its place."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        found = hashlib.sha256(struct.pack(">Q", size))
        for offset, block in _blocks(fd, 0):
            found.update(struct.pack(">Q", offset))
            found.update(block)
    finally:
        os.close(fd)
    return size, found.hexdigest()


def used_bytes(path: str) -> int:
    """What is in use by the file system's own count, its tables not included.

    It is read from the superblock, which a mount writes now and then: it may lag behind.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        block = os.pread(fd, 1024, 1024)
    finally:
        os.close(fd)
    if len(block) < 1024 or struct.unpack_from("<H", block, 0x38)[0] != 0xEF53:
        return 0
    total, _, free = struct.unpack_from("<III", block, 0x4)
    shift: int = struct.unpack_from("<I", block, 0x18)[0]
    overhead: int = struct.unpack_from("<I", block, 0x248)[0]  # known once it was mounted
    return int(max(0, total - overhead - free) << (10 + shift))
