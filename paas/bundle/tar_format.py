"""The one form of tar that bundles have: POSIX ustar, every header derived from four facts.

    path, kind, size or link target, executable or not  <->  header blocks, byte for byte

There is exactly one way to write an entry: owner 0, no owner names, time 0, mode 0644, 0755 or
0777. A path or target that ustar cannot hold is preceded by one POSIX extended header with nothing
but `path` and `linkpath`.  The reader takes the facts out of a header and writes it again; when the
bytes differ, the header says something we do not know, and the archive is refused.  So sparse
files, odd encodings of numbers, hidden data in unused fields and all later inventions fail alike.
One tree has one archive, thus one digest.  Source: POSIX.1-2017, `pax`, "ustar Interchange Format"
and "pax Header File Format".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from paas.base.errors import PlatformError
from paas.bundle import limits, paths

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
"""Two zero blocks end an archive, and nothing follows: no padding to a tape record."""

EXTENDED_BYTES_MAX = 2 * (limits.PATH_BYTES_MAX + limits.LINK_BYTES_MAX)
_NAME_BYTES = 100
_PREFIX_BYTES = 155
_EXTENDED_NAME = b"././@PaxHeader"
_MAGIC = b"ustar\x0000"

_UNSUPPORTED = {
    b"1": "hard links are not allowed in a bundle",
    b"3": "character devices are not allowed in a bundle",
    b"4": "block devices are not allowed in a bundle",
    b"6": "named pipes are not allowed in a bundle",
    b"7": "contiguous files are not allowed in a bundle",
    b"S": "sparse files are not allowed in a bundle",
    b"L": "GNU long names are not allowed in a bundle",
    b"K": "GNU long links are not allowed in a bundle",
    b"g": "global extended headers are not allowed in a bundle",
    b"\0": "headers older than POSIX are not allowed in a bundle",
}


class Kind(enum.StrEnum):
    """What an entry is; the value is tar's type flag."""

    FILE = "0"
    LINK = "2"
    DIRECTORY = "5"
    EXTENDED = "x"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symbolic link of a bundle; `path` in bytes as in the archive."""

    path: bytes
    kind: Kind
    size: int = 0
    executable: bool = False
    target: bytes = b""

    @property
    def mode(self) -> int:
        if self.kind is Kind.LINK:
            return 0o777
        return 0o755 if self.kind is Kind.DIRECTORY or self.executable else 0o644

    def padding(self) -> int:
        """Zero bytes after the content."""
        return -self.size % BLOCK_BYTES


def encode(entry: Entry) -> bytes:
    """The header blocks of an entry."""
    name = entry.path + b"/" if entry.kind is Kind.DIRECTORY else entry.path
    prefix, rest = _split(name)
    records = b""
    if not rest:
        records += _record(b"path", name)
        rest = name[:_NAME_BYTES]
    target = entry.target
    if len(target) > _NAME_BYTES:
        records += _record(b"linkpath", target)
        target = target[:_NAME_BYTES]
    blocks = _block(prefix, rest, entry.mode, entry.size, entry.kind, target)
    if not records:
        return blocks
    extended = _block(b"", _EXTENDED_NAME, 0o644, len(records), Kind.EXTENDED, b"")
    return extended + records + bytes(-len(records) % BLOCK_BYTES) + blocks


@dataclass(frozen=True, slots=True)
class Header:
    """One header block, read but not yet believed."""

    path: bytes
    flag: bytes
    size: int
    mode: int
    target: bytes


def read_header(block: bytes) -> Header:
    """Take a header block apart; raises `corrupt` when it is none."""
    if len(block) != BLOCK_BYTES or block[257:265] != _MAGIC:
        raise PlatformError("corrupt", "the archive has a block that is not a POSIX header")
    if _checksum(block) != block[148:156]:
        raise PlatformError("corrupt", "a header of the archive does not match its checksum")
    prefix, name = _string(block[345:500]), _string(block[:100])
    path = prefix + b"/" + name if prefix else name
    size, mode = _octal(block[124:136]), _octal(block[100:108])
    if size is None or mode is None:
        raise paths.refused(path, "the header has a number that is not octal", "corrupt")
    return Header(path, block[156:157], size, mode, _string(block[157:257]))


def read_records(payload: bytes) -> dict[bytes, bytes]:
    """The records of an extended header: `path` and `linkpath` at most, each once."""
    records: dict[bytes, bytes] = {}
    while payload:
        digits, _, rest = payload.partition(b" ")
        length = int(digits) if len(digits) <= 4 and digits.isdigit() else 0
        keyword, equals, value = payload[len(digits) + 1 : length].partition(b"=")
        if not rest or not equals or length > len(payload) or not value.endswith(b"\n"):
            raise PlatformError("corrupt", "an extended header of the archive is malformed")
        if keyword not in (b"path", b"linkpath") or keyword in records:
            raise paths.refused(keyword, "an extended header may not say this")
        records[keyword] = value[:-1]
        payload = payload[length:]
    return records


def decode(header: Header, records: dict[bytes, bytes], blocks: bytes) -> Entry:
    """The entry that `blocks` (all its header blocks) describe, if they are its only form."""
    path = records.get(b"path", header.path)
    if header.flag in _UNSUPPORTED:
        raise paths.refused(path, _UNSUPPORTED[header.flag])
    try:
        kind = Kind(header.flag.decode("ascii"))
    except ValueError:
        raise paths.refused(path, "an entry of unknown type is not allowed in a bundle") from None
    if kind is Kind.EXTENDED:
        raise paths.refused(path, "an extended header follows another")
    if header.mode & 0o7000:
        raise paths.refused(path, "setuid, setgid and sticky bits are not allowed in a bundle")
    if header.size > limits.FILE_BYTES_MAX:
        raise paths.refused(
            path, f"the file has more than {limits.FILE_BYTES_MAX} bytes", "limit-exceeded"
        )
    if kind is not Kind.FILE and header.size:
        raise paths.refused(path, "only a file may have content")
    entry = Entry(
        path=path.removesuffix(b"/") if kind is Kind.DIRECTORY else path,
        kind=kind,
        size=header.size,
        executable=kind is Kind.FILE and header.mode == 0o755,
        target=records.get(b"linkpath", header.target),
    )
    parts = paths.check_path(entry.path)
    if kind is Kind.LINK:
        paths.check_link(entry.path, entry.target, len(parts) - 1)
    if encode(entry) != blocks:
        raise paths.refused(path, "the header is not in the form of bundles; build it again")
    return entry


def _split(name: bytes) -> tuple[bytes, bytes]:
    """(prefix, name) that ustar can hold, splitting at the first slash possible; else no name."""
    if len(name) <= _NAME_BYTES:
        return b"", name
    at = name.find(b"/", len(name) - _NAME_BYTES - 1)
    if at == -1 or not 0 < at <= _PREFIX_BYTES or at == len(name) - 1:
        return b"", b""
    return name[:at], name[at + 1 :]


def _record(keyword: bytes, value: bytes) -> bytes:
    """`length keyword=value`, where the length counts itself."""
    body = b" " + keyword + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d" % length + body


def _block(prefix: bytes, name: bytes, mode: int, size: int, kind: Kind, target: bytes) -> bytes:
    head = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0" * 2,  # owner and group
            b"%011o\0" % size,
            b"00000000000\0",  # time
        )
    )
    tail = kind.value.encode() + target.ljust(100, b"\0") + _MAGIC + bytes(64) + b"0000000\0" * 2
    block = head + bytes(8) + tail + prefix.ljust(155, b"\0") + bytes(12)
    return block[:148] + _checksum(block) + block[156:]


def _checksum(block: bytes) -> bytes:
    """The checksum field: the sum of all bytes, with the field itself taken as spaces."""
    return b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * ord(" "))


def _string(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _octal(field: bytes) -> int | None:
    digits = field.rstrip(b"\0 ")
    return int(digits, 8) if digits and all(c in b"01234567" for c in digits) else None
