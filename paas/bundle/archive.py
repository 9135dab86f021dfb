"""Directory to archive, archive to entries (io): a bundle's bytes, the same on every machine.

    directory --walk, sorted, filtered--> headers and contents --zstd--> packed bytes
    packed bytes --gate, bounded decompressor--> blocks --canonical headers only--> entries

Written: names in the order of their bytes; modes 0644 or 0755 by the owner's execute bit; nothing
of owner, time, hard links or the order in which the file system lists.  zstd runs in one thread
with every parameter given, fed in chunks of one size, so that neither its defaults nor the machine
decide.  Read: streaming, in bounded memory; each limit is checked before the bytes behind it are
taken, and an archive inside of the bundle is a file like any other.  Nothing here writes to a
destination: `extract` does.  Source: platform document §4.3.1; RFC 8878.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from paas.base.errors import PlatformError
from paas.bundle import limits, paths, tar_format
from paas.bundle.ignore import IGNORE_FILE, Ignore
from paas.bundle.tar_format import BLOCK_BYTES, Entry, Kind
from paas.bundle.zstd_frame import HEADER_BYTES, Gate

_PARAMETERS = zstandard.ZstdCompressionParameters(
    window_log=limits.WINDOW_LOG_MAX,
    hash_log=20,
    chain_log=20,
    search_log=4,
    min_match=5,
    target_length=16,
    strategy=zstandard.STRATEGY_LAZY2,
    write_checksum=True,
    write_content_size=False,
    write_dict_id=False,
    threads=0,
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What went into an archive."""

    entries: int
    unpacked_bytes: int
    packed_bytes: int


Chunks = Iterable[bytes]


def write(directory: Path, write_out: Callable[[bytes], object]) -> Totals:
    """Archive a directory; `write_out` is given the packed bytes, piece by piece.

    Raises `invalid` or `limit-exceeded` naming the entry that cannot be in a bundle.
    """
    packer = _Packer(write_out)
    tree = paths.Tree()
    for entry, content in _walk(directory, _ignore_rules(directory)):
        parts = paths.check_path(entry.path)
        if entry.kind is Kind.LINK:
            paths.check_link(entry.path, entry.target, len(parts) - 1)
        tree.add(entry.path, parts, directory=entry.kind is Kind.DIRECTORY)
        packer.add(tar_format.encode(entry))
        if content is not None:
            _add_file(packer, entry, content)
    packer.add(tar_format.END)
    packer.finish()
    return Totals(sum(tree.counts().values()), packer.unpacked, packer.packed)


def read(chunks: Chunks) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """The entries of packed bytes, each with its content; every refusal names the entry.

    The content is to be taken before the next entry is asked for; what is left of it is skipped.
    """
    source = _Unpacker(chunks)
    tree = paths.Tree()
    while (entry := _next_entry(source)) is not None:
        parts = paths.check_path(entry.path)
        tree.add(entry.path, parts, directory=entry.kind is Kind.DIRECTORY)
        content = _content(source, entry)
        yield entry, content
        for _ in content:
            pass
    source.finish()


def read_file(chunks: Chunks, path: str, bytes_max: int) -> bytes:
    """One file's content, after the whole archive was found sound; raises `invalid` without it."""
    wanted, found = path.encode(), None
    for entry, content in read(chunks):
        if entry.path == wanted and entry.kind is Kind.FILE:
            if entry.size > bytes_max:
                raise paths.refused(path, f"it has more than {bytes_max} bytes", "limit-exceeded")
            found = b"".join(content)
    if found is None:
        raise paths.refused(path, "the bundle does not have this file")
    return found


class _Packer:
    """Tar bytes in, zstd bytes out; re-cut to chunks of one size, since cuts show in the result."""

    def __init__(self, write_out: Callable[[bytes], object]) -> None:
        self._compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS).compressobj()
        self._write_out = write_out
        self._held = bytearray()
        self.unpacked = 0
        self.packed = 0

    def add(self, data: bytes) -> None:
        self.unpacked += len(data)
        if self.unpacked > limits.UNPACKED_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"the bundle has more than {limits.UNPACKED_BYTES_MAX} bytes before packing",
            )
        self._held += data
        while len(self._held) >= limits.CHUNK_BYTES:
            self._put(self._compressor.compress(bytes(self._held[: limits.CHUNK_BYTES])))
            del self._held[: limits.CHUNK_BYTES]

    def finish(self) -> None:
        self._put(self._compressor.compress(bytes(self._held)))
        self._put(self._compressor.flush())
        if _too_dense(self.unpacked, self.packed):
            raise PlatformError(
                "limit-exceeded",
                f"the bundle packs more than {limits.RATIO_MAX}-fold, as only a bomb or a file of "
                "zeros does",
            )

    def _put(self, data: bytes) -> None:
        self.packed += len(data)
        if self.packed > limits.BUNDLE_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded", f"the bundle has more than {limits.BUNDLE_BYTES_MAX} bytes"
            )
        if data:
            self._write_out(data)


