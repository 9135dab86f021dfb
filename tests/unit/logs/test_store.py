"""The log store: bounds in memory and on disk, restarts, duplicates, a full disk, odd records."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.logs import limits
from paas.logs.messages import Record
from paas.logs.store import LogStore
from paas.real.files import SystemFile, SystemFiles


def record(sequence: int, component: str = "c", **more: Any) -> Record:
    fields: dict[str, Any] = {
        "name": f"name-{component}",
        "type": "t@1",
        "time": float(sequence),
        "stream": "stdout",
        "level": "info",
        "message": f"line {sequence}",
        "fields": {},
        **more,
    }
    return Record(component=component, sequence=sequence, **fields)


def everything(_record: Record) -> bool:
    return True


def found(store: LogStore, **query: Any) -> list[int]:
    return [r.sequence for r in store.query(everything, **query)]


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(SystemFiles(str(tmp_path)))


def again(tmp_path: Path) -> LogStore:
    return LogStore(SystemFiles(str(tmp_path)))


def size_on_disk(tmp_path: Path) -> int:
    return sum(p.stat().st_size for p in tmp_path.iterdir())


# -- bounds ----


def test_the_ring_keeps_the_newest_records(store: LogStore) -> None:
    store.append(record(n) for n in range(1, limits.RING_RECORDS_MAX + 11))
    assert found(store, limit=10_000) == list(range(11, limits.RING_RECORDS_MAX + 11))
    assert store.records == limits.RING_RECORDS_MAX + 10


def test_the_ring_is_bounded_in_bytes(store: LogStore) -> None:
    text = "x" * (limits.RING_BYTES_MAX // 8)
    store.append(record(n, message=text) for n in range(1, 21))
    assert found(store) == list(range(14, 21))


def test_a_component_s_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 4_000)
    store = again(tmp_path)
    for number in range(1, 301):
        store.append([record(number)])
        assert size_on_disk(tmp_path) <= 2 * 4_000 + 400
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.jsonl", "c.jsonl.1"]
    kept = found(again(tmp_path))
    assert kept == list(range(kept[0], 301))
    assert len(kept) > 15


def test_the_component_silent_for_longest_is_forgotten_also_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMPONENTS_MAX", 2)
    store = again(tmp_path)
    for component in ("a", "b", "a", "c"):
        store.append([record(len(store.tail(component, 9)) + 1, component)])
    assert {r.component for r in store.query(everything)} == {"a", "c"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "c.jsonl"]
    store.forget("a")
    store.forget("never heard of")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.jsonl"]


def test_an_answer_is_bounded_in_bytes(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUERY_BYTES_MAX", 3_000)
    store.append(record(n, message="x" * 800) for n in range(1, 11))
    assert found(store) == [8, 9, 10]


# -- queries ----


def test_queries_filter_and_take_the_newest(store: LogStore) -> None:
    levels = ["debug", "info", "warning", "error"]
    store.append(record(n, level=levels[n % 4]) for n in range(1, 21))
    assert found(store, limit=3) == [18, 19, 20]
    assert found(store, limit=0) == []
    assert found(store, since=17.0) == [17, 18, 19, 20]
    assert found(store, level="error") == [3, 7, 11, 15, 19]
    assert found(store, level="warning", limit=3) == [15, 18, 19]
    assert found(store, grep="line 1", since=2.0, limit=4) == [16, 17, 18, 19]
    assert found(store, grep="LINE") == []


def test_records_of_components_are_merged_by_time(store: LogStore) -> None:
    for component, begin in (("a", 1), ("b", 2)):
        store.append(record(n, component) for n in range(begin, 9, 2))
    merged = store.query(everything, limit=5)
    assert [(r.component, r.sequence) for r in merged] == [
        ("b", 4),
        ("a", 5),
        ("b", 6),
        ("a", 7),
        ("b", 8),
    ]
    assert {r.component for r in store.query(lambda r: r.component == "a")} == {"a"}


def test_records_of_one_moment_stay_as_they_came(store: LogStore) -> None:
    for number, sequence in enumerate([0, 7, 0, 8, 0]):
        store.append([record(sequence, time=1.0, message=str(number))])
    assert [r.message for r in store.query(everything)] == ["0", "1", "2", "3", "4"]
    assert [r.message for r in store.query(everything, limit=2)] == ["3", "4"]


def test_the_tail_of_a_component(store: LogStore) -> None:
    store.append(record(n) for n in range(1, 6))
    assert store.tail("c", 2) == ["line 4", "line 5"]
    assert store.tail("c", 0) == []
    assert store.tail("nobody", 2) == []


def test_a_level_that_nobody_knows_counts_as_info(store: LogStore) -> None:
    store.append([record(1, level="whatever")])
    assert found(store, level="info") == [1]
    assert found(store, level="warning") == []


# -- duplicates ----


def test_duplicates_by_sequence_are_dropped(tmp_path: Path) -> None:
    store = again(tmp_path)
    assert len(store.append([record(1), record(2)])) == 2
    assert [r.sequence for r in store.append([record(1), record(2), record(3)])] == [3]
    assert store.append([record(3)]) == []
    assert [r.sequence for r in again(tmp_path).append([record(3), record(4)])] == [4]


def test_records_without_number_are_always_new(store: LogStore) -> None:
    assert len(store.append([record(0), record(0)])) == 2
    assert found(store) == [0, 0]


# -- restarts ----


def test_a_restart_reads_back_what_there_was(tmp_path: Path) -> None:
    store = again(tmp_path)
    store.append([record(1, fields={"a": [1, {"b": None}]}, dropped=3)])
    store.append([record(2, "d", message="ü\n\u2028 \x00")])
    before = store.query(everything)
    assert again(tmp_path).query(everything) == before


def test_a_torn_last_line_is_skipped_and_written_over(tmp_path: Path) -> None:
    again(tmp_path).append([record(1), record(2)])
    path = tmp_path / "c.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    store = again(tmp_path)
    assert found(store) == [1]
    store.append([record(2), record(3)])
    assert found(again(tmp_path)) == [1, 2, 3]


@given(st.binary(max_size=200), st.integers(0, 400))
def test_whatever_is_in_a_file_the_store_starts(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("logs")
    again(path).append([record(n) for n in range(1, 4)])
    file = path / "c.jsonl"
    data = file.read_bytes()
    file.write_bytes(data[:at] + garbage + data[at:])
    store = again(path)
    store.append([record(99)])
    assert 99 in found(store)
    again(path)


# -- a full disk ----


class FullFile:
    """A file on a disk with so many bytes left."""

    def __init__(self, inner: SystemFile, disk: FullFiles) -> None:
        self._inner = inner
        self._disk = disk

    def write(self, offset: int, data: bytes) -> None:
        if len(data) > self._disk.left:
            self._inner.write(offset, data[: self._disk.left])
            raise OSError(errno.ENOSPC, "No space left on device")
        self._inner.write(offset, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class FullFiles:
    """Files on that disk."""

    def __init__(self, root: Path) -> None:
        self._inner = SystemFiles(str(root))
        self.left = 1 << 40

    def open(self, path: str, *, create: bool = False) -> Any:
        return FullFile(self._inner.open(path, create=create), self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_full_disk_is_counted_and_memory_goes_on(tmp_path: Path) -> None:
    files = FullFiles(tmp_path)
    store = LogStore(files)
    store.append([record(1)])
    files.left = 0
    assert len(store.append([record(2), record(3)])) == 2
    files.left = 60
    store.append([record(4)])
    assert found(store) == [1, 2, 3, 4]
    assert store.unwritten == 3
    files.left = 1 << 40
    store.append([record(5)])
    assert store.unwritten == 3
    assert found(again(tmp_path)) == [1, 5]


class Unusable(FullFiles):
    """Every operation fails, but listing."""

    def open(self, path: str, *, create: bool = False) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    def remove(self, path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_a_broken_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMPONENTS_MAX", 1)
    store = LogStore(Unusable(tmp_path))
    store.append([record(1, "a")])
    store.append([record(1, "b")])
    assert [r.component for r in store.query(everything)] == ["b"]
    assert store.unwritten == 2


# -- strange records ----


@pytest.mark.parametrize(
    "fields",
    [
        {"a": {None: 1}},
        {"a": msgspec.msgpack.Ext(5, b"x")},
        {"a": "x" * (limits.FIELDS_BYTES_MAX + 1)},
        {"a": "\ud800"},
    ],
)
def test_fields_that_cannot_be_kept_are_left_out_and_the_record_stays(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    store = again(tmp_path)
    (kept,) = store.append([record(1, fields=fields)])
    assert set(kept.fields) == {"omitted"}
    assert again(tmp_path).query(everything) == [kept]
