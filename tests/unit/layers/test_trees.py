"""Images are laid out whole and verified, share what they have in common, and go when unused."""

from __future__ import annotations

import errno
import gzip
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import zstandard

from paas.base.errors import PlatformError
from paas.bundle import files
from paas.layers.trees import Trees
from paas.oci.compression import packed
from paas.oci.documents import chain_id
from tests.unit.layers.conftest import Store, folder, inode, make_trees, member, tar

BASE = tar(folder("etc"), member("etc/os", b"base"), member("empty"), member("same", b"base"))
UPPER = tar(member("etc/more", b"upper"))
OTHER = tar(member("etc/other", b"other"), member("etc/.wh.os"))


@pytest.mark.parametrize(
    "pack",
    [
        None,
        lambda data: [gzip.compress(data)],
        lambda data: [zstandard.compress(data)],
        lambda data: packed([data]),
        lambda data: [gzip.compress(data[:700]), gzip.compress(data[700:])],
    ],
    ids=["plain", "gzip", "zstd", "ours", "gzip in members"],
)
def test_a_layer_is_unpacked_whatever_its_packed_form(
    trees: Trees, store: Store, pack: Any
) -> None:
    tree = trees.acquire([store.put(BASE, pack), store.put(UPPER, pack)], "component")
    assert (tree / "etc/os").read_bytes() == b"base"
    assert (tree / "etc/more").read_bytes() == b"upper"


def test_the_same_layers_have_one_tree(trees: Trees, store: Store) -> None:
    layers = [store.put(BASE), store.put(UPPER)]
    assert trees.acquire(layers, "one") == trees.acquire(layers, "two")
    assert trees.laid_out() == [chain_id([layer.diff_id for layer in layers])]


def test_images_with_a_layer_in_common_share_its_files(trees: Trees, store: Store) -> None:
    one = trees.acquire([store.put(BASE), store.put(UPPER)], "one")
    two = trees.acquire([store.put(BASE)], "two")
    assert inode(one / "etc/os") == inode(two / "etc/os")
    assert inode(one / "same") == inode(two / "same")


def test_equal_files_of_different_names_are_not_one_file(trees: Trees, store: Store) -> None:
    """A copy of the tree that keeps hard links must not make a write to one change the other."""
    tree = trees.acquire([store.put(BASE)], "one")
    assert inode(tree / "same") != inode(tree / "etc/os")


def test_files_that_differ_in_owner_mode_or_time_are_not_shared(trees: Trees, store: Store) -> None:
    one = trees.acquire([store.put(tar(member("f", b"x", mode=0o600)))], "one")
    two = trees.acquire([store.put(tar(member("f", b"x", mode=0o644)))], "two")
    three = trees.acquire([store.put(tar(member("f", b"x", uid=5)))], "three")
    assert len({inode(tree / "f") for tree in (one, two, three)}) == 3
    assert stat.S_IMODE((one / "f").stat().st_mode) == 0o600


def test_a_whiteout_in_one_image_leaves_the_other_as_it_is(trees: Trees, store: Store) -> None:
    one = trees.acquire([store.put(BASE)], "one")
    two = trees.acquire([store.put(BASE), store.put(OTHER)], "two")
    assert not (two / "etc/os").exists()
    assert (one / "etc/os").read_bytes() == b"base"


def test_a_layer_that_is_damaged_in_the_store_leaves_no_tree(trees: Trees, store: Store) -> None:
    layer = store.put(BASE)
    data = bytearray(store.path(layer).read_bytes())
    data[-1] ^= 1
    store.path(layer).write_bytes(data)
    with pytest.raises(PlatformError) as caught:
        trees.acquire([layer], "one")
    assert caught.value.code == "corrupt"
    assert trees.laid_out() == []


def test_a_layer_whose_content_is_another_than_announced_leaves_no_tree(
    trees: Trees, store: Store, tmp_path: Path
) -> None:
    layer, other = store.put(BASE), store.put(UPPER)
    wrong = type(layer)(digest=layer.digest, size=layer.size, diff_id=other.diff_id)
    with pytest.raises(PlatformError) as caught:
        trees.acquire([wrong], "one")
    assert caught.value.code == "corrupt"
    assert os.listdir(tmp_path / "bases" / "trees") == []


def test_a_layer_that_is_not_there_is_called_damaged_so_that_it_is_fetched(
    trees: Trees, store: Store
) -> None:
    layer = store.put(BASE)
    store.path(layer).unlink()
    with pytest.raises(PlatformError, match="not in the store") as caught:
        trees.acquire([layer], "one")
    assert caught.value.code == "corrupt"


def test_a_link_or_a_pipe_in_the_store_is_no_layer(trees: Trees, store: Store) -> None:
    for number in range(2):
        layer = store.put(tar(member("f", b"%d" % number)))
        path = store.path(layer)
        path.rename(path.with_name("elsewhere"))
        if number:
            path.symlink_to("elsewhere")
        else:
            os.mkfifo(path)
        with pytest.raises(PlatformError) as caught:
            trees.acquire([layer], "one")
        assert caught.value.code == "corrupt"