class _Unpacker:
    """Packed chunks in, exact counts of tar bytes out, within the limits."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = _cut(chunks)
        self._rest = b""
        self._gate = Gate()
        self._packed = 0
        self._unpacked = 0
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << limits.WINDOW_LOG_MAX)
        self._reader = decompressor.stream_reader(cast(IO[bytes], self), read_across_frames=False)

    def read(self, count: int = limits.CHUNK_BYTES) -> bytes:
        """For the decompressor: the next packed bytes, after the gate has seen them."""
        # The decompressor sees nothing before the gate has seen a whole frame header.
        while not self._rest or self._packed < HEADER_BYTES:
            piece = next(self._chunks, b"")
            if not piece:
                break
            self._rest += piece
            self._packed += len(piece)
            if self._packed > limits.BUNDLE_BYTES_MAX:
                raise PlatformError(
                    "limit-exceeded", f"the bundle has more than {limits.BUNDLE_BYTES_MAX} bytes"
                )
            self._gate.feed(piece)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def take(self, count: int) -> bytes:
        """Exactly `count` unpacked bytes; raises `corrupt` when there are fewer."""
        data = self._some(count)
        while len(data) < count:
            more = self._some(count - len(data))
            if not more:
                raise PlatformError("corrupt", "the archive ends too early")
            data += more
        return data

    def finish(self) -> None:
        """Nothing may follow: neither unpacked bytes nor packed ones."""
        if self._some(1):
            raise PlatformError("invalid", "the archive has further bytes after its end")
        self._rest = b""
        while self.read():
            self._rest = b""
        self._gate.close()

    def _some(self, count: int) -> bytes:
        try:
            data: bytes = self._reader.read(count)
        except zstandard.ZstdError as exc:
            raise PlatformError("corrupt", f"the archive cannot be decompressed: {exc}") from None
        self._unpacked += len(data)
        if self._unpacked > limits.UNPACKED_BYTES_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"the bundle unpacks to more than {limits.UNPACKED_BYTES_MAX} bytes",
            )
        if _too_dense(self._unpacked, self._packed):
            raise PlatformError(
                "limit-exceeded", f"the bundle unpacks more than {limits.RATIO_MAX}-fold"
            )
        return data


def _cut(chunks: Chunks) -> Iterator[bytes]:
    """Pieces of bounded size: what stands between the gate and the decompressor stays small."""
    for chunk in chunks:
        for at in range(0, len(chunk), limits.CHUNK_BYTES):
            yield chunk[at : at + limits.CHUNK_BYTES]


def _too_dense(unpacked: int, packed: int) -> bool:
    return unpacked > limits.RATIO_FREE_BYTES + limits.RATIO_MAX * packed


def _next_entry(source: _Unpacker) -> Entry | None:
    """Read one entry's header blocks; None at the end of the archive."""
    block = source.take(BLOCK_BYTES)
    if not any(block):
        if any(source.take(BLOCK_BYTES)):
            raise PlatformError("corrupt", "the archive has an empty block before its end")
        return None
    header = tar_format.read_header(block)
    records: dict[bytes, bytes] = {}
    if header.flag == Kind.EXTENDED.value.encode():
        if not 0 < header.size <= tar_format.EXTENDED_BYTES_MAX:
            raise paths.refused(header.path, "an extended header is too long", "limit-exceeded")
        payload = source.take(header.size + -header.size % BLOCK_BYTES)
        records = tar_format.read_records(payload[: header.size])
        following = source.take(BLOCK_BYTES)
        block += payload + following
        header = tar_format.read_header(following)
    return tar_format.decode(header, records, block)


def _content(source: _Unpacker, entry: Entry) -> Iterator[bytes]:
    left = entry.size
    while left:
        piece = source.take(min(left, limits.CHUNK_BYTES))
        left -= len(piece)
        yield piece
    if any(source.take(entry.padding())):
        raise paths.refused(entry.path, "the space after the content is not empty")


def _ignore_rules(directory: Path) -> Ignore:
    file = directory / IGNORE_FILE
    if not file.is_file():
        return Ignore()
    with file.open("rb") as opened:
        text = opened.read(limits.IGNORE_FILE_BYTES_MAX + 1)
    if len(text) > limits.IGNORE_FILE_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded",
            f"{IGNORE_FILE}: it has more than {limits.IGNORE_FILE_BYTES_MAX} bytes",
        )
    return Ignore(text.decode("utf-8", "replace").splitlines())


def _walk(root: Path, ignore: Ignore) -> Iterator[tuple[Entry, Path | None]]:
    """All entries below `root` in the order of archives; files come with the path to read."""
    pending: list[bytes] = _listing(root, b"")
    while pending:
        path = pending.pop()
        full = root / os.fsdecode(path)
        mode = full.lstat().st_mode
        directory = stat.S_ISDIR(mode)
        text = path.decode("utf-8", "replace")
        if path != limits.MANIFEST_NAME.encode() and ignore.matches(text, directory=directory):
            continue
        if directory:
            yield Entry(path, Kind.DIRECTORY), None
            pending += _listing(full, path + b"/")
        elif stat.S_ISLNK(mode):
            yield Entry(path, Kind.LINK, target=os.readlink(os.fsencode(full))), None
        elif stat.S_ISREG(mode):
            found = full.stat()
            executable = bool(found.st_mode & stat.S_IXUSR)
            yield Entry(path, Kind.FILE, found.st_size, executable), full
        else:
            raise paths.refused(path, "a bundle has files, directories and symbolic links only")


def _listing(directory: Path, prefix: bytes) -> list[bytes]:
    """The paths in a directory, last first: the order of a stack."""
    names = os.listdir(os.fsencode(directory))
    return [prefix + name for name in sorted(names, reverse=True)]


def _add_file(packer: _Packer, entry: Entry, path: Path) -> None:
    """Add exactly the bytes that the header promised; a file that changes meanwhile is an error."""
    if entry.size > limits.FILE_BYTES_MAX:
        raise paths.refused(
            entry.path, f"the file has more than {limits.FILE_BYTES_MAX} bytes", "limit-exceeded"
        )
    left = entry.size
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise paths.refused(entry.path, "the file cannot be read by you") from None
    with open(descriptor, "rb") as file:
        while left and (piece := file.read(min(left, limits.CHUNK_BYTES))):
            left -= len(piece)
            packer.add(piece)
        if left or file.read(1):
            raise paths.refused(entry.path, "the file changed while it was read", "conflict")
    packer.add(bytes(entry.padding()))
