"""Mounts: bind, overlay, tmpfs, proc, detached trees, and the change of root.

Everything is done in the mount namespace of the caller.  The container controller calls these only
inside a container's own namespace, so the host's mount table never changes and nothing has to be
undone: the mounts end with the namespace's last process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Sequence

from paas.real import kernel_namespaces as namespaces
from paas.real.kernel_calls import (
    SYS_FSCONFIG,
    SYS_FSMOUNT,
    SYS_FSOPEN,
    SYS_MOUNT_SETATTR,
    SYS_MOVE_MOUNT,
    SYS_OPEN_TREE,
    SYS_PIVOT_ROOT,
    call,
    system_call,
)

READ_ONLY = 1
NO_SUID = 2
NO_DEV = 4
NO_EXEC = 8
REMOUNT = 32
NO_ATIME = 1024
BIND = 4096
RECURSIVE = 16384
PRIVATE = 1 << 18

_DETACH = 2
_OPEN_TREE_CLONE = 1
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_MOVE_EMPTY_PATH = 0x4
_ATTR_ID_MAP = 0x00100000
_MOUNT_DATA_BYTES = 4000
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_CLOSE = 1
_ATTR_NEW = {READ_ONLY: 0x1, NO_SUID: 0x2, NO_DEV: 0x4, NO_EXEC: 0x8, NO_ATIME: 0x10}
_ATTR = {READ_ONLY: 0x1, NO_SUID: 0x2, NO_DEV: 0x4, NO_EXEC: 0x8}


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2) of a file system of `kind`."""
    call(
        "mount",
        f"mount {kind} at {target}",
        source.encode(),
        target.encode(),
        kind.encode(),
        flags,
        data.encode() if data else None,
    )


def detached(source: str, kind: str, flags: int, options: Sequence[str]) -> int:
    """A descriptor of a mount that is nowhere: it ends with the descriptor, or is put somewhere.

    Mounting a device takes milliseconds; so done ahead of need, `put` takes none.
    """
    empty = ctypes.c_char_p(None)
    context = system_call(SYS_FSOPEN, f"open a {kind}", ctypes.c_char_p(kind.encode()), _CLOSE)
    try:

        def configure(command: int, key: str = "", value: str = "") -> None:
            name = ctypes.c_char_p(key.encode()) if key else empty
            text = ctypes.c_char_p(value.encode()) if value else empty
            attempt = f"configure a {kind}: {key or 'create'}"
            system_call(SYS_FSCONFIG, attempt, context, command, name, text, 0)

        configure(_SET_STRING, "source", source)
        for option in options:
            key, _, value = option.partition("=")
            configure(_SET_STRING if value else _SET_FLAG, key, value)
        configure(_CREATE)
        wanted = sum(attribute for flag, attribute in _ATTR_NEW.items() if flags & flag)
        return system_call(SYS_FSMOUNT, f"mount a {kind}", context, _CLOSE, wanted)
    finally:
        os.close(context)


