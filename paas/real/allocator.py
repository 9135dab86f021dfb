"""The C library's allocator, told to keep little (mallopt(3), glibc).

glibc gives every thread an arena of its own and seldom returns what was free in it: a snapshot that
a worker thread writes leaves megabytes behind in each thread that ever wrote one.  With one arena
for all, and large blocks mapped by themselves, what is freed goes back to the kernel at once.
Threads of Python do not compete for the one arena, since they allocate in turns anyway.
"""

from __future__ import annotations

import ctypes

LARGE_BYTES = 256 << 10
"""A block of this size or more is mapped, and unmapped when it is freed."""

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_little() -> bool:
    """Call before there are threads.  False where the C library knows no such thing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_ARENA_MAX, 1) and mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
