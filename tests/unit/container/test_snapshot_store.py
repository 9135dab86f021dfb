"""Places of snapshots and orders to go back to one: whole or absent, whatever the moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from paas.base.errors import PlatformError
from paas.container.filesystems.contract import SnapshotInfo, files_key
from paas.container.filesystems.store import Order, SnapshotStore, check_name
from paas.container.plan import Base

COMPONENT = "a" * 40
OTHER = "b" * 40


def info(name: str = "one", component: str = COMPONENT, made_ms: int = 1) -> SnapshotInfo:
    return SnapshotInfo(
        name=name,
        component=component,
        incarnation=1,
        made_ms=made_ms,
        filesystem="overlay",
        files_key="k",
        uid_base=500_000,
        disk_bytes=8 << 20,
        size_bytes=100,
    )


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(str(tmp_path / "snapshots"))


def make(store: SnapshotStore, name: str, component: str = COMPONENT, made_ms: int = 1) -> None:
    place = store.begin(component, name)
    Path(place, "data").write_text("content")
    store.finish(place, info(name, component, made_ms))


def test_a_snapshot_is_there_when_it_is_finished(store: SnapshotStore) -> None:
    place = store.begin(COMPONENT, "one")
    assert store.kept() == []
    assert store.undone() == {COMPONENT: [place]}
    store.finish(place, info())
    assert store.kept() == [info()]
    assert store.undone() == {COMPONENT: []}
    assert Path(store.path(COMPONENT, "one")).is_dir()


def test_the_oldest_is_the_first(store: SnapshotStore) -> None:
    make(store, "late", made_ms=9)
    make(store, "early", made_ms=3)
    make(store, "other", OTHER, made_ms=1)
    assert [i.name for i in store.kept(COMPONENT)] == ["early", "late"]
    assert [i.name for i in store.kept()] == ["early", "late", "other"]


def test_nothing_is_left_of_what_was_removed(store: SnapshotStore, tmp_path: Path) -> None:
    make(store, "one")
    place = store.set_aside(COMPONENT, "one")
    assert store.kept() == []
    assert store.undone() == {COMPONENT: [place]}
    Path(place, "data").unlink()
    store.forget(place)
    store.forget(place)
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_stop_for_a_copy_is_remembered_until_it_is_over(store: SnapshotStore) -> None:
    place = store.begin(COMPONENT, "one")
    assert not store.froze(place)
    store.mark_frozen(place, True)
    assert store.froze(place)
    store.mark_frozen(place, False)
    assert not store.froze(place)


def test_only_the_order_that_was_followed_is_fulfilled(store: SnapshotStore) -> None:
    make(store, "one")
    store.order(COMPONENT, Order(name="one", token="first"))
    store.order(COMPONENT, Order(name="one", token="second"))
    store.fulfilled(COMPONENT, "first")
    assert store.ordered(COMPONENT) == Order(name="one", token="second")
    store.fulfilled(COMPONENT, "second")
    assert store.ordered(COMPONENT) is None
    store.withdraw(COMPONENT)


def test_what_cannot_be_read_is_no_snapshot_and_no_order(store: SnapshotStore) -> None:
    make(store, "one")
    store.order(COMPONENT, Order(name="one", token="first"))
    place = Path(store.path(COMPONENT, "one"))
    (place / "info.json").write_bytes(b"\xff{")
    (place.parent / ".order.json").write_bytes(b"[]")
    assert store.kept() == []
    assert store.ordered(COMPONENT) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "-a", "x" * 41, "a\n", ".order"])
def test_names_that_lead_elsewhere_are_refused(store: SnapshotStore, name: str) -> None:
    for work in (check_name, lambda n: store.begin(COMPONENT, n)):
        with pytest.raises(PlatformError) as refused:
            work(name)
        assert refused.value.code == "invalid"


def test_a_key_tells_bases_and_bundles_apart() -> None:
    one = Base(name="one", lower="/a")
    keys = {
        files_key(one, "/bundle"),
        files_key(one, "/other"),
        files_key(Base(name="one", lower="/b"), "/bundle"),
        files_key(Base(name="one", lower="/a", lowers=("/a", "/b")), "/bundle"),
    }
    assert len(keys) == 4
    assert files_key(Base(name="one", lower="/a"), "/bundle") in keys
