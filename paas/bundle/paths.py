"""Which paths and links may stand in a bundle: relative, plain, and never leading out of the tree.

Paths are checked as text, before anything touches a file system.  A link's target may climb only at
its beginning (`../../x`, never `x/../y`): its own parents are real directories, so the climb is
exact and bounded by its depth, and whatever it passes afterwards only descends or follows a link
that obeys the same rule.  By induction no chain of links leaves the tree.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from paas.base.errors import PlatformError
from paas.bundle import limits

Parts = tuple[str, ...]

_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def shown(path: str | bytes) -> str:
    """A path as it may appear in a message: one printable line of bounded length."""
    text = path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else path
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:200])
    return f'"{safe}"' if len(text) <= 200 else f'"{safe}..."'


def refused(path: str | bytes, reason: str, code: str = "invalid") -> PlatformError:
    """The error for an entry that no bundle may have."""
    return PlatformError(code, f"{shown(path)}: {reason}", entry=shown(path)[1:-1])


def check_path(raw: bytes) -> Parts:
    """The names of an entry's path; raises `invalid` or `limit-exceeded` naming it."""
    text = _check_text(raw, raw, limits.PATH_BYTES_MAX)
    if text.startswith("/"):
        raise refused(raw, "the path is absolute")
    parts = tuple(text.split("/"))
    if len(parts) > limits.DEPTH_MAX:
        raise refused(
            raw, f"the path is nested more than {limits.DEPTH_MAX} deep", "limit-exceeded"
        )
    for part in parts:
        if part == "..":
            raise refused(raw, "the path leads out of the bundle")
        if part in ("", "."):
            raise refused(raw, "the path has an empty name")
        if len(part.encode()) > limits.NAME_BYTES_MAX:
            raise refused(
                raw, f"a name has more than {limits.NAME_BYTES_MAX} bytes", "limit-exceeded"
            )
    return parts


def check_link(path: bytes, target: bytes, depth: int) -> str:
    """The target of a symbolic link that stands in `depth` directories."""
    text = _check_text(path, target, limits.LINK_BYTES_MAX)
    if text.startswith("/"):
        raise refused(path, "the link's target is absolute")
    climbed, descending = 0, False
    for part in text.split("/"):
        if part == "..":
            climbed += 1
            if descending:
                raise refused(path, 'the link\'s target has ".." after a name')
        elif part not in ("", "."):
            descending = True
            if len(part.encode()) > limits.NAME_BYTES_MAX:
                raise refused(path, "the link's target has too long a name", "limit-exceeded")
    if climbed > depth:
        raise refused(path, "the link leads out of the bundle")
    return text


class Tree:
    """The entries of one archive so far: each once, parents first, in the one order of archives."""

    def __init__(self) -> None:
        self._directory: dict[Parts, bool] = {(): True}
        self._last: Parts = ()

    def add(self, raw: bytes, parts: Parts, *, directory: bool) -> None:
        """Accept the next entry or raise, naming it."""
        if parts in self._directory:
            raise refused(raw, "the entry is there twice")
        parent = parts[:-1]
        if parent not in self._directory:
            raise refused(raw, "the directory that it is in is missing before it")
        if not self._directory[parent]:
            raise refused(raw, "it is inside of something that is not a directory")
        if sort_key(parts) < sort_key(self._last):
            raise refused(raw, "the entries are not in order")
        if len(self._directory) > limits.ENTRIES_MAX:
            raise refused(
                raw, f"the bundle has more than {limits.ENTRIES_MAX} entries", "limit-exceeded"
            )
        self._directory[parts] = directory
        self._last = parts

    def counts(self) -> Mapping[str, int]:
        directories = sum(self._directory.values()) - 1
        return {
            "directories": directories,
            "others": len(self._directory) - 1 - directories,
        }


def sort_key(parts: Parts) -> tuple[bytes, ...]:
    """The order of archives: depth first, names by their bytes (never by locale)."""
    return tuple(part.encode() for part in parts)


def _check_text(path: bytes, raw: bytes, longest: int) -> str:
    if not raw:
        raise refused(path, "a name is empty")
    if len(raw) > longest:
        raise refused(path, f"a path has more than {longest} bytes", "limit-exceeded")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise refused(path, "a name is not UTF-8 text") from None
    if any(unicodedata.category(c) in _CONTROL_CATEGORIES for c in text):
        raise refused(path, "a name has a control character")
    return text
