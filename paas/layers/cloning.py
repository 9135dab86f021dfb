"""A tree out of another (io): directories made anew, everything in them linked.

Most images are others with something on top.  Where the lower layers are unpacked already, the new
tree begins with links to what they have, in a fraction of the time that unpacking takes; what upper
layers change they make anew, and the tree that was linked from stays as it is (`unpack` writes to
no file that it has not just created).
"""

from __future__ import annotations

import os
import stat

Facts = dict[tuple[bytes, ...], tuple[int, int, int, int]]
"""Directories by the names of their path: mode, owner, group, time in seconds."""


def clone(source: bytes, target: bytes) -> Facts:
    """Fill the empty directory `target`; what its directories are to be like in the end.

    Raises OSError when something cannot be linked (a path too long, a bound of the file system).
    """
    facts: Facts = {(): _facts(os.lstat(source))}
    pending: list[tuple[bytes, ...]] = [()]
    while pending:
        parts = pending.pop()
        here, there = os.path.join(source, *parts), os.path.join(target, *parts)
        with os.scandir(here) as entries:
            for entry in entries:
                new = os.path.join(there, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    os.mkdir(new, 0o700)
                    inner = (*parts, entry.name)
                    facts[inner] = _facts(entry.stat(follow_symlinks=False))
                    pending.append(inner)
                else:
                    os.link(entry.path, new, follow_symlinks=False)
    return facts


def _facts(found: os.stat_result) -> tuple[int, int, int, int]:
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, int(found.st_mtime)
