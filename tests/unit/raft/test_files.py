"""The Files port: a real directory and the simulated disk behave alike; and where they differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import LocalError, PlatformError
from paas.base.ports import Files
from paas.real.files import SystemFiles
from paas.sim.disk import SimDisk

Make = Callable[[], Files]


@pytest.fixture(params=["real", "simulated"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return SystemFiles(str(tmp_path / "root")) if request.param == "real" else SimDisk()


def test_writing_and_reading_at_offsets(files: Files) -> None:
    file = files.open("a", create=True)
    file.write(0, b"hello")
    file.write(8, b"gap")
    file.write(1, b"E")
    assert file.read(0, 100) == b"hEllo\0\0\0gap"
    assert file.read(4, 2) == b"o\0"
    assert file.read(50, 2) == b""
    assert file.size() == 11
    file.truncate(3)
    assert file.read(0, 100) == b"hEl"
    file.truncate(5)
    assert file.read(0, 100) == b"hEl\0\0"
    file.sync()
    file.close()


def test_names(files: Files) -> None:
    files.make_dir("d")
    for name in ("b", "a", "d/x"):
        files.open(name, create=True).close()
    assert files.list() == ["a", "b", "d"]
    assert files.list("d") == ["x"]
    files.rename("b", "a")
    assert (files.exists("a"), files.exists("b"), files.exists("d")) == (True, False, True)
    files.remove("a")
    files.sync_dir()
    files.sync_dir("d")
    assert files.list() == ["d"]
    assert files.free_bytes() > 0


def test_what_is_missing_raises(files: Files) -> None:
    for call in (
        lambda: files.open("nothing"),
        lambda: files.remove("nothing"),
        lambda: files.rename("nothing", "x"),
    ):
        with pytest.raises(FileNotFoundError):
            call()


# -- a real directory ------------------------------------------------------------------------------


def test_a_path_cannot_leave_the_directory(tmp_path: Path) -> None:
    files = SystemFiles(str(tmp_path))
    for path in ("/etc/passwd", "../x", "a/../../x"):
        with pytest.raises(LocalError):
            files.open(path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "folder").symlink_to("/etc")
    files = SystemFiles(str(tmp_path))
    for path in ("link", "folder/hostname"):
        with pytest.raises(OSError, match="symbolic links"):
            files.open(path)


def test_a_directory_has_one_user(tmp_path: Path) -> None:
    first, second = SystemFiles(str(tmp_path)), SystemFiles(str(tmp_path))
    first.lock()
    with pytest.raises(PlatformError) as caught:
        second.lock()
    assert caught.value.code == "conflict"
    first.unlock()
    second.lock()
    second.unlock()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    SystemFiles(str(tmp_path / "root")).open("a", create=True).close()
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "root" / "a").stat().st_mode & 0o777 == 0o600


# -- the simulated disk ----------------------------------------------------------------------------


def test_a_power_cut_takes_what_was_not_synced_and_keeps_what_was() -> None:
    disk = SimDisk()
    file = disk.open("a", create=True)
    file.write(0, b"durable")
    file.sync()
    disk.sync_dir()
    file.write(0, b"DURABLE and more")
    disk.open("b", create=True)
    disk.power_cut(lambda below: 0)
    assert disk.list() == ["a"]
    assert disk.content("a") == b"durable"


def test_a_power_cut_may_tear_a_write_block_by_block() -> None:
    disk = SimDisk()
    file = disk.open("a", create=True)
    file.write(0, b"0" * 1_536)
    file.sync()
    disk.sync_dir()
    file.write(0, b"1" * 1_536)
    choices = iter([0, 1, 0, 1])
    disk.power_cut(lambda below: next(choices))
    assert disk.content("a") == b"1" * 512 + b"0" * 512 + b"1" * 512


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("letters", "zeros", "truncate", "flip", "power")),
            st.integers(0, 2_000),
            st.integers(0, 1_500),
        ),
        max_size=12,
    )
)
def test_a_file_is_what_was_written_wherever_it_has_zeros(
    changes: list[tuple[str, int, int]],
) -> None:
    disk, model = SimDisk(), bytearray()
    file = disk.open("a", create=True)
    disk.sync_dir()
    for kind, place, count in changes:
        match kind:
            case "letters" | "zeros":
                data = (b"x" if kind == "letters" else b"\0") * count
                file.write(place, data)
                if data:
                    model.extend(bytes(max(0, place - len(model))))
                    model[place : place + count] = data
            case "truncate":
                file.truncate(place)
                del model[place:]
                model.extend(bytes(place - len(model)))
            case "flip" if model:
                disk.flip_bit("a", place % len(model) * 8)
                model[place % len(model)] ^= 1
            case "power":
                file.sync()
                disk.power_cut(lambda below: 0)
        assert file.size() == len(model)
        assert disk.content("a") == model
        assert file.read(place, count) == model[place : place + count]


def test_a_full_disk_stores_what_fits_and_says_so() -> None:
    disk = SimDisk(capacity_bytes=10)
    file = disk.open("a", create=True)
    with pytest.raises(OSError, match="No space left"):
        file.write(0, b"x" * 20)
    assert file.size() == 10
    file.write(0, b"y" * 10)  # what is there already may be overwritten
