"""Trees as a tar stream, for copying files into and out of components (io).

    pack(path, write)     a file or directory and all below it; the first name is the top's
    unpack(read, …)       the same, below an open directory, under a name of the reader's choice

Both sides distrust the tree and the stream.  Every step is relative to the descriptor of a
directory that was opened without following a link, so exchanging a directory for a link meanwhile
leads nowhere else; names with `..`, absolute ones and empty ones are refused.  A file appears under
its name when it is whole, in place of what was there.  Regular files, directories and links are
copied, with permissions and times; owners, devices, sockets, pipes and the set-user-ID bits are
not: what is left out is named in the result.

Users' and groups' names are never looked up: that would load libraries from the tree we are in
(CVE-2019-14271).
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, cast

from paas.base.errors import PlatformError

DEPTH_MAX = 200
"""Directories within each other: each level holds a descriptor."""

SKIPPED_NAMED_MAX = 20
_PIECE_BYTES = 256 << 10
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
_TEMPORARY = ".paas-copy-{}"


@dataclass(slots=True)
class Counts:
    """What was copied, and what was left out."""

    files: int = 0
    bytes: int = 0
    skipped: int = 0
    named: list[str] = field(default_factory=list)

    def skip(self, path: str) -> None:
        self.skipped += 1
        if len(self.named) < SKIPPED_NAMED_MAX:
            self.named.append(path)


# -- packing --------------------------------------------------------------------------------------


class _Out:
    """The file that tarfile writes to."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(bytes(data))
        return len(data)


class _Exactly:
    """So many bytes of a file, whatever becomes of it meanwhile: cut, or filled with zeros."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, count: int) -> bytes:
        data = os.read(self._descriptor, min(count, _PIECE_BYTES))
        while data and len(data) < count:
            more = os.read(self._descriptor, count - len(data))
            if not more:
                break
            data += more
        return data + bytes(count - len(data))


def pack(path: str, write: Callable[[bytes], object]) -> Counts:
    """Write the file or directory at `path` (a link there is followed) and all below it."""
    counts = Counts()
    top = os.path.basename(path.rstrip("/")) or "root"
    if top in (".", ".."):
        top = os.path.basename(os.path.realpath(path)) or "root"
    out = cast(IO[bytes], _Out(write))
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISDIR(facts.st_mode):
                _pack_directory(archive, descriptor, top, facts, counts, 1)
            elif stat.S_ISREG(facts.st_mode):
                _pack_file(archive, descriptor, top, facts, counts)
            else:
                raise PlatformError("invalid", f"{path}: only files and directories are copied")
        finally:
            os.close(descriptor)
    return counts


def _pack_directory(
    archive: tarfile.TarFile,
    directory: int,
    path: str,
    facts: os.stat_result,
    counts: Counts,
    depth: int,
) -> None:
    if depth > DEPTH_MAX:
        raise PlatformError("limit-exceeded", f"directories nested more than {DEPTH_MAX} deep")
    archive.addfile(_info(path, tarfile.DIRTYPE, facts))
    for name in sorted(os.listdir(directory)):
        below = f"{path}/{name}"
        try:
            facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISLNK(facts.st_mode):
                info = _info(below, tarfile.SYMTYPE, facts)
                info.linkname = os.readlink(name, dir_fd=directory)
                archive.addfile(info)
                counts.files += 1
                continue
            if not stat.S_ISDIR(facts.st_mode) and not stat.S_ISREG(facts.st_mode):
                counts.skip(below)
                continue
            descriptor = os.open(name, _READ, dir_fd=directory)
        except OSError:  # gone, exchanged for something else, or not ours to read
            counts.skip(below)
            continue
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISDIR(facts.st_mode):
                _pack_directory(archive, descriptor, below, facts, counts, depth + 1)
            elif stat.S_ISREG(facts.st_mode):
                _pack_file(archive, descriptor, below, facts, counts)
            else:
                counts.skip(below)
        finally:
            os.close(descriptor)


def _pack_file(
    archive: tarfile.TarFile, descriptor: int, path: str, facts: os.stat_result, counts: Counts
) -> None:
    info = _info(path, tarfile.REGTYPE, facts)
    info.size = facts.st_size
    archive.addfile(info, cast(IO[bytes], _Exactly(descriptor)))
    counts.files += 1
    counts.bytes += facts.st_size


def _info(path: str, kind: bytes, facts: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type = kind
    info.mode = facts.st_mode & _PERMISSIONS
    info.mtime = int(facts.st_mtime)
    return info


# -- unpacking ------------------------------------------------------------------------------------


class _In:
    """The file that tarfile reads from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, count: int) -> bytes:
        while len(self._rest) < count:
            more = next(self._chunks, b"")
            if not more:
                break
            self._rest += more
        data, self._rest = self._rest[:count], self._rest[count:]
        return data


