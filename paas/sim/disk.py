"""A disk in memory that can lose power, tear writes, run full and fail: the Files port for tests.

Two images: what the program sees (page cache) and what survives a power cut.  Between them, in the
order they were made, stand the writes of each file that were not synced and the directory changes
that were not.

    write ──> visible image ── sync ──> durable image
                  └── power cut: each unsynced piece of a write survives, or not, by itself

At `power_cut` a seeded choice decides for every unsynced write, block by block, whether it reached
the medium: order between writes is not kept, as no real disk keeps it.  Unsynced directory changes
survive as a prefix (a journalling file system orders them).  `crash` (kill -9) loses nothing that
was written.  A file whose creation is not durable disappears with its content.

A sync that fails is worse than a power cut: the program goes on, and what it wrote may be gone from
the page cache too (pages are marked clean although they never reached the medium).

`on_operation` is called before each operation that changes something, and may raise to stop the
program just there: this is how a test walks through all crash points.

It knows neither permissions nor time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

BLOCK_BYTES = 512

_ZEROS = bytes(1 << 20)

Choose = Callable[[int], int]
"""A seeded source of choices: `choose(n)` is a number below n."""


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class _Image:
    """The bytes of a file.  Behind `data`, up to `size`, are zeros: space filled ahead is free."""

    __slots__ = ("data", "size")

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0

    def read(self, offset: int, count: int) -> bytes:
        with memoryview(self.data) as whole:
            piece = bytes(whole[offset : offset + count])
        return piece.ljust(min(count, self.size - offset), b"\0")

    def put(self, offset: int, piece: bytes) -> None:
        data, end = self.data, offset + len(piece)
        if offset < len(data) or not _ZEROS.startswith(piece):
            self._fill(offset)
            data[offset:end] = piece
        if end > self.size:
            self.size = end

    def resize(self, size: int) -> None:
        del self.data[size:]
        self.size = size

    def flip(self, bit: int) -> None:
        self._fill(bit // 8 + 1)
        self.data[bit // 8] ^= 1 << (bit % 8)

    def become(self, other: _Image) -> None:
        self.data[:] = other.data
        self.size = other.size

    def _fill(self, count: int) -> None:
        if len(self.data) < count:
            self.data.extend(bytes(count - len(self.data)))


class _Node:
    """One file: what is seen, what is durable, and the writes between them."""

    def __init__(self) -> None:
        self.seen = _Image()
        self.durable = _Image()
        self.unsynced: list[tuple[int, bytes] | int] = []  # a write, or a new size

    def settle(self) -> None:
        for change in self.unsynced:
            if isinstance(change, int):
                self.durable.resize(change)
            else:
                self.durable.put(*change)
        self.unsynced.clear()

    def lose_power(self, choose: Choose) -> None:
        for change in self.unsynced:
            if isinstance(change, int):
                if choose(2):
                    self.durable.resize(change)
                continue
            offset, data = change
            for start, piece in _blocks(offset, data):
                if choose(2):
                    self.durable.put(start, piece)
        self.seen.become(self.durable)
        self.unsynced.clear()


class SimFile:
    """`base.ports.File` on a simulated disk."""

    def __init__(self, disk: SimDisk, node: _Node) -> None:
        self._disk = disk
        self._node = node

    def read(self, offset: int, count: int) -> bytes:
        return self._node.seen.read(offset, count)

    def write(self, offset: int, data: bytes) -> None:
        torn = self._disk.before("write", data)
        if torn is not None:
            self._store(offset, data[:torn])
            raise _failure(errno.EIO)
        grown = offset + len(data) - self._node.seen.size
        if grown > 0 and grown > self._disk.free_bytes():
            fits = len(data) - (grown - self._disk.free_bytes())
            self._store(offset, data[: max(0, fits)])
            raise _failure(errno.ENOSPC)
        self._store(offset, data)

    def _store(self, offset: int, data: bytes) -> None:
        if data:
            self._node.seen.put(offset, data)
            self._node.unsynced.append((offset, bytes(data)))

    def truncate(self, size: int) -> None:
        self._disk.before("truncate")
        self._node.seen.resize(size)
        self._node.unsynced.append(size)

    def size(self) -> int:
        return self._node.seen.size

    def sync(self) -> None:
        self._disk.before("sync")
        choose, self._disk.fail_next_sync = self._disk.fail_next_sync, None
        if choose is not None:
            self._node.lose_power(choose)
            raise _failure(errno.EIO)
        self._node.settle()

    def close(self) -> None:
        return None


class SimDisk:
    """`base.ports.Files` in memory.  Directories exist by being named."""

    def __init__(self, *, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self.on_operation: Callable[[str], None] | None = None
        self.tear_next_write: int | None = None
        """The next write stores so many bytes only and fails."""

        self.fail_next_sync: Choose | None = None
        """The next sync of a file fails, and what it should have kept is lost, or some of it."""

        self._seen: dict[str, _Node] = {}
        self._durable: dict[str, _Node] = {}
        self._unsynced: list[dict[str, _Node]] = []  # the directory after each unsynced change

    # -- faults ----------------------------------------------------------------------------------

    def before(self, operation: str, data: bytes = b"") -> int | None:
        """Called before each change; how much of a write gets through if it shall fail."""
        if self.on_operation is not None:
            self.on_operation(operation)
        if operation == "write" and self.tear_next_write is not None:
            torn, self.tear_next_write = min(self.tear_next_write, len(data)), None
            return torn
        return None

    def power_cut(self, choose: Choose) -> None:
        """Lose what was not synced, or some of it."""
        states = [self._durable, *self._unsynced]
        self._seen = dict(states[choose(len(states))])
        self._durable = dict(self._seen)
        self._unsynced.clear()
        for path in sorted(self._seen):
            self._seen[path].lose_power(choose)

    def flip_bit(self, path: str, bit: int) -> None:
        """Damage a file on the medium."""
        node = self._seen[path]
        node.settle()
        for image in (node.seen, node.durable):
            image.flip(bit)

    def content(self, path: str) -> bytes:
        image = self._seen[path].seen
        return image.read(0, image.size)

    # -- the port --------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False) -> SimFile:
        node = self._seen.get(path)
        if node is None:
            if not create:
                raise _failure(errno.ENOENT)
            self.before("create")
            node = self._seen[path] = _Node()
            self._note()
        return SimFile(self, node)

    def exists(self, path: str) -> bool:
        return path in self._seen or any(p.startswith(path + "/") for p in self._seen)

    def list(self, path: str = "") -> list[str]:
        prefix = path + "/" if path else ""
        inside = (p[len(prefix) :] for p in self._seen if p.startswith(prefix))
        return sorted({p.split("/")[0] for p in inside})

    def make_dir(self, path: str) -> None:
        return None

    def rename(self, source: str, target: str) -> None:
        if source not in self._seen:
            raise _failure(errno.ENOENT)
        self.before("rename")
        self._seen[target] = self._seen.pop(source)
        self._note()

    def remove(self, path: str) -> None:
        if path not in self._seen:
            raise _failure(errno.ENOENT)
        self.before("remove")
        del self._seen[path]
        self._note()

    def sync_dir(self, path: str = "") -> None:
        self.before("sync_dir")
        self._durable = dict(self._seen)
        self._unsynced.clear()

    def free_bytes(self) -> int:
        used = sum(node.seen.size for node in self._seen.values())
        return max(0, self.capacity_bytes - used)

    def _note(self) -> None:
        self._unsynced.append(dict(self._seen))


def _blocks(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    """Cut a write at the borders of the disk's blocks."""
    pieces = []
    start = 0
    while start < len(data):
        end = min(len(data), start + BLOCK_BYTES - (offset + start) % BLOCK_BYTES)
        pieces.append((offset + start, data[start:end]))
        start = end
    return pieces