def test_what_is_held_stays_and_the_rest_goes_with_its_files(
    trees: Trees, store: Store, tmp_path: Path
) -> None:
    base, upper = store.put(BASE), store.put(UPPER)
    held = trees.acquire([base], "held")
    gone = trees.acquire([base, upper], "gone")
    chain = chain_id([base.diff_id, upper.diff_id])
    trees.release(chain, "gone")
    assert trees.keep_only([]) == [chain]
    assert not gone.exists()
    assert (held / "etc/os").read_bytes() == b"base"
    pooled = [p for p in (tmp_path / "bases/files").rglob("*") if p.is_file()]
    assert len(pooled) == 2  # of the one that is held


def test_what_is_wanted_stays_without_a_holder(trees: Trees, store: Store) -> None:
    base = store.put(BASE)
    trees.acquire([base], "one")
    trees.release(base.diff_id, "one")
    assert trees.keep_only([base.diff_id]) == []


def test_nobody_waits_for_a_removal(
    trees: Trees, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lets go of a tree does it in the event loop of the container controller."""
    base, other = store.put(BASE), store.put(UPPER)
    trees.acquire([base], "one")
    trees.acquire([other], "other")
    trees.release(base.diff_id, "one")
    done: list[str] = []
    remove = files.remove_tree

    def slow(path: Path) -> None:
        trees.release(other.diff_id, "other")  # deadlocks if the lock is held
        trees.acquire([base], "again")
        done.append(path.name)
        remove(path)

    monkeypatch.setattr(files, "remove_tree", slow)
    assert trees.keep_only([other.diff_id]) == [base.diff_id]
    assert done == [f".evict-0-{base.diff_id.removeprefix('sha256:')}"]
    assert trees.laid_out() == sorted([base.diff_id, other.diff_id])


def test_holders_are_known_after_a_restart_and_those_that_have_gone_are_forgotten(
    trees: Trees, store: Store, tmp_path: Path
) -> None:
    base = store.put(BASE)
    trees.acquire([base], "lives")
    trees.acquire([base], "ended")
    again = make_trees(tmp_path, store)
    again.retain(["lives"])
    assert again.keep_only([]) == []
    again.retain([])
    assert again.keep_only([]) == [base.diff_id]


def test_after_a_reboot_trees_are_made_anew_and_no_file_is_left_of_before(
    trees: Trees, store: Store, tmp_path: Path
) -> None:
    base = store.put(BASE)
    trees.acquire([base], "one")
    again = make_trees(tmp_path, store, "two")
    assert again.laid_out() == []
    again.keep_only([])
    assert not [p for p in (tmp_path / "bases/files").rglob("*") if p.is_file()]
    assert (again.acquire([base], "one") / "etc/os").read_bytes() == b"base"


def test_a_tree_that_was_damaged_is_found_and_made_anew(trees: Trees, store: Store) -> None:
    base = store.put(BASE)
    tree = trees.acquire([base], "one")
    assert trees.damaged(base.diff_id) == []
    with (tree / "etc/os").open("r+b") as file:
        file.write(b"BASE")
    assert trees.damaged(base.diff_id) == ["etc/os"]
    trees.release(base.diff_id, "one")
    trees.keep_only([])
    tree = trees.acquire([base], "one")
    assert (tree / "etc/os").read_bytes() == b"base"
    assert trees.damaged(base.diff_id) == []


def test_an_image_on_anothers_layers_begins_with_its_tree(trees: Trees, store: Store) -> None:
    """Without reading the lower layers again: here they are not even there any more."""
    base, other = store.put(BASE), store.put(OTHER)
    below = trees.acquire([base], "one")
    store.path(base).unlink()
    tree = trees.acquire([base, other], "two")
    assert not (tree / "etc/os").exists()
    assert (tree / "etc/other").read_bytes() == b"other"
    assert inode(tree / "same") == inode(below / "same")
    assert (below / "etc/os").read_bytes() == b"base"
    trees.release(base.diff_id, "one")
    assert trees.keep_only([]) == [base.diff_id]  # nobody else holds it
    assert (tree / "same").read_bytes() == b"base"


def test_a_tree_that_cannot_be_linked_from_is_unpacked_instead(
    trees: Trees, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other = store.put(BASE), store.put(OTHER)
    trees.acquire([base], "one")
    link = os.link

    def with_a_bound(source: Any, target: Any, **more: Any) -> None:
        if b"/empty" in os.fsencode(source):
            raise OSError(errno.EMLINK, "Too many links")
        link(source, target, **more)

    monkeypatch.setattr(os, "link", with_a_bound)
    tree = trees.acquire([base, other], "two")
    assert sorted(os.listdir(tree)) == ["empty", "etc", "same"]
    assert os.listdir(tree / "etc") == ["other"]


def test_a_full_disk_is_said_and_leaves_nothing(
    trees: Trees, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(PlatformError) as caught:
        trees.acquire([store.put(BASE)], "one")
    assert caught.value.code == "storage-full"
    assert os.listdir(tmp_path / "bases" / "trees") == []
