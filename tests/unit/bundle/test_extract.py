"""An archive is laid out whole and verified, or nothing of it is anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.bundle import archive, digest, files, limits, paths, tar_format
from paas.bundle.extract import TEMPORARY_PREFIX, extract, remove_leftovers

HERE = Path(__file__).parent


def _load_corpus() -> tuple[object, dict[str, tuple[bytes, str]]]:
    """The corpus is a plain file beside this one, not a package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("hostile", HERE / "hostile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.ANSWERS


hostile, ANSWERS = _load_corpus()


def listing(root: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory: mode, and content or target."""
    found = {}
    for folder, directories, names in os.walk(root):
        for name in (*directories, *names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                content = os.readlink(os.fsencode(path))
            else:
                content = path.read_bytes() if stat.S_ISREG(mode) else b""
            found[str(path.relative_to(root))] = (mode, content)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory with a neighbour that nobody may touch."""
    (tmp_path / "neighbour").write_text("mine")
    (tmp_path / "trees").mkdir()
    yield tmp_path / "trees"
    for left in (tmp_path / "trees").iterdir():
        files.remove_tree(left)


def test_the_corpus_is_large() -> None:
    assert len(ANSWERS) >= 60


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_hostile_archive_is_refused_and_nothing_is_written(name: str, place: Path) -> None:
    packed, expected = ANSWERS[name]
    before = listing(place.parent)
    with pytest.raises(PlatformError) as caught:
        extract([packed], place / "tree", digest.of(packed))
    assert expected in caught.value.message
    assert caught.value.code in ("invalid", "limit-exceeded", "corrupt")
    assert caught.value.message.isprintable()
    assert listing(place.parent) == before


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_hostile_archive_is_refused_alike_when_it_comes_byte_by_byte(name: str) -> None:
    packed, expected = ANSWERS[name]
    pieces = (packed[at : at + 1] for at in range(len(packed)))
    with pytest.raises(PlatformError) as caught:
        for _ in archive.read(pieces):
            pass
    assert expected in caught.value.message


def test_a_refusal_names_the_entry(place: Path) -> None:
    packed, _ = ANSWERS["setuid"]
    with pytest.raises(PlatformError, match='"su"') as caught:
        extract([packed], place / "tree", digest.of(packed))
    assert caught.value.data["entry"] == "su"


@pytest.mark.parametrize("name", ["climbing", "file through a link", "absolute"])
def test_nothing_is_written_outside_even_if_the_paths_were_not_checked(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptors alone hold an archive inside, should a check of its text be wrong."""
    packed, _ = ANSWERS[name]
    before = listing(place.parent)
    monkeypatch.setattr(paths, "check_path", lambda raw: tuple(raw.decode().split("/")))
    monkeypatch.setattr(paths.Tree, "add", lambda *_args, **_named: None)
    with pytest.raises((AssertionError, OSError)):
        extract([packed], place / "tree", digest.of(packed))
    assert listing(place.parent) == before


def test_a_good_archive_is_laid_out_read_only_with_its_links(place: Path) -> None:
    tar = (
        hostile.directory(b"bin")  # type: ignore[attr-defined]
        + hostile.file(b"bin/run", b"#!/bin/sh\n", mode=0o755)  # type: ignore[attr-defined]
        + hostile.link(b"current", b"bin/run")  # type: ignore[attr-defined]
        + hostile.file(b"data", b"x" * 1000)  # type: ignore[attr-defined]
        + hostile.directory(b"empty")  # type: ignore[attr-defined]
    )
    packed = hostile.packed(tar)  # type: ignore[attr-defined]
    extract([packed], place / "tree", digest.of(packed))
    found = listing(place / "tree")
    assert {name: stat.S_IMODE(mode) for name, (mode, _) in found.items()} == {
        "bin": 0o555,
        "bin/run": 0o555,
        "current": 0o777,
        "data": 0o444,
        "empty": 0o555,
    }
    assert found["current"][1] == b"bin/run"
    assert stat.S_IMODE((place / "tree").stat().st_mode) == 0o555
    assert os.listdir(place) == ["tree"]


def test_an_archive_inside_of_the_bundle_stays_packed(place: Path) -> None:
    inner = ANSWERS["climbing"][0]
    packed = hostile.packed(hostile.file(b"inner.tar.zst", inner))  # type: ignore[attr-defined]
    extract([packed], place / "tree", digest.of(packed))
    assert (place / "tree" / "inner.tar.zst").read_bytes() == inner


def test_names_that_differ_in_case_only_are_two_files(place: Path) -> None:
    tar = hostile.file(b"A", b"1") + hostile.file(b"a", b"2")  # type: ignore[attr-defined]
    packed = hostile.packed(tar)  # type: ignore[attr-defined]
    extract([packed], place / "tree", digest.of(packed))
    assert (place / "tree" / "A").read_bytes() + (place / "tree" / "a").read_bytes() == b"12"


def test_content_with_another_digest_is_refused_after_the_last_byte(place: Path) -> None:
    packed = hostile.packed(hostile.file(b"a", b"hello"))  # type: ignore[attr-defined]
    with pytest.raises(PlatformError, match="digest") as caught:
        extract([packed], place / "tree", digest.of(b"other"))
    assert caught.value.code == "corrupt"
    assert os.listdir(place) == []


def test_an_existing_destination_is_never_touched(place: Path) -> None:
    (place / "tree").mkdir()
    packed = hostile.packed(b"")  # type: ignore[attr-defined]
    with pytest.raises(PlatformError, match="already"):
        extract([packed], place / "tree", digest.of(packed))


def test_a_dangling_link_at_the_destination_is_not_followed(place: Path) -> None:
    (place / "tree").symlink_to(place.parent / "elsewhere")
    packed = hostile.packed(b"")  # type: ignore[attr-defined]
    with pytest.raises(PlatformError, match="already"):
        extract([packed], place / "tree", digest.of(packed))
    assert not (place.parent / "elsewhere").exists()


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRIES_MAX", 3)
    tar = b"".join(hostile.file(b"%d" % n) for n in range(4))  # type: ignore[attr-defined]
    with pytest.raises(PlatformError, match="more than 3 entries") as caught:
        list(archive.read([hostile.packed(tar)]))  # type: ignore[attr-defined]
    assert caught.value.code == "limit-exceeded"


def test_too_many_unpacked_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNPACKED_BYTES_MAX", 1 << 16)
    tar = hostile.file(b"a", os.urandom(1 << 17))  # type: ignore[attr-defined]
    with pytest.raises(PlatformError, match="unpacks to more than"):
        list(archive.read([hostile.packed(tar)]))  # type: ignore[attr-defined]


def test_too_many_packed_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUNDLE_BYTES_MAX", 1 << 16)
    tar = hostile.file(b"a", os.urandom(1 << 17))  # type: ignore[attr-defined]
    with pytest.raises(PlatformError, match="more than 65536 bytes"):
        list(archive.read([hostile.packed(tar)]))  # type: ignore[attr-defined]


def test_a_flipped_bit_anywhere_is_noticed(place: Path) -> None:
    packed = hostile.packed(hostile.file(b"a", b"hello" * 50))  # type: ignore[attr-defined]
    for at in range(len(packed)):
        flipped = bytearray(packed)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(PlatformError):
            extract([bytes(flipped)], place / "tree", digest.of(packed))
    assert os.listdir(place) == []


def test_a_cut_anywhere_is_noticed() -> None:
    packed = hostile.packed(hostile.file(b"a", b"hello" * 50))  # type: ignore[attr-defined]
    for length in range(len(packed)):
        with pytest.raises(PlatformError):
            list(archive.read([packed[:length]]))


def test_leftovers_of_crashed_extractions_are_removed_and_trees_kept(place: Path) -> None:
    left = place / f"{TEMPORARY_PREFIX}abc"
    (left / "sub").mkdir(parents=True)
    (left / "sub").chmod(0o555)
    (place / "tree").mkdir()
    assert remove_leftovers(place) == [left.name]
    assert os.listdir(place) == ["tree"]


def test_reading_needs_little_memory_whatever_the_size() -> None:
    pieces = iter([hostile.packed(hostile.file(b"a", bytes(8 << 20)))])  # type: ignore[attr-defined]
    longest = max(len(piece) for _, content in archive.read(pieces) for piece in content)
    assert longest <= limits.CHUNK_BYTES


def test_a_header_that_tar_itself_reads_is_what_we_write(tmp_path: Path) -> None:
    import io
    import tarfile

    path = b"d/" * 40 + "ä".encode() * 40
    entry = tar_format.Entry(path, tar_format.Kind.LINK, target=b"t" * 150)
    blocks = tar_format.encode(entry) + tar_format.END
    with tarfile.open(fileobj=io.BytesIO(blocks)) as tar:
        (member,) = tar.getmembers()
    assert (member.name.encode(), member.linkname.encode()) == (path, b"t" * 150)
