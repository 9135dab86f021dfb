"""Layers onto a disk (io): one tree out of a stack, by entries that nobody vouches for.

    for each layer, the lowest first:   entry ──> parent opened inside the tree ──> made anew in it

What the layers' format means is done here, once, while unpacking: whiteouts remove what lower
layers brought, so the tree is complete by itself and can lie below any kind of container file
system.  A parent that is a symbolic link is followed as it would be inside the container: the
kernel takes the tree's root as the root (openat2), so no link leads out, whatever layers make of
one another.  The last name is never followed: files are made with O_EXCL, and what was there of
another kind is removed first.

Left out: devices and pipes (containers have a /dev of their own, on mounts without devices).  Taken
away: set-user-id, set-group-id and attributes, which mean nothing on containers' mounts; the sticky
bit of directories stays.  Owners and times are kept.

Sources: OCI image specification, "Image Layer Filesystem Changeset" (applying changesets,
whiteouts); openat2(2).  For the kind of attack: CVE-2019-14271, CVE-2021-30465, CVE-2022-1227.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from paas.base.errors import PlatformError
from paas.bundle import files
from paas.layers import limits
from paas.layers.cloning import Facts
from paas.oci import limits as tree_limits
from paas.oci import tar_reader
from paas.oci.tar_reader import Entry, Kind

OpenInRoot = Callable[[int, bytes, int], int]
"""(root, path, flags) → descriptor, with `root` as the root of all links on the way."""

Parts = tuple[bytes, ...]

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_OTHER_UNION = b".wh..wh."
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ENTER_ITSELF = _ENTER | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Keeper(Protocol):
    """Keeps the files of all trees, each content once."""

    def keep(self, directory: int, name: bytes, entry: Entry, content: str) -> None:
        """Let the file share its bytes with an equal one of the same path, if there is one."""
        ...


@dataclass(slots=True)
class Unpacked:
    """What has been made, and what was left out."""

    entries: int = 0
    unpacked_bytes: int = 0
    left_out: int = 0


@dataclass(slots=True)
class _Mark:
    """What this layer has brought, as a tree of names: whiteouts spare it."""

    inner: dict[bytes, _Mark] = field(default_factory=dict)


class Unpacker:
    """Unpacks layers one above the other into a directory of its own; `close` it in the end."""

    def __init__(
        self, root: str, open_in_root: OpenInRoot, write: Callable[..., str], keeper: Keeper | None
    ) -> None:
        """`write(descriptor, entry, content)` writes a file's content and says what it is called
        among all files; see `trees`.
        """
        self._root = os.open(root, _ENTER_ITSELF)
        self._depth = _depth(self._root)
        self._open_in_root = open_in_root
        self._write = write
        self._keeper = keeper
        self._times: Facts = {}
        self._marks = _Mark()
        self.done = Unpacked()

    def begin(self, times: Facts) -> None:
        """The tree has content already: that of lower layers, with these directories."""
        self._times |= times

    def apply(self, chunks: Iterable[bytes]) -> None:
        """One layer; raises what is wrong with it, and then the tree is good for nothing."""
        self._marks = _Mark()
        for entry, content in tar_reader.read(chunks):
            self._count(entry)
            try:
                self._one(entry, content)
            except OSError as exc:
                if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                    raise
                name = b"/".join(entry.parts)
                raise tar_reader.refused(name, f"cannot be unpacked: {exc.strerror}") from None

    def close(self, *, finish: bool) -> None:
        """With `finish`, give directories the owner, mode and time that their entries say."""
        try:
            if finish:
                self._finish()
        finally:
            os.close(self._root)

    # -- entries ---------------------------------------------------------------------------------

    def _count(self, entry: Entry) -> None:
        self.done.entries += 1
        self.done.unpacked_bytes += entry.size
        if self.done.entries > limits.TREE_ENTRIES_MAX:
            raise PlatformError(
                "limit-exceeded", f"the image has more than {limits.TREE_ENTRIES_MAX} entries"
            )
        if self.done.unpacked_bytes > limits.TREE_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded", f"the image has more than {limits.TREE_BYTES_MAX} bytes"
            )

    def _one(self, entry: Entry, content: Iterator[bytes]) -> None:
        if not entry.parts:
            if entry.kind is Kind.DIRECTORY:
                self._remember((), entry)
            return
        *folder, name = entry.parts
        if name.startswith(_WHITEOUT):
            self._white_out(tuple(folder), name)
            return
        if entry.kind is Kind.DEVICE:
            self.done.left_out += 1
            return
        parent = self._enter(tuple(folder))
        try:
            if entry.kind is Kind.DIRECTORY:
                self._directory(entry, parent, name)
            elif entry.kind is Kind.FILE:
                self._file(entry, content, parent, name)
            elif entry.kind is Kind.LINK:
                _remove(parent, name)
                os.symlink(entry.target, name, dir_fd=parent)
                os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
                _set_time(name, entry.mtime, parent)
            else:
                self._hard_link(entry, parent, name)
        finally:
            os.close(parent)
        self._mark(entry.parts)

    def _directory(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                _remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        self._remember(entry.parts, entry)

    def _remember(self, parts: Parts, entry: Entry) -> None:
        mode = entry.mode & 0o1777
        self._times[parts] = (mode, entry.uid, entry.gid, entry.mtime)

    def _file(self, entry: Entry, content: Iterator[bytes], parent: int, name: bytes) -> None:
        _remove(parent, name)
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            called = self._write(descriptor, entry, content)
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode & 0o777)
            os.utime(descriptor, ns=(entry.mtime * 10**9, entry.mtime * 10**9))
        finally:
            os.close(descriptor)
        if self._keeper is not None and entry.size:
            self._keeper.keep(parent, name, entry, called)

    def _hard_link(self, entry: Entry, parent: int, name: bytes) -> None:
        if not entry.source or entry.source == entry.parts:
            raise tar_reader.refused(b"/".join(entry.parts), "a hard link needs another name")
        *folder, old = entry.source
        source = self._enter(tuple(folder), make=False)
        try:
            mode = os.lstat(old, dir_fd=source).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise tar_reader.refused(b"/".join(entry.parts), "this cannot be linked")
            if _same(source, old, parent, name):
                return
            _remove(parent, name)
            os.link(old, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    # -- whiteouts -------------------------------------------------------------------------------

    def _white_out(self, folder: Parts, name: bytes) -> None:
        """Remove what lower layers brought; what this layer has brought stays."""
        if name.startswith(_OTHER_UNION) and name != _OPAQUE:
            return  # bookkeeping of a union file system
        hidden = name[len(_WHITEOUT) :]
        if name != _OPAQUE and hidden in (b"", b".", b".."):
            raise tar_reader.refused(b"/".join((*folder, name)), "this whiteout hides no name")
        try:
            parent = self._enter(folder, make=False)
        except (FileNotFoundError, NotADirectoryError):
            return  # umoci hides the contents of a directory that has become a file
        try:
            mark: _Mark | None = self._marks
            for part in folder:
                mark = mark.inner.get(part) if mark is not None else None
            known = mark.inner if mark is not None else {}
            if name == _OPAQUE:
                _remove_lower(parent, known)
            elif hidden not in known:
                _remove(parent, hidden)
            elif stat.S_ISDIR(os.lstat(hidden, dir_fd=parent).st_mode):
                inner = os.open(hidden, _ENTER_ITSELF, dir_fd=parent)
                try:
                    _remove_lower(inner, known[hidden].inner)
                finally:
                    os.close(inner)
        finally:
            os.close(parent)

    def _mark(self, parts: Parts) -> None:
        mark = self._marks
        for part in parts:
            mark = mark.inner.setdefault(part, _Mark())

    # -- directories -----------------------------------------------------------------------------

    def _enter(self, folder: Parts, *, make: bool = True) -> int:
        """The directory at this path inside of the tree, made if it is not there."""
        path = b"/".join(folder) or b"."
        try:
            found = self._open_in_root(self._root, path, _ENTER)
        except FileNotFoundError:
            if not make or not folder:
                raise
            parent = self._enter(folder[:-1])
            try:
                os.mkdir(folder[-1], 0o755, dir_fd=parent)
                found = os.open(folder[-1], _ENTER_ITSELF, dir_fd=parent)
            finally:
                os.close(parent)
        # Through links, a short path can lead to a directory that is ever deeper.
        if _depth(found) - self._depth >= tree_limits.DEPTH_MAX:
            os.close(found)
            raise tar_reader.refused(path, "the directory lies too deep", "limit-exceeded")
        return found

    def _finish(self) -> None:
        """Deepest first, so that no time is changed again."""
        for parts in sorted(self._times, key=len, reverse=True):
            mode, uid, gid, mtime = self._times[parts]
            path = b"/".join(parts) or b"."
            try:
                descriptor = self._open_in_root(self._root, path, _ENTER_ITSELF)
            except OSError:
                continue  # an upper layer has removed it, or made something else of it
            try:
                os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(mtime * 10**9, mtime * 10**9))
            finally:
                os.close(descriptor)


def _depth(directory: int) -> int:
    """How many directories lead to it, whatever links were on the way."""
    return os.readlink(f"/proc/self/fd/{directory}").count("/")


def _remove_lower(directory: int, known: dict[bytes, _Mark]) -> None:
    """Empty a directory except for what this layer has brought into it."""
    for name in os.listdir(directory):
        raw = os.fsencode(name)
        mark = known.get(raw)
        if mark is None:
            _remove(directory, raw)
        elif mark.inner and stat.S_ISDIR(os.lstat(raw, dir_fd=directory).st_mode):
            inner = os.open(raw, _ENTER_ITSELF, dir_fd=directory)
            try:
                _remove_lower(inner, mark.inner)
            finally:
                os.close(inner)


def _remove(directory: int, name: bytes) -> None:
    """Remove whatever has this name; links are removed, not followed."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(name, dir_fd=directory)


def _same(source: int, old: bytes, parent: int, name: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError):
        one, other = os.lstat(old, dir_fd=source), os.lstat(name, dir_fd=parent)
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    return False


def _set_time(name: bytes, mtime: int, parent: int) -> None:
    os.utime(name, ns=(mtime * 10**9, mtime * 10**9), dir_fd=parent, follow_symlinks=False)


def write_plain(descriptor: int, content: Iterable[bytes]) -> None:
    """The content of a file."""
    for piece in content:
        files.write_all(descriptor, piece)