def destination(path: str, name: str) -> tuple[int, str]:
    """(open directory, name in it) for what is copied to `path` and is called `name` at its source.

    Into a directory that is there, else under the name that `path` ends with.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name
    except (FileNotFoundError, NotADirectoryError):
        if path.endswith("/"):
            raise
    parent, last = os.path.split(path)
    return os.open(parent or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), last


def unpack(chunks: Iterable[bytes], directory: int, name: str) -> Counts:
    """Write the tree of the stream below the open `directory`, its top as `name`.

    Raises `invalid` for a stream that is no tree, OSError for what the file system refuses.
    """
    if not name or "/" in name or name in (".", ".."):
        raise PlatformError("invalid", f"{name!r} is no name for a file")
    counts = Counts()
    modes: list[tuple[list[str], tarfile.TarInfo]] = []
    try:
        with tarfile.open(fileobj=cast(IO[bytes], _In(chunks)), mode="r|") as archive:
            for info in archive:
                parts = _parts(info.name, name)
                _unpack_one(archive, info, directory, parts, counts)
                if info.isdir():
                    modes.append((parts, info))
            for parts, info in reversed(modes):
                _finish_directory(directory, parts, info)
    except (tarfile.TarError, ValueError, OverflowError) as exc:
        raise PlatformError("invalid", f"not a tar stream: {exc}") from None
    return counts


def _parts(path: str, top: str) -> list[str]:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise PlatformError("invalid", f"{path[:200]!r}: a name that leads elsewhere")
    if len(parts) > DEPTH_MAX:
        raise PlatformError("limit-exceeded", f"directories nested more than {DEPTH_MAX} deep")
    return [top, *parts[1:]]


def _unpack_one(
    archive: tarfile.TarFile, info: tarfile.TarInfo, root: int, parts: list[str], counts: Counts
) -> None:
    directory, last = _descend(root, parts[:-1]), parts[-1]
    try:
        if info.isdir():
            _make_directory(directory, last)
        elif info.issym():
            _replace(
                directory, last, lambda fresh: os.symlink(info.linkname, fresh, dir_fd=directory)
            )
            counts.files += 1
        elif info.isreg():
            _replace(directory, last, lambda fresh: _write(archive, info, directory, fresh, counts))
            counts.files += 1
        else:
            counts.skip("/".join(parts))
    finally:
        os.close(directory)


def _descend(root: int, names: list[str]) -> int:
    """The directory below `root`, no link followed on the way."""
    current = os.dup(root)
    try:
        for name in names:
            below = os.open(name, _ENTER, dir_fd=current)
            os.close(current)
            current = below
        return current
    except BaseException:
        os.close(current)
        raise


def _make_directory(directory: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        os.close(os.open(name, _ENTER, dir_fd=directory))  # a directory, or the copy fails


def _finish_directory(root: int, parts: list[str], info: tarfile.TarInfo) -> None:
    descriptor = _descend(root, parts)
    try:
        os.fchmod(descriptor, info.mode & _PERMISSIONS)
        os.utime(descriptor, (info.mtime, info.mtime))
    except PermissionError:
        return  # a directory that was there, of another user
    finally:
        os.close(descriptor)


def _replace(directory: int, name: str, make: Callable[[str], Any]) -> None:
    """Make it under another name, then rename: what is seen is whole."""
    fresh = _TEMPORARY.format(os.urandom(8).hex())
    try:
        make(fresh)
        os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=directory)
        raise


def _write(
    archive: tarfile.TarFile, info: tarfile.TarInfo, directory: int, name: str, counts: Counts
) -> None:
    content = archive.extractfile(info)
    assert content is not None, "a regular file has content"
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        while data := content.read(_PIECE_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            counts.bytes += len(data)
        os.fchmod(descriptor, info.mode & _PERMISSIONS)
        os.utime(descriptor, (info.mtime, info.mtime))
    finally:
        os.close(descriptor)
