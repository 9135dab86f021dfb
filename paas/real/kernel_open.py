"""Opening below a directory with the links of a foreign tree: openat2(2).

The tree's root is the root for whatever its links say: an absolute target begins there, `..` does
not lead above it, and links of /proc are not followed.  The kernel holds this while it walks, so
nobody who changes the tree meanwhile can make it lead elsewhere.
"""

from __future__ import annotations

import ctypes
import os

from paas.real.kernel_calls import system_call

SYS_OPENAT2 = 437
_NO_MAGIC_LINKS = 0x02
_IN_ROOT = 0x10


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_in_root(root: int, path: bytes, flags: int, mode: int = 0) -> int:
    """A descriptor of `path`, with the directory `root` as the root of everything."""
    how = _How(flags | os.O_CLOEXEC, mode, _IN_ROOT | _NO_MAGIC_LINKS)
    return system_call(
        SYS_OPENAT2,
        f"open {os.fsdecode(path)}",
        root,
        ctypes.c_char_p(path),
        ctypes.byref(how),
        ctypes.sizeof(how),
    )
