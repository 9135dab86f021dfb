"""Layers become one tree as the image format says, and whatever they say, nothing else changes."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.layers import limits
from paas.layers.unpack import Unpacker
from paas.oci import limits as oci_limits
from tests.unit.layers.conftest import SECRET, Ground, folder, inode, link, member, tar


def outcome(action: Callable[[], object]) -> str:
    """The code of the refusal; empty when there was none."""
    try:
        action()
    except PlatformError as exc:
        return exc.code
    return ""


def test_files_directories_and_links_get_their_facts(ground: Ground) -> None:
    ground.apply(
        tar(
            folder("./", mode=0o711),
            folder("etc/", mode=0o750, uid=7, gid=8, mtime=1_000),
            member("etc/motd", b"hello", mode=0o640, uid=3, gid=4, mtime=2_000),
            link("etc/now", "motd"),
            member("etc/same", type=tarfile.LNKTYPE, linkname="etc/motd"),
            folder("tmp", mode=0o1777),
        )
    )
    assert ground.names() == ["etc", "etc/motd", "etc/now", "etc/same", "tmp"]
    motd = (ground.tree / "etc/motd").lstat()
    assert (stat.S_IMODE(motd.st_mode), motd.st_uid, motd.st_gid) == (0o640, 3, 4)
    assert motd.st_mtime == 2_000
    etc = (ground.tree / "etc").lstat()
    assert (stat.S_IMODE(etc.st_mode), etc.st_uid, etc.st_mtime) == (0o750, 7, 1_000)
    assert stat.S_IMODE((ground.tree / "tmp").lstat().st_mode) == 0o1777
    assert stat.S_IMODE(ground.tree.lstat().st_mode) == 0o711
    assert os.readlink(ground.tree / "etc/now") == "motd"
    assert inode(ground.tree / "etc/same") == inode(ground.tree / "etc/motd")


def test_a_missing_parent_is_made(ground: Ground) -> None:
    ground.apply(tar(member("a/b/c", b"1")))
    assert (ground.tree / "a/b/c").read_bytes() == b"1"


def test_an_upper_layer_replaces_a_file_without_changing_what_is_linked_to_it(
    ground: Ground,
) -> None:
    ground.apply(
        tar(member("f", b"old"), member("g", type=tarfile.LNKTYPE, linkname="f")),
        tar(member("f", b"new")),
    )
    assert (ground.tree / "f").read_bytes() == b"new"
    assert (ground.tree / "g").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (folder("x"), member("x", b"file")),
        (member("x", b"file"), folder("x")),
        (link("x", "elsewhere"), folder("x")),
        (folder("x"), link("x", "elsewhere")),
        (link("x", "../../secret"), member("x", b"file")),
    ],
)
def test_an_upper_layer_may_change_the_kind(ground: Ground, lower: Any, upper: Any) -> None:
    ground.apply(tar(lower), tar(upper))
    kinds = {
        tarfile.DIRTYPE: stat.S_ISDIR,
        tarfile.REGTYPE: stat.S_ISREG,
        tarfile.SYMTYPE: stat.S_ISLNK,
    }
    assert kinds[upper[0].type]((ground.tree / "x").lstat().st_mode)


def test_a_directory_in_two_layers_keeps_what_is_in_it(ground: Ground) -> None:
    ground.apply(tar(member("d/a", b"1")), tar(folder("d", mode=0o700), member("d/b", b"2")))
    assert ground.names() == ["d", "d/a", "d/b"]
    assert stat.S_IMODE((ground.tree / "d").lstat().st_mode) == 0o700


def test_a_whiteout_removes_what_a_lower_layer_brought(ground: Ground) -> None:
    ground.apply(
        tar(member("d/a", b"1"), member("d/b", b"2"), member("e/f/g", b"3")),
        tar(member("d/.wh.a"), member(".wh.e")),
    )
    assert ground.names() == ["d", "d/b"]


def test_an_opaque_directory_keeps_only_what_its_layer_brings_in_any_order(
    ground: Ground,
) -> None:
    ground.apply(
        tar(member("d/a", b"1"), member("d/s/x", b"2")),
        tar(member("d/first", b"1"), member("d/.wh..wh..opq"), member("d/s/later", b"2")),
    )
    assert ground.names() == ["d", "d/first", "d/s", "d/s/later"]


def test_an_opaque_directory_that_was_filled_before_keeps_only_its_own(ground: Ground) -> None:
    ground.apply(
        tar(member("d/s/old", b"2")),
        tar(member("d/s/new", b"2"), member("d/.wh..wh..opq")),
    )
    assert ground.names() == ["d", "d/s", "d/s/new"]


def test_a_whiteout_spares_what_its_own_layer_brings(ground: Ground) -> None:
    ground.apply(
        tar(member("a", b"old"), member("d/old", b"")),
        tar(
            member("a", b"new"),
            member(".wh.a"),
            folder("d"),
            member("d/new", b"1"),
            member(".wh.d"),
        ),
    )
    assert (ground.tree / "a").read_bytes() == b"new"
    assert ground.names() == ["a", "d", "d/new"]


def test_a_whiteout_of_nothing_and_bookkeeping_of_union_file_systems_mean_nothing(
    ground: Ground,
) -> None:
    ground.apply(tar(member("no/such/.wh.file"), member(".wh..wh.plnk"), member(".wh.gone")))
    assert ground.names() == []


def test_a_whiteout_below_what_has_become_a_file_means_nothing(ground: Ground) -> None:
    ground.apply(tar(member("d/x", b"1")), tar(member("d", b"file"), member("d/.wh.x")))
    assert ground.names() == ["d"]


def test_the_root_may_be_opaque(ground: Ground) -> None:
    ground.apply(tar(member("a", b"1")), tar(member(".wh..wh..opq"), member("b", b"2")))
    assert ground.names() == ["b"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.."])
def test_a_whiteout_that_hides_no_name_is_refused(ground: Ground, name: str) -> None:
    with pytest.raises(PlatformError, match="hides no name"):
        ground.apply(tar(folder("d"), member(name)))


def test_a_parent_that_is_a_link_is_followed_as_inside_the_container(ground: Ground) -> None:
    lower = tar(folder("usr/lib"), link("lib", "usr/lib"), link("abs", "/usr/lib"))
    ground.apply(lower, tar(member("lib/one", b"1"), member("abs/two", b"2")))
    assert (ground.tree / "usr/lib/one").read_bytes() == b"1"
    assert (ground.tree / "usr/lib/two").read_bytes() == b"2"
    assert (ground.tree / "lib").is_symlink()


@pytest.mark.parametrize("target", ["..", "../..", "/..", "../beside", "/../beside", "a/../../.."])
def test_no_link_leads_a_write_out_of_the_tree(ground: Ground, target: str) -> None:
    """As inside: above the root is the root."""
    layer = tar(folder("a"), link("out", target), member("out/secret", b"overwritten"))
    assert outcome(lambda: ground.apply(layer)) in ("", "invalid")
    assert ground.untouched()


def test_a_link_to_outside_is_not_written_through(ground: Ground) -> None:
    secret = ground.root / "secret"
    ground.apply(tar(link("f", str(secret)), member("f", b"overwritten")))
    assert (ground.tree / "f").read_bytes() == b"overwritten"
    assert secret.read_text() == SECRET


def test_a_link_is_not_removed_through(ground: Ground) -> None:
    outside = str(ground.root / "beside")
    ground.apply(tar(link("d", outside)), tar(folder("d"), member("d/.wh.secret")))
    assert ground.untouched()
    ground.apply(tar(link("e", outside)), tar(member("e/.wh..wh..opq")))


@pytest.mark.parametrize("source", ["../secret", "/../secret", "out/secret", "l", "d"])
def test_a_hard_link_to_outside_or_to_no_file_is_refused(ground: Ground, source: str) -> None:
    """`out` and `l` are links to outside; `l` itself is what may be linked."""
    layer = [
        folder("d"),
        link("out", str(ground.root)),
        link("l", str(ground.root / "secret")),
        member("x", type=tarfile.LNKTYPE, linkname=source),
        member("x", b"overwritten"),
    ]
    if source == "l":
        ground.apply(tar(*layer))
    else:
        with pytest.raises(PlatformError):
            ground.apply(tar(*layer))
    assert ground.untouched()


def test_a_hard_link_to_itself_is_refused(ground: Ground) -> None:
    layer = tar(member("x", b"1"), member("x", type=tarfile.LNKTYPE, linkname="./x"))
    with pytest.raises(PlatformError, match="another name"):
        ground.apply(layer)


def test_a_second_entry_of_the_same_hard_link_loses_nothing(ground: Ground) -> None:
    again = member("y", type=tarfile.LNKTYPE, linkname="x")
    ground.apply(tar(member("x", b"1"), again, again))
    assert (ground.tree / "y").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/../x", "..", "a/.."])
def test_a_name_that_climbs_is_refused(ground: Ground, name: str) -> None:
    with pytest.raises(PlatformError, match="may not climb"):
        ground.apply(tar(member(name, b"1")))


def test_names_from_the_root_lie_in_the_tree(ground: Ground) -> None:
    ground.apply(tar(member("/etc/x", b"1"), member("./y", b"2"), member("//z", b"3")))
    assert ground.names() == ["etc", "etc/x", "y", "z"]


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_left_out_and_counted(ground: Ground, kind: bytes) -> None:
    done = ground.apply(tar(member("dev/x", type=kind, devmajor=8), member("y", b"1")))
    assert ground.names() == ["y"]
    assert done.left_out == 1


def test_set_user_and_group_bits_are_taken_away(ground: Ground) -> None:
    ground.apply(tar(member("su", b"x", mode=0o6755), folder("d", mode=0o2775)))
    assert stat.S_IMODE((ground.tree / "su").lstat().st_mode) == 0o755
    assert stat.S_IMODE((ground.tree / "d").lstat().st_mode) == 0o775


def test_a_file_below_a_file_is_refused_by_name(ground: Ground) -> None:
    with pytest.raises(PlatformError, match="f/x"):
        ground.apply(tar(member("f", b"1"), member("f/x", b"2")))


def test_links_in_a_ring_are_refused(ground: Ground) -> None:
    with pytest.raises(PlatformError, match="cannot be unpacked"):
        ground.apply(tar(link("a", "b"), link("b", "a"), member("a/x", b"1")))


def test_no_detour_by_links_makes_a_tree_deeper_than_can_be_removed(ground: Ground) -> None:
    members, deep = [], "/".join("d" * 100)
    for level in range(20):
        at = f"l{level}/" if level else ""
        members += [folder(at + deep), link(f"l{level + 1}", at + deep)]
    with pytest.raises(PlatformError, match="too deep") as caught:
        ground.apply(tar(*members))
    assert caught.value.code == "limit-exceeded"


def test_one_long_path_behind_a_link_is_not_deeper_either(ground: Ground) -> None:
    deep = "/".join("d" * 120)
    with pytest.raises(PlatformError, match="too deep"):
        ground.apply(tar(folder(deep), link("l", deep), member(f"l/{deep}", b"1")))
    assert max(name.count("/") for name in ground.names()) <= oci_limits.DEPTH_MAX


def test_more_entries_or_bytes_than_allowed_are_refused(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TREE_ENTRIES_MAX", 2)
    with pytest.raises(PlatformError, match="more than 2 entries"):
        ground.apply(tar(member("a"), member("b")), tar(member("c")))
    monkeypatch.setattr(limits, "TREE_ENTRIES_MAX", 100)
    monkeypatch.setattr(limits, "TREE_BYTES_MAX", 5)
    with pytest.raises(PlatformError, match="more than 5 bytes"):
        ground.apply(tar(member("a", b"123")), tar(member("a", b"456")))


def test_a_full_disk_is_not_blamed_on_the_layer(ground: Ground) -> None:
    def write(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    unpacker = Unpacker(str(ground.tree), _open, write, None)
    with pytest.raises(OSError, match="No space"):
        unpacker.apply([tar(member("a", b"1"))])
    unpacker.close(finish=False)


def _open(root: int, path: bytes, flags: int) -> int:
    return os.open(path, flags, dir_fd=root)


NAMES = st.sampled_from(
    ["a", "b", "c", "a/b", "a/b/c", "b/a", "./a", "/c", "a/c", "c/a/b", "../a", "a/../../b", "c/.."]
)
WHITEOUTS = st.sampled_from([".wh.a", "a/.wh.b", "b/.wh..wh..opq", ".wh..wh..opq", "c/.wh.a"])
TARGETS = st.sampled_from(
    ["a", "b", "..", "../beside", "../../..", "/", "/a", "/b/c", "../secret", "c", "/../beside"]
)
MEMBERS = st.one_of(
    st.builds(lambda name: member(name, b"content"), NAMES),
    st.builds(folder, NAMES),
    st.builds(link, NAMES, TARGETS),
    st.builds(
        lambda name, to: member(name, type=tarfile.LNKTYPE, linkname=to), NAMES, st.one_of(NAMES)
    ),
    st.builds(lambda name: member(name), WHITEOUTS),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layers=st.lists(st.lists(MEMBERS, max_size=8), min_size=1, max_size=3))
def test_whatever_layers_make_of_one_another_nothing_outside_changes(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Any]]
) -> None:
    ground = Ground(tmp_path_factory.mktemp("fuzz"))
    (ground.root / "beside").mkdir()
    for path in (ground.root / "beside" / "secret", ground.root / "secret"):
        path.write_text(SECRET)
    ground.tree.mkdir()
    ground.before = ground.outside()
    said = outcome(lambda: ground.apply(*(tar(*members) for members in layers)))
    assert said in ("", "invalid", "limit-exceeded")
    assert ground.untouched()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_layer_is_refused_or_unpacked_and_changes_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ground = Ground(tmp_path_factory.mktemp("damage"))
    (ground.root / "secret").write_text(SECRET)
    ground.tree.mkdir()
    ground.before = ground.outside()
    form = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    whole = bytearray(
        tar(
            folder("d"),
            member("d/" + "n" * 150, b"x" * 700),
            link("l", "../secret"),
            member("l", b"2"),
            form=form,
        )[:6144]
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    _mend_sums(whole, data.draw(st.booleans()))
    layer = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert outcome(lambda: ground.apply(layer)) in ("", "invalid", "limit-exceeded", "corrupt")
    assert ground.untouched()


def _mend_sums(archive: bytearray, wanted: bool) -> None:
    """Let damaged headers have right checksums, so that what they say is looked at."""
    for at in range(0, len(archive), 512) if wanted else ():
        block = archive[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            archive[at + 148 : at + 156] = b"%06o\0 " % sum(block)


def test_names_that_are_not_text_are_kept(ground: Ground) -> None:
    info, content = member("x", b"1")
    info.name = os.fsdecode(b"\xff\xfe")
    ground.apply(tar((info, content)))
    assert os.listdir(os.fsencode(ground.tree)) == [b"\xff\xfe"]


def test_long_names_come_through_in_every_dialect(tmp_path: Path) -> None:
    name = "d" * 90 + "/" + "e" * 200 + "/" + "f" * 250
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        ground = Ground(tmp_path / str(number))
        ground.tree.mkdir(parents=True)
        ground.apply(tar(member(name, b"1"), link("l", "t" * 300), form=form))
        assert (ground.tree / name).read_bytes() == b"1"
        assert os.readlink(ground.tree / "l") == "t" * 300
        assert len(name) < oci_limits.PATH_BYTES_MAX