def put(path: str, target: str) -> None:
    """Mount at `target` what `path` (of a descriptor of `detached`, in any process) stands for."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        empty, goal = ctypes.c_char_p(b""), ctypes.c_char_p(target.encode())
        attempt = f"put a mount at {target}"
        system_call(SYS_MOVE_MOUNT, attempt, fd, empty, -100, goal, _MOVE_EMPTY_PATH)
    finally:
        os.close(fd)


def make_private() -> None:
    """Stop every propagation between this namespace and the one it was copied from."""
    call("mount", "make mounts private", None, b"/", None, RECURSIVE | PRIVATE, None)


def bind(source: str, target: str, flags: int, *, recursive: bool = False) -> None:
    """Show `source` at `target` too, with `flags` enforced on the new view (and below it)."""
    how = BIND | (RECURSIVE if recursive else 0)
    call("mount", f"bind {source} at {target}", source.encode(), target.encode(), None, how, None)
    if flags:
        set_flags(target, flags, recursive=recursive)


def set_flags(target: str, flags: int, *, recursive: bool = False) -> None:
    """Add restrictions to a mount; in one system call for a whole tree where the kernel can."""
    wanted = 0
    for flag, attribute in _ATTR.items():
        wanted |= attribute if flags & flag else 0
    attr = _MountAttr(wanted, 0, 0, 0)
    try:
        system_call(
            SYS_MOUNT_SETATTR,
            f"restrict {target}",
            -100,
            ctypes.c_char_p(target.encode()),
            _AT_RECURSIVE if recursive else 0,
            ctypes.byref(attr),
            ctypes.sizeof(attr),
        )
    except OSError:
        if recursive:
            raise
        how = REMOUNT | BIND | flags
        call("mount", f"restrict {target}", None, target.encode(), None, how, None)


def overlay(lowers: Sequence[str], upper: str, work: str, target: str, flags: int) -> None:
    """A copy-on-write view of `lowers`, the uppermost first, whose changes go to `upper`."""
    for path in (*lowers, upper, work):
        if any(mark in path for mark in ",:\\"):
            raise ValueError(f"an overlay layer's path may not contain , : or \\ ({path})")
    data = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work}"
    if len(data) < _MOUNT_DATA_BYTES:
        mount("overlay", target, "overlay", flags, data)
        return
    # The kernel takes one page of options; a descriptor is a short name for a directory.
    fds = [os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for lower in lowers]
    try:
        short = ":".join(f"/proc/self/fd/{fd}" for fd in fds)
        data = f"lowerdir={short},upperdir={upper},workdir={work}"
        mount("overlay", target, "overlay", flags, data)
    finally:
        for fd in fds:
            os.close(fd)


def show_owners_as(target: str, ranges: Sequence[tuple[int, int, int]]) -> None:
    """Cover the mount at `target` with a view of it in which owners are others.

    `ranges`: (first on the disk, first as seen, count).  What is made through the view goes the
    other way.  Raises `EINVAL` or `ENOSYS` where kernel or file system cannot.
    """
    users = _mapping(ranges)
    try:
        fd = system_call(
            SYS_OPEN_TREE,
            f"open a view of {target}",
            -100,
            ctypes.c_char_p(target.encode()),
            _OPEN_TREE_CLONE | os.O_CLOEXEC,
        )
        try:
            attr = _MountAttr(_ATTR_ID_MAP, 0, 0, users)
            system_call(
                SYS_MOUNT_SETATTR,
                f"map the owners of {target}",
                fd,
                ctypes.c_char_p(b""),
                _AT_EMPTY_PATH,
                ctypes.byref(attr),
                ctypes.sizeof(attr),
            )
            empty, path = ctypes.c_char_p(b""), ctypes.c_char_p(target.encode())
            attempt = f"show the view at {target}"
            system_call(SYS_MOVE_MOUNT, attempt, fd, empty, -100, path, _MOVE_EMPTY_PATH)
        finally:
            os.close(fd)
    finally:
        os.close(users)


def _mapping(ranges: Sequence[tuple[int, int, int]]) -> int:
    """A descriptor of a user namespace with these ranges, in which nobody is.

    A child makes it; its maps are written from here, since the child has no right to.
    """
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            here.close()  # its end must be the parent's alone, or it would never be seen to close
            namespaces.unshare(namespaces.NEW_USER)
            fd = os.open("/proc/self/ns/user", os.O_RDONLY)
            own = int(os.readlink("/proc/self"))  # as numbered in this /proc, which is the host's
            socket.send_fds(there, [own.to_bytes(8, "big")], [fd])
            there.recv(1)
        finally:
            os._exit(0)
    there.close()
    try:
        data, fds, _, _ = socket.recv_fds(here, 8, 1)
        if len(data) != 8 or len(fds) != 1:
            raise OSError(errno.EPERM, "no user namespace for a view with other owners")
        text = "".join(f"{disk} {seen} {count}\n" for disk, seen, count in ranges).encode()
        try:
            for name in ("uid_map", "gid_map"):
                fd = os.open(f"/proc/{int.from_bytes(data, 'big')}/{name}", os.O_WRONLY)
                try:
                    os.write(fd, text)
                finally:
                    os.close(fd)
        except BaseException:
            os.close(fds[0])
            raise
        return fds[0]
    finally:
        here.close()
        os.waitpid(child, 0)


def detached_view(path: str, flags: int) -> int:
    """A descriptor of a private view of `path` that is mounted nowhere.

    The view is a root of its own: `..` from it stays in it, so whoever holds the descriptor cannot
    walk to the rest of the host's tree.
    """
    fd = system_call(
        SYS_OPEN_TREE,
        f"open a view of {path}",
        -100,
        ctypes.c_char_p(path.encode()),
        _OPEN_TREE_CLONE | os.O_CLOEXEC,
    )
    wanted = 0
    for flag, attribute in _ATTR.items():
        wanted |= attribute if flags & flag else 0
    attr = _MountAttr(wanted, 0, 0, 0)
    try:
        system_call(
            SYS_MOUNT_SETATTR,
            f"restrict the view of {path}",
            fd,
            ctypes.c_char_p(b""),
            _AT_EMPTY_PATH,
            ctypes.byref(attr),
            ctypes.sizeof(attr),
        )
    except OSError:
        os.close(fd)
        raise
    return fd


def move(fd: int, target: str) -> None:
    """Move the mount whose root `fd` is, with all that is mounted below it, to `target`."""
    empty, path = ctypes.c_char_p(b""), ctypes.c_char_p(target.encode())
    system_call(SYS_MOVE_MOUNT, f"move to {target}", fd, empty, -100, path, _MOVE_EMPTY_PATH)


def change_root(new_root: str) -> None:
    """Make `new_root` (a mount point) the root; the old root disappears from this namespace."""
    os.chdir(new_root)
    here = ctypes.c_char_p(b".")
    system_call(SYS_PIVOT_ROOT, f"change root to {new_root}", here, here)
    call("umount2", "detach the old root", b".", _DETACH)
    os.chdir("/")


def unmount(target: str) -> None:
    call("umount2", f"unmount {target}", target.encode(), _DETACH)
