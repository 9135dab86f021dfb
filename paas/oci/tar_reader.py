"""Entries of a layer's tar archive, from bytes that nobody vouches for.

    chunks ──> blocks ──> [extended headers] header ──> Entry, content ──> ...

Layers are written by many tools, so all usual dialects are read: ustar, POSIX extended headers,
GNU long names and base-256 numbers.  What cannot be in a file system of programs, or what would let
two readers see two archives (sparse files, continuation volumes), is refused.  Names lose a leading
`/` and `./`; one that climbs (`..`) is refused, as is one too long for a file system.  Memory is
bounded by `limits.EXTENDED_BYTES_MAX`: no header is believed about its own length beyond that.

Extended attributes are read over: on the mounts of containers they would have no effect.

Pure.  Sources: POSIX.1-2017 `pax`; GNU tar manual, "Basic Tar Format"; OCI image specification,
"Image Layer Filesystem Changeset".
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from paas.base.errors import PlatformError
from paas.oci import limits

BLOCK = 512
_EXTENDED = frozenset({b"x", b"L", b"K"})
_REFUSED = {
    b"S": "sparse files",
    b"M": "continued files",
    b"D": "GNU directory dumps",
    b"V": "volume labels",
    b"N": "old GNU long names",
}
_NUMBERS = {b"size": "size", b"uid": "uid", b"gid": "gid"}
_MTIME_MAX = (1 << 34) - 1
"""What ext4 can say, in the year 2514."""


class Kind(enum.StrEnum):
    """What an entry makes."""

    FILE = "file"
    HARD_LINK = "hard link"
    LINK = "symbolic link"
    DIRECTORY = "directory"
    DEVICE = "device or pipe"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.LINK,
    b"3": Kind.DEVICE,
    b"4": Kind.DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.DEVICE,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `parts` are the names of its path, none for the root itself.

    `target` is text for a symbolic link, and for a hard link a path as `parts` in `source`.
    """

    parts: tuple[bytes, ...]
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    target: bytes = b""
    source: tuple[bytes, ...] = ()


class Blocks:
    """Exact counts of bytes out of chunks of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self.position = 0

    def some(self, count: int) -> bytes:
        """At least one and at most `count` bytes; raises `corrupt` at the end."""
        while not self._held:
            piece = next(self._chunks, None)
            if piece is None:
                raise PlatformError("corrupt", "the layer ends in the middle of an entry")
            self._held = piece
        taken, self._held = self._held[:count], self._held[count:]
        self.position += len(taken)
        return taken

    def take(self, count: int) -> bytes:
        pieces, left = [], count
        while left:
            pieces.append(self.some(left))
            left -= len(pieces[-1])
        return b"".join(pieces)

    def block(self) -> bytes | None:
        """The next header block; None where the archive ends without the two empty ones."""
        while not self._held:
            piece = next(self._chunks, None)
            if piece is None:
                return None
            self._held = piece
        return self.take(BLOCK)

    def drain(self) -> None:
        """Take what is left, so that whoever counts or sums the chunks sees all of them."""
        self._held = b""
        for _ in self._chunks:
            pass


def read(chunks: Iterable[bytes]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """The entries, each with its content; what is not taken of a content is skipped.

    Raises `corrupt`, `invalid` or `limit-exceeded` with the name of the entry.  All chunks are
    taken in the end, also those after the archive's end.
    """
    blocks = Blocks(chunks)
    count = 0
    while (entry := _next(blocks)) is not None:
        count += 1
        if count > limits.ENTRIES_MAX:
            raise PlatformError(
                "limit-exceeded", f"the layer has more than {limits.ENTRIES_MAX} entries"
            )
        content = _content(blocks, entry.size)
        yield entry, content
        for _ in content:
            pass
    blocks.drain()


def index(chunks: Iterable[bytes]) -> Iterator[tuple[Entry, int]]:
    """The entries of an archive that can be read again by offset, each with its content's."""
    blocks = Blocks(chunks)
    count = 0
    while (entry := _next(blocks)) is not None:
        count += 1
        if count > limits.COLLECTION_ENTRIES_MAX:
            raise PlatformError(
                "limit-exceeded",
                f"the archive has more than {limits.COLLECTION_ENTRIES_MAX} members",
            )
        yield entry, blocks.position
        for _ in _content(blocks, entry.size):
            pass


