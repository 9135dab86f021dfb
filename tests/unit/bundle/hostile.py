"""Archives that no bundle may be: each a name, the packed bytes, and what the refusal must say.

Headers are made by hand, field by field, since well-behaved tools do not write most of these.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator

import zstandard

from paas.bundle import archive, limits, tar_format
from paas.bundle.tar_format import Entry, Kind


def header(
    name: bytes,
    flag: bytes = b"0",
    size: int | bytes = 0,
    mode: int = 0o644,
    link: bytes = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    owner: bytes = b"0000000\0",
    time: bytes = b"00000000000\0",
    user: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    """One header block with a right checksum, whatever it says."""
    count = size if isinstance(size, bytes) else b"%011o\0" % size
    block = (
        name.ljust(100, b"\0") + b"%07o\0" % mode + owner + b"0000000\0" + count + time
    ) + b" " * 8
    block += flag + link.ljust(100, b"\0") + magic + user.ljust(64, b"\0")
    block += b"0000000\0" * 2 + prefix.ljust(155, b"\0") + rest.ljust(12, b"\0")
    assert len(block) == 512
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(path: bytes, content: bytes = b"", **fields: object) -> bytes:
    return header(path, size=len(content), **fields) + padded(content)  # type: ignore[arg-type]


def directory(path: bytes) -> bytes:
    return tar_format.encode(Entry(path, Kind.DIRECTORY))


def link(path: bytes, target: bytes) -> bytes:
    return header(path, b"2", mode=0o777, link=target)


def extended(records: bytes) -> bytes:
    return header(b"././@PaxHeader", b"x", size=len(records)) + padded(records)


def record(text: bytes) -> bytes:
    length = len(text) + 3
    while len(b"%d " % length) + len(text) + 1 != length:
        length += 1
    return b"%d " % length + text + b"\n"


def packed(tar: bytes, *, end: bytes = tar_format.END) -> bytes:
    """Compressed exactly as a bundle is."""
    return compressed([tar, end])


def compressed(pieces: list[bytes] | Iterator[bytes]) -> bytes:
    compressor = zstandard.ZstdCompressor(compression_params=archive._PARAMETERS).compressobj()
    return b"".join([*map(compressor.compress, pieces), compressor.flush()])


def zstd(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


def _tarfile(fill: Callable[[tarfile.TarFile], None], form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        fill(tar)
    return compressed([buffer.getvalue()])


def _info(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def _zeros(count: int) -> Iterator[bytes]:
    yield header(b"zeros", size=count)
    for _ in range(count >> 20):
        yield bytes(1 << 20)
    yield tar_format.END


_GOOD = packed(file(b"a", b"hello"))
_LONG = b"n" * 300

ANSWERS = {
    "climbing": (packed(file(b"../evil")), "out of the bundle"),
    "climbing inside": (packed(directory(b"a") + file(b"a/../../evil")), "out of the bundle"),
    "dots at the end": (packed(directory(b"a") + file(b"a/..")), "out of the bundle"),
    "absolute": (packed(file(b"/evil")), "absolute"),
    "absolute by prefix": (packed(file(b"evil", prefix=b"/etc")), "absolute"),
    "absolute in an extended header": (
        packed(extended(record(b"path=/evil")) + file(b"evil")),
        "absolute",
    ),
    "climbing in an extended header": (
        packed(extended(record(b"path=../evil")) + file(b"evil")),
        "out of the bundle",
    ),
    "climbing directory": (packed(header(b"../d/", b"5", mode=0o755)), "out of the bundle"),
    "dot": (packed(file(b"./a")), "empty name"),
    "double slash": (packed(directory(b"a") + file(b"a//b")), "empty name"),
    "empty name": (packed(file(b"")), "empty"),
    "root itself": (packed(header(b"/", b"5", mode=0o755)), "empty"),
    "link to the absolute": (packed(link(b"l", b"/etc/passwd")), "absolute"),
    "link out": (packed(link(b"l", b"../x")), "leads out"),
    "link out from inside": (
        packed(directory(b"a") + link(b"a/l", b"../../x")),
        "leads out",
    ),
    "link that climbs late": (packed(link(b"l", b"a/../../x")), "after a name"),
    "link out through a link": (
        packed(
            directory(b"a")
            + directory(b"a/b")
            + link(b"a/b/up", b"../..")
            + link(b"z", b"a/b/up/../x")
        ),
        "after a name",
    ),
    "link without target": (packed(link(b"l", b"")), "empty"),
    "link out in an extended header": (
        packed(extended(record(b"linkpath=../../x")) + link(b"l", b"ok")),
        "leads out",
    ),
    "file through a link": (packed(link(b"d", b"x") + file(b"d/evil")), "not a directory"),
    "file through a link to dot": (packed(link(b"d", b".") + file(b"d/evil")), "not a directory"),
    "file through a file": (packed(file(b"d") + file(b"d/evil")), "not a directory"),
    "file over a link": (packed(link(b"d", b"x") + file(b"d")), "twice"),
    "directory over a link": (packed(link(b"d", b"x") + directory(b"d")), "twice"),
    "duplicate": (packed(file(b"a") + file(b"a", b"other")), "twice"),
    "duplicate later": (packed(file(b"a") + file(b"b") + file(b"a")), "twice"),
    "missing directory": (packed(file(b"a/b")), "missing"),
    "out of order": (packed(file(b"b") + file(b"a")), "order"),
    "hard link": (packed(file(b"a") + header(b"b", b"1", link=b"a")), "hard links"),
    "hard link out": (packed(header(b"b", b"1", link=b"/etc/passwd")), "hard links"),
    "character device": (packed(header(b"null", b"3")), "character devices"),
    "block device": (packed(header(b"sda", b"4")), "block devices"),
    "named pipe": (packed(header(b"pipe", b"6")), "named pipes"),
    "contiguous file": (packed(header(b"c", b"7")), "contiguous"),
    "old header type": (packed(header(b"c", b"\0")), "older than POSIX"),
    "unknown type": (packed(header(b"c", b"Z")), "unknown type"),
    "type that is not text": (packed(header(b"c", b"\xff")), "unknown type"),
    "setuid": (packed(file(b"su", b"x", mode=0o4755)), "setuid"),
    "setgid": (packed(file(b"sg", b"x", mode=0o2755)), "setuid"),
    "sticky": (packed(file(b"st", b"x", mode=0o1755)), "setuid"),
    "world-writable": (packed(file(b"w", mode=0o666)), "not in the form"),
    "writable directory": (packed(header(b"d/", b"5", mode=0o777)), "not in the form"),
    "owner": (packed(file(b"o", owner=b"0001750\0")), "not in the form"),
    "owner name": (packed(file(b"o", user=b"root")), "not in the form"),
    "time": (packed(file(b"t", time=b"14000000000\0")), "not in the form"),
    "hidden bytes in the header": (packed(file(b"h", rest=b"secret")), "not in the form"),
    "bytes after the name": (packed(file(b"n\0hidden")), "not in the form"),
    "bytes after the content": (
        packed(header(b"a", size=1) + b"x" + b"y" * 511),
        "not empty",
    ),
    "directory with content": (
        packed(header(b"d/", b"5", size=5, mode=0o755) + padded(b"hello")),
        "only a file",
    ),
    "link with content": (
        packed(header(b"l", b"2", size=5, mode=0o777, link=b"x") + padded(b"hello")),
        "only a file",
    ),
    "control byte": (packed(file(b"a\nb")), "control character"),
    "escape sequence": (packed(file(b"\x1b[2J")), "control character"),
    "control character beyond ASCII": (packed(file("a\u0085".encode())), "control character"),
    "NUL in an extended header": (
        packed(extended(record(b"path=a\0b")) + file(b"a")),
        "control character",
    ),
    "not UTF-8": (packed(file(b"\xff\xfe")), "UTF-8"),
    "half character": (packed(file(b"\xed\xa0\x80")), "UTF-8"),
    "long name": (
        packed(extended(record(b"path=" + _LONG)) + file(_LONG[:100])),
        "more than 255",
    ),
    "long path": (
        packed(extended(record(b"path=" + b"p/" * 700 + b"x")) + file(b"x")),
        "more than 1024",
    ),
    "deep path": (packed(file(b"d/" * 49 + b"x", prefix=b"d/" * 20 + b"d")), "nested more"),
    "long target": (
        packed(extended(record(b"linkpath=" + b"t" * 1025)) + link(b"l", b"t" * 100)),
        "more than 1024",
    ),
    "needless extended header": (
        packed(extended(record(b"path=a")) + file(b"a")),
        "not in the form",
    ),
    "extended header with another key": (
        packed(extended(record(b"SCHILY.xattr.security.capability=x")) + file(b"a")),
        "may not say this",
    ),
    "extended header with a size": (
        packed(extended(record(b"size=99999999999")) + file(b"a")),
        "may not say this",
    ),
    "extended header twice": (
        packed(extended(record(b"path=a")) + extended(record(b"path=b")) + file(b"a")),
        "follows another",
    ),
    "extended key twice": (
        packed(extended(record(b"path=a") + record(b"path=b")) + file(b"a")),
        "may not say this",
    ),
    "malformed extended header": (packed(extended(b"99 path=a\n") + file(b"a")), "malformed"),
    "extended header of length zero": (packed(extended(b"0 path=a\n") + file(b"a")), "malformed"),
    "long extended header": (packed(extended(b"1" * 10_000) + file(b"a")), "too long"),
    "empty extended header": (packed(extended(b"") + file(b"a")), "too long"),
    "global extended header": (
        packed(header(b"g", b"g", size=len(record(b"path=x"))) + padded(record(b"path=x"))),
        "global",
    ),
    "GNU long name": (packed(header(b"././@LongLink", b"L", size=4) + padded(b"abc\0")), "GNU"),
    "GNU long link": (packed(header(b"././@LongLink", b"K", size=4) + padded(b"abc\0")), "GNU"),
    "GNU sparse": (packed(header(b"s", b"S")), "sparse"),
    "GNU magic": (packed(file(b"a", magic=b"ustar  \0")), "not a POSIX header"),
    "old magic": (packed(file(b"a", magic=bytes(8))), "not a POSIX header"),
    "size in base 256": (
        packed(header(b"a", size=b"\x80" + bytes(3) + b"\xff" * 8)),
        "not octal",
    ),
    "negative size": (packed(header(b"a", size=b"-0000000001\0")), "not octal"),
    "huge size": (packed(header(b"a", size=b"77777777777\0")), f"{limits.FILE_BYTES_MAX}"),
    "wrong length": (packed(header(b"a", size=5000) + padded(b"short")), "too early"),
    "wrong checksum": (packed(b"b" + file(b"a")[1:]), "checksum"),
    "half a block": (packed(file(b"a")[:300]), "checksum"),
    "no end": (packed(file(b"a"), end=b""), "too early"),
    "half an end": (packed(file(b"a"), end=bytes(512)), "too early"),
    "something in the end": (
        packed(file(b"a"), end=bytes(512) + file(b"b") + bytes(1024)),
        "empty block",
    ),
    "second archive inside of the frame": (
        packed(file(b"a"), end=tar_format.END + file(b"b") + tar_format.END),
        "further bytes",
    ),
    "padding to a tape record": (packed(file(b"a"), end=bytes(10240)), "further bytes"),
    "nothing": (b"", "too early"),
    "nothing packed": (compressed([]), "too early"),
    "not zstd": (b"PK\x03\x04" * 100, "not a zstd"),
    "plain tar": (file(b"a") + tar_format.END, "not a zstd"),
    "truncated": (_GOOD[:-10], "too early"),
    "truncated in the checksum": (_GOOD[:-1], "too early"),
    "wrong frame checksum": (_GOOD[:-1] + bytes([_GOOD[-1] ^ 1]), "decompressed"),
    "trailing byte": (_GOOD + b"x", "further bytes"),
    "trailing frame": (_GOOD + _GOOD, "further bytes"),
    "skippable frame first": (b"\x50\x2a\x4d\x18\x01\0\0\0x" + _GOOD, "not a zstd"),
    "skippable frame last": (_GOOD + b"\x50\x2a\x4d\x18\x01\0\0\0x", "further bytes"),
    "declared content size": (zstd(file(b"a") + tar_format.END), "compression"),
    "large window": (
        _GOOD[:5] + bytes([(31 - 10) << 3]) + _GOOD[6:],
        "window",
    ),
    "reserved block": (_GOOD[:6] + b"\x07\0\0" + _GOOD[9:], "no known type"),
    "bomb": (compressed(_zeros(200 << 20)), "200-fold"),
    "sparse by tarfile": (
        _tarfile(
            lambda tar: tar.addfile(
                _info(
                    "s", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 40)}
                )
            ),
            tarfile.PAX_FORMAT,
        ),
        "may not say this",
    ),
    "GNU tar of a long name": (
        _tarfile(lambda tar: tar.addfile(_info("x" * 120)), tarfile.GNU_FORMAT),
        "not a POSIX header",
    ),
}
