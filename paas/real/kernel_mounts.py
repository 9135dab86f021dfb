"""Mounts: bind, overlay, tmpfs, proc, detached trees, and the change of root.

Everything is done in the mount namespace of the caller.  The container controller calls these only
inside a container's own namespace, so the host's mount table never changes and nothing has to be
undone: the mounts end with the namespace's last process.
"""

from __future__ import annotations

import ctypes
import os

from paas.real.kernel_calls import (
    SYS_MOUNT_SETATTR,
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


def overlay(lower: str, upper: str, work: str, target: str, flags: int) -> None:
    """A copy-on-write view of `lower` whose changes go to `upper`."""
    for path in (lower, upper, work):
        if any(mark in path for mark in ",:\\"):
            raise ValueError(f"an overlay layer's path may not contain , : or \\ ({path})")
    mount("overlay", target, "overlay", flags, f"lowerdir={lower},upperdir={upper},workdir={work}")


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


def change_root(new_root: str) -> None:
    """Make `new_root` (a mount point) the root; the old root disappears from this namespace."""
    os.chdir(new_root)
    here = ctypes.c_char_p(b".")
    system_call(SYS_PIVOT_ROOT, f"change root to {new_root}", here, here)
    call("umount2", "detach the old root", b".", _DETACH)
    os.chdir("/")


def unmount(target: str) -> None:
    call("umount2", f"unmount {target}", target.encode(), _DETACH)
