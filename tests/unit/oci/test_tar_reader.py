"""Layers of all usual dialects are read as others read them; what could mislead is refused."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.oci import limits, tar_reader
from paas.oci.tar_reader import Kind

FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def tar(*members: tuple[dict[str, Any], bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for facts, content in members:
            info = tarfile.TarInfo()
            info.size = len(content)
            for name, value in facts.items():
                setattr(info, name, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read(data: bytes, cut: int = 1_000) -> list[tuple[tar_reader.Entry, bytes]]:
    chunks = (data[at : at + cut] for at in range(0, len(data), cut))
    return [(entry, b"".join(content)) for entry, content in tar_reader.read(chunks)]


def outcome(data: bytes) -> str:
    """The code of the refusal; empty when there was none."""
    try:
        read(data)
    except PlatformError as exc:
        return exc.code
    return ""


def block(name: bytes, flag: bytes, **fields: bytes) -> bytes:
    """One header by hand, with a right checksum whatever it says."""
    size = fields.get("size", b"00000000000\0")
    head = name.ljust(100, b"\0") + fields.get("mode", b"0000644\0")
    head += fields.get("uid", b"0000000\0") + b"0000000\0" + size
    head += fields.get("mtime", b"00000000000\0")
    tail = flag + fields.get("link", b"").ljust(100, b"\0") + b"ustar\x0000" + bytes(247)
    whole = head + b" " * 8 + tail
    return head + b"%06o\0 " % sum(whole) + tail


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [1, 511, 512, 513, 100_000])
def test_what_the_standard_library_writes_is_read(form: int, cut: int) -> None:
    data = tar(
        ({"name": "d", "type": tarfile.DIRTYPE, "mode": 0o755, "mtime": 5}, b""),
        ({"name": "d/f", "mode": 0o640, "uid": 12, "gid": 34, "mtime": 77}, b"content" * 99),
        ({"name": "l", "type": tarfile.SYMTYPE, "linkname": "d/f"}, b""),
        ({"name": "h", "type": tarfile.LNKTYPE, "linkname": "./d/f"}, b""),
        ({"name": "p", "type": tarfile.FIFOTYPE}, b""),
        form=form,
    )
    found = read(data, cut)
    assert [entry.kind for entry, _ in found] == [
        Kind.DIRECTORY,
        Kind.FILE,
        Kind.LINK,
        Kind.HARD_LINK,
        Kind.DEVICE,
    ]
    file, content = found[1]
    assert (file.parts, file.mode, file.uid, file.gid, file.mtime) == (
        (b"d", b"f"),
        0o640,
        12,
        34,
        77,
    )
    assert content == b"content" * 99
    assert found[2][0].target == b"d/f"
    assert found[3][0].source == (b"d", b"f")


NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=60
)


@settings(max_examples=120, deadline=None)
@given(
    members=st.lists(
        st.tuples(
            st.lists(NAMES.map(lambda n: n.replace("/", "-")), min_size=1, max_size=6),
            st.binary(max_size=1_500),
            st.integers(0, 0o777),
            st.integers(0, limits.ID_MAX),
            st.integers(0, (1 << 34) - 1),
        ),
        max_size=5,
    ),
    form=st.sampled_from(FORMS[1:]),
)
def test_every_file_comes_out_as_it_went_in(members: list[Any], form: int) -> None:
    wanted = []
    for parts, content, mode, uid, mtime in members:
        parts = [p if p not in (".", "..") else "x" for p in parts]
        name = "/".join(parts)
        wanted.append(({"name": name, "mode": mode, "uid": uid, "mtime": mtime}, content))
    for (facts, content), (entry, got) in zip(wanted, read(tar(*wanted, form=form)), strict=True):
        assert b"/".join(entry.parts) == facts["name"].encode("utf-8", "surrogateescape")
        assert (entry.mode, entry.uid, entry.mtime) == (facts["mode"], facts["uid"], facts["mtime"])
        assert got == content


def test_content_that_is_not_taken_is_skipped() -> None:
    data = tar(({"name": "a"}, b"x" * 5_000), ({"name": "b"}, b"y"))
    assert [entry.parts for entry, _ in tar_reader.read([data])] == [(b"a",), (b"b",)]


def test_all_chunks_are_taken_also_behind_the_end() -> None:
    taken = []

    def chunks() -> Any:
        for piece in (tar(({"name": "a"}, b"1")), b"\0" * 700, b"behind"):
            taken.append(piece)
            yield piece

    assert len(list(tar_reader.read(chunks()))) == 1
    assert len(taken) == 3


def test_an_archive_may_end_without_its_empty_blocks() -> None:
    assert len(read(tar(({"name": "a"}, b"1"))[:1024])) == 1
    assert read(b"") == []


FILE = block(b"f", b"0")
REFUSED = {
    "sparse": (block(b"f", b"S"), "sparse files"),
    "continued": (block(b"f", b"M"), "continued files"),
    "label": (block(b"f", b"V"), "volume labels"),
    "unknown type": (block(b"f", b"Z"), "unknown type"),
    "climbing": (block(b"a/../../b", b"0"), "may not climb"),
    "climbing link source": (block(b"a", b"1", link=b"../b"), "may not climb"),
    "long name": (
        block(b"", b"L", size=b"00000000400\0") + b"n" * 256 + bytes(256) + FILE,
        "at most 255",
    ),
    "link to nowhere": (block(b"l", b"2"), "needs a target"),
    "content of a link": (block(b"l", b"2", link=b"x", size=b"00000000007\0"), "only a file"),
    "huge": (block(b"f", b"0", size=b"\x80" + b"\0" * 5 + b"\x7f" * 6), "at most"),
    "negative size": (block(b"f", b"0", size=b"\xff" * 12), "negative"),
    "size of letters": (block(b"f", b"0", size=b"xyz".ljust(12)), "no number"),
    "user beyond the range": (block(b"f", b"0", uid=b"0200000\0"), "up to 65535"),
    "negative user": (block(b"f", b"0", uid=b"\xff" * 8), "negative"),
    "bad checksum": (block(b"f", b"0")[:-1] + b"x", "checksum"),
    "too long an extended header": (block(b"", b"x", size=b"77777777777\0"), "at most"),
    "too long a name header": (block(b"", b"L", size=b"00010000000\0"), "at most"),
    "endless extended headers": (block(b"", b"x") * 100, "too many extended"),
    "ends in a header": (block(b"f", b"0")[:100], "ends in the middle"),
    "ends in a file": (block(b"f", b"0", size=b"00000001000\0") + b"1", "ends in the middle"),
    "too deep": (block(b"", b"L", size=b"00000001000\0") + b"d/" * 256 + FILE, "at most 128 names"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_layer_may_have_is_refused(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(PlatformError, match=reason) as caught:
        read(data)
    assert caught.value.code in ("invalid", "corrupt", "limit-exceeded")


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (b"7 path\n", "malformed"),
        (b"99 path=x\n", "malformed"),
        (b"path=x\n", "malformed"),
        (b"0 path=x\n", "malformed"),
        (b"11 path=x/y", "malformed"),
        (b"11 size=-1\n", "no number"),
        (b"11 uid=abc\n", "no number"),
        (b"13 mtime=1e9\n", "no number"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
        (b"13 path=../x\n", "may not climb"),
        (b"14 path=a\0b/c\n", "zero byte"),
    ],
)
def test_bad_extended_records_are_refused(records: bytes, reason: str) -> None:
    size = b"%011o\0" % len(records)
    data = block(b"", b"x", size=size) + records.ljust(512, b"\0") + block(b"f", b"0")
    with pytest.raises(PlatformError, match=reason):
        read(data)


def test_the_last_word_about_a_size_is_the_extended_headers() -> None:
    records = b"10 size=3\n"
    data = block(b"", b"x", size=b"%011o\0" % len(records)) + records.ljust(512, b"\0")
    data += block(b"f", b"0", size=b"00000000000\0") + b"abc".ljust(512, b"\0")
    assert read(data)[0][1] == b"abc"


def test_times_may_have_fractions_and_lie_before_the_beginning() -> None:
    for value, seconds in ((b"12.75", 12), (b"-3.5", 0), (b"99999999999999", (1 << 34) - 1)):
        record = b" mtime=" + value + b"\n"
        record = b"%d" % (len(record) + 2) + record
        data = block(b"", b"x", size=b"%011o\0" % len(record)) + record.ljust(512, b"\0") + FILE
        assert read(data)[0][0].mtime == seconds


def test_more_entries_than_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRIES_MAX", 2)
    with pytest.raises(PlatformError, match="more than 2 entries"):
        read(tar(*(({"name": str(i)}, b"") for i in range(3))))


def test_an_index_tells_where_contents_begin() -> None:
    data = tar(({"name": "a"}, b"x" * 600), ({"name": "b"}, b"yes"))
    found = {entry.parts: (offset, entry.size) for entry, offset in tar_reader.index([data])}
    offset, size = found[(b"b",)]
    assert data[offset : offset + size] == b"yes"


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=2_048), at=st.integers(0, 1_023), rest=st.binary(max_size=64))
def test_noise_is_read_or_refused_and_nothing_else(data: bytes, at: int, rest: bytes) -> None:
    good = bytearray(tar(({"name": "a" * 120}, b"1")))
    good[at : at + len(rest)] = rest
    for noise in (data, bytes(good)):
        assert outcome(noise) in ("", "invalid", "corrupt", "limit-exceeded")