def shown(name: bytes) -> str:
    """A name as it may stand in a message: one printable line of bounded length."""
    text = name[:200].decode("utf-8", "backslashreplace")
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text) + '"'


def refused(name: bytes, reason: str, code: str = "invalid") -> PlatformError:
    """The error for an entry that no layer may have."""
    return PlatformError(code, f"{shown(name)}: {reason}", entry=shown(name)[1:-1])


def split(name: bytes) -> tuple[bytes, ...]:
    """The names of a path, without what means the same; raises for one that cannot be unpacked."""
    if b"\0" in name:
        raise refused(name, "a name may not contain a zero byte")
    if len(name) > limits.PATH_BYTES_MAX:
        raise refused(name, f"a path has at most {limits.PATH_BYTES_MAX} bytes", "limit-exceeded")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise refused(name, "a path may not climb")
    if len(parts) > limits.DEPTH_MAX:
        raise refused(name, f"a path has at most {limits.DEPTH_MAX} names", "limit-exceeded")
    if any(len(part) > limits.NAME_BYTES_MAX for part in parts):
        raise refused(name, f"a name has at most {limits.NAME_BYTES_MAX} bytes", "limit-exceeded")
    return parts


def _content(blocks: Blocks, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = blocks.some(min(left, limits.CHUNK_BYTES))
        left -= len(piece)
        yield piece
    blocks.take(-size % BLOCK)


@dataclass(slots=True)
class _More:
    """What extended headers have said about the next entry."""

    path: bytes | None = None
    target: bytes | None = None
    numbers: dict[str, int] | None = None


def _next(blocks: Blocks) -> Entry | None:
    """The next entry; None at the end."""
    more = _More()
    for _ in range(limits.EXTENDED_IN_A_ROW_MAX + 1):
        block = blocks.block()
        if block is None or not any(block):
            return None
        _check_sum(block)
        flag, size = block[156:157], _number(block[124:136], "size")
        if flag == b"g":  # about all that follow: nothing of it matters here
            blocks.take(_extended_size(size))
        elif flag in _EXTENDED:
            payload = blocks.take(_extended_size(size))[:size]
            _learn(more, flag, payload)
        else:
            return _entry(block, flag, size, more)
    raise PlatformError("limit-exceeded", "too many extended headers before one entry")


def _extended_size(size: int) -> int:
    if size > limits.EXTENDED_BYTES_MAX:
        raise PlatformError(
            "limit-exceeded",
            f"an extended header has at most {limits.EXTENDED_BYTES_MAX} bytes, not {size}",
        )
    return size + -size % BLOCK


def _learn(more: _More, flag: bytes, payload: bytes) -> None:
    if flag == b"L":
        more.path = payload.rstrip(b"\0")
    elif flag == b"K":
        more.target = payload.rstrip(b"\0")
    else:
        _learn_records(more, payload)


def _learn_records(more: _More, payload: bytes) -> None:
    """`length keyword=value` and a new line, where the length counts itself."""
    at = 0
    while at < len(payload) and payload[at : at + 1] != b"\0":
        digits, space, _ = payload[at : at + 12].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = payload[at : at + length]
        keyword, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or len(record) != length or not record.endswith(b"\n"):
            raise PlatformError("corrupt", "an extended header of the layer is malformed")
        at += length
        if keyword == b"path":
            more.path = value
        elif keyword == b"linkpath":
            more.target = value
        elif keyword in _NUMBERS:
            if not value.isdigit() or len(value) > 20:
                raise PlatformError("corrupt", f"the {_NUMBERS[keyword]} of an entry is no number")
            more.numbers = {**(more.numbers or {}), _NUMBERS[keyword]: int(value)}
        elif keyword == b"mtime":
            whole = value.removeprefix(b"-").partition(b".")[0]
            if not whole.isdigit() or len(whole) > 20:
                raise PlatformError("corrupt", "the time of an entry is no number")
            seconds = 0 if value.startswith(b"-") else int(whole)
            more.numbers = {**(more.numbers or {}), "mtime": seconds}
        elif keyword.startswith(b"GNU.sparse."):
            raise PlatformError("invalid", "sparse files are not allowed in a layer")


def _entry(block: bytes, flag: bytes, size: int, more: _More) -> Entry:
    name = more.path if more.path is not None else _name(block)
    numbers = more.numbers or {}
    if flag in _REFUSED:
        raise refused(name, f"{_REFUSED[flag]} are not allowed in a layer")
    kind = _KINDS.get(flag)
    if kind is None:
        raise refused(name, "an entry of unknown type is not allowed in a layer")
    if kind is Kind.FILE and flag != b"7" and name.endswith(b"/"):
        kind = Kind.DIRECTORY  # as before POSIX
    size = numbers.get("size", size)
    if size > limits.FILE_BYTES_MAX:
        raise refused(name, f"a file has at most {limits.FILE_BYTES_MAX} bytes", "limit-exceeded")
    target = more.target if more.target is not None else _string(block[157:257])
    source: tuple[bytes, ...] = ()
    if kind is Kind.HARD_LINK:
        source = split(target)
        size = 0  # its content stands at its source
    elif kind is not Kind.FILE:
        if size and kind is not Kind.DIRECTORY:
            raise refused(name, "only a file may have content")
        size = 0 if kind is not Kind.DIRECTORY else size
    if kind is Kind.LINK:
        _check_target(name, target)
    mtime = _number(block[136:148], "time", signed=True)
    return Entry(
        parts=split(name),
        kind=kind,
        size=size,
        mode=_number(block[100:108], "mode") & 0o7777,
        uid=_id(name, numbers.get("uid", _number(block[108:116], "uid"))),
        gid=_id(name, numbers.get("gid", _number(block[116:124], "gid"))),
        mtime=min(_MTIME_MAX, max(0, numbers.get("mtime", mtime))),
        target=target,
        source=source,
    )


def _check_target(name: bytes, target: bytes) -> None:
    if not target or b"\0" in target:
        raise refused(name, "a symbolic link needs a target")
    if len(target) > limits.TARGET_BYTES_MAX:
        raise refused(
            name, f"a link's target has at most {limits.TARGET_BYTES_MAX} bytes", "limit-exceeded"
        )


def _id(name: bytes, value: int) -> int:
    if value > limits.ID_MAX:
        raise refused(name, f"users and groups are numbers up to {limits.ID_MAX}, not {value}")
    return value


def _name(block: bytes) -> bytes:
    name = _string(block[:100])
    if block[257:263] == b"ustar\0":
        prefix = _string(block[345:500])
        if prefix:
            return prefix + b"/" + name
    return name


def _check_sum(block: bytes) -> None:
    """The sum of all bytes, with its own field taken as spaces; some tools sum signed bytes."""
    said = _number(block[148:156], "checksum")
    rest = block[:148] + b" " * 8 + block[156:]
    total = sum(rest)
    if said != total and said != total - 256 * sum(1 for byte in rest if byte > 127):
        raise PlatformError("corrupt", "a header of the layer does not match its checksum")


def _string(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _number(field: bytes, what: str, *, signed: bool = False) -> int:
    """Octal digits, or base 256 where the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if value < 0 and not signed:
            raise PlatformError("corrupt", f"the {what} of an entry is negative")
        return value
    digits = field.strip(b"\0 ").split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    if any(digit not in b"01234567" for digit in digits):
        raise PlatformError("corrupt", f"the {what} of an entry is no number")
    return int(digits, 8)
