"""Trees as tar streams: what is copied, and what hostile trees and streams cannot do."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.bundle import copying


def packed(path: Path) -> bytes:
    out: list[bytes] = []
    copying.pack(str(path), out.append)
    return b"".join(out)


def unpacked(data: bytes, directory: Path, name: str = "top", piece: int = 777) -> copying.Counts:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        chunks = (data[at : at + piece] for at in range(0, len(data), piece))
        return copying.unpack(chunks, descriptor, name)
    finally:
        os.close(descriptor)


def stream(*members: tuple[dict[str, Any], bytes]) -> bytes:
    """A tar stream of any members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for facts, content in members:
            info = tarfile.TarInfo(facts["name"])
            info.size = len(content)
            for name, value in facts.items():
                setattr(info, name, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "below" / "deeper").mkdir(parents=True)
    (top / "run").write_bytes(b"#!/bin/sh\n")
    (top / "run").chmod(0o6755)
    (top / "below" / "large").write_bytes(os.urandom(600_000))
    (top / "below" / "empty").write_bytes(b"")
    (top / "below" / ("n" * 200)).write_bytes(b"a long name")
    (top / "below" / "ünïcode \n name").write_bytes(b"x")
    os.symlink("../run", top / "below" / "link")
    os.mkfifo(top / "pipe")
    os.utime(top / "run", (1_000_000, 1_000_000))
    (top / "below" / "deeper").chmod(0o500)
    return top


def picture(top: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(top.rglob("*")):
        facts = path.lstat()
        content: Any = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        if path.is_symlink():
            content = os.readlink(path)
        elif not path.is_file() and not path.is_dir():
            continue
        found[str(path.relative_to(top))] = (facts.st_mode & 0o170777, content)
    return found


def test_a_tree_comes_through_with_modes_times_and_links(tree: Path, tmp_path: Path) -> None:
    counts = unpacked(packed(tree), tmp_path, "copy")
    assert picture(tmp_path / "copy") == picture(tree)
    assert (tmp_path / "copy" / "run").stat().st_mtime == 1_000_000
    assert (tmp_path / "copy" / "run").stat().st_mode & 0o7000 == 0, "no set-user-ID bits"
    assert counts.files == 6


def test_special_files_are_left_out_and_named(tree: Path) -> None:
    counts = copying.pack(str(tree), lambda _data: None)
    assert (counts.skipped, counts.named) == (1, ["source/pipe"])


def test_one_file_gets_the_name_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    unpacked(packed(tmp_path / "a"), tmp_path, "b")
    assert (tmp_path / "b").read_text() == "text"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("there", ("there", "name")), ("new", ("", "new")), ("there/new", ("there", "new"))],
)
def test_the_destination_is_a_directory_or_a_new_name(
    tmp_path: Path, path: str, expected: tuple[str, str]
) -> None:
    (tmp_path / "there").mkdir()
    descriptor, name = copying.destination(str(tmp_path / path), "name")
    try:
        where = os.readlink(f"/proc/self/fd/{descriptor}")
        assert (where, name) == (str(tmp_path / expected[0]).rstrip("/"), expected[1])
    finally:
        os.close(descriptor)


def test_a_directory_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copying.destination(f"{tmp_path}/new/", "name")


def test_what_was_there_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    os.symlink(tmp_path / "victim", tmp_path / "top")
    unpacked(stream(({"name": "x"}, b"new")), tmp_path)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "top").is_symlink()
    assert (tmp_path / "top").read_text() == "new"


def test_a_file_that_grows_or_shrinks_meanwhile_has_the_size_it_began_with(
    tmp_path: Path,
) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"x" * 100_000)
    changed: list[bytes] = []

    def write(data: bytes) -> None:
        if not changed:
            source.write_bytes(b"short")
        changed.append(data)

    copying.pack(str(source), write)
    unpacked(b"".join(changed), tmp_path, "copy")
    assert len((tmp_path / "copy").read_bytes()) == 100_000


# -- hostile streams ------------------------------------------------------------------------------

LINK = tarfile.SYMTYPE
DIRECTORY = tarfile.DIRTYPE


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "a//x", "a/./x", "..", "a/" * 300 + "x"],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(PlatformError):
        unpacked(stream(({"name": name}, b"x")), inner)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inner"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_the_name_of_the_top_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlatformError):
        unpacked(stream(({"name": "x"}, b"")), tmp_path, name)


def test_nothing_is_written_through_a_link_of_the_stream(tmp_path: Path) -> None:
    outside, inner = tmp_path / "outside", tmp_path / "inner"
    outside.mkdir()
    inner.mkdir()
    data = stream(
        ({"name": "t", "type": DIRECTORY}, b""),
        ({"name": "t/way", "type": LINK, "linkname": str(outside)}, b""),
        ({"name": "t/way/file"}, b"escaped"),
    )
    with pytest.raises(OSError, match="way"):
        unpacked(data, inner)
    assert list(outside.iterdir()) == []


def test_nothing_is_written_through_a_link_that_was_there(tmp_path: Path) -> None:
    outside, inner = tmp_path / "outside", tmp_path / "inner"
    outside.mkdir()
    inner.mkdir()
    os.symlink(outside, inner / "top")
    with pytest.raises(OSError, match="top"):
        unpacked(stream(({"name": "t", "type": DIRECTORY}, b""), ({"name": "t/f"}, b"x")), inner)
    assert list(outside.iterdir()) == []


def test_devices_hard_links_and_pipes_of_the_stream_are_left_out(tmp_path: Path) -> None:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE)
    members = [({"name": f"t/{i}", "type": k, "linkname": "t"}, b"") for i, k in enumerate(kinds)]
    counts = unpacked(stream(({"name": "t", "type": DIRECTORY}, b""), *members), tmp_path)
    assert counts.skipped == len(kinds)
    assert list((tmp_path / "top").iterdir()) == []


def test_an_interrupted_stream_leaves_no_half_file(tmp_path: Path) -> None:
    whole = stream(({"name": "x"}, os.urandom(100_000)))
    with pytest.raises(PlatformError):
        unpacked(whole[:60_000], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_streams_end_with_an_error_of_ours_or_of_the_disk(tmp_path: Path) -> None:
    """A bounded fuzz: bytes of a good stream are changed, cut and repeated."""
    draw = random.Random(11)
    good = stream(
        ({"name": "t", "type": DIRECTORY}, b""),
        ({"name": "t/a"}, b"content" * 100),
        ({"name": "t/l", "type": LINK, "linkname": "a"}, b""),
    )
    inner = tmp_path / "inner"
    inner.mkdir()
    for number in range(300):
        bad = bytearray(good)
        for _ in range(draw.randrange(1, 30)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        try:
            unpacked(bytes(bad[: draw.randrange(len(bad))]), inner, f"top{number}")
        except (PlatformError, OSError):
            continue
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inner"]


def test_directories_too_deep_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "top"
    for _ in range(copying.DEPTH_MAX + 2):
        path = path / "d"
    os.makedirs(path)
    with pytest.raises(PlatformError) as caught:
        copying.pack(str(tmp_path / "top"), lambda _data: None)
    assert caught.value.code == "limit-exceeded"
