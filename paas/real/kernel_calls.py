"""The system calls that Python 3.11 does not offer, one C library handle, errors as OSError.

Nothing here decides anything: it turns a return value of -1 into OSError with errno and a word on
what was attempted.  Numbers of system calls newer than the C library's wrappers are those of the
generic table (the same on x86_64 and aarch64); the few older ones stand per architecture.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

SYS_PIDFD_OPEN = 434
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_FSOPEN = 430
SYS_FSCONFIG = 431
SYS_FSMOUNT = 432
SYS_CLOSE_RANGE = 436
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(platform.machine(), 41)
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}.get(platform.machine(), 219)
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}.get(platform.machine(), 91)

_LIBC.syscall.restype = ctypes.c_long
_LIBC.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]
_LIBC.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_LIBC.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def checked(result: int, attempt: str) -> int:
    """Pass `result` on, or raise what errno says about `attempt`."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{attempt}: {os.strerror(number)}")
    return result


def call(name: str, attempt: str, *arguments: Any) -> int:
    """Call a function of the C library that returns -1 on failure."""
    return checked(getattr(_LIBC, name)(*arguments), attempt)


def system_call(number: int, attempt: str, *arguments: Any) -> int:
    """A raw system call; integers are widened so that the C calling convention holds."""
    widened = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(_LIBC.syscall(ctypes.c_long(number), *widened), attempt)


def prctl(option: int, attempt: str, *arguments: int | ctypes.c_void_p) -> int:
    """prctl(2) with missing arguments as zero, which some options insist on."""
    values = [a.value or 0 if isinstance(a, ctypes.c_void_p) else a for a in arguments]
    padded = [*values, 0, 0, 0, 0][:4]
    return checked(_LIBC.prctl(option, *padded), attempt)
