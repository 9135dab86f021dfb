"""The log store of a hub: the records of components, bounded, in memory and on disk (H05, G01).

A component has a ring in memory, which answers queries, and a file of JSON lines, which survives
the hub.  The file is rotated by size, with one older file kept, so a component can hold at most
`2 * SEGMENT_BYTES_MAX` bytes of disk.  Nothing is synced: log records are informative state and a
power cut may take the last of them (architecture, rule 5).  A torn last line is skipped when read
and written over.

When the disk is full the records stay in memory and the loss is counted, never raised: logging must
not stop anything.  Duplicates by sequence, which a harness may resend after a reconnect, are
dropped; what the harness itself lost is shown in the next record's `dropped`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from paas.base.ports import Files
from paas.logs import limits
from paas.logs.messages import Level, Record

LEVELS: dict[str, int] = {"debug": 0, "info": 1, "warning": 2, "error": 3}


class _Ring:
    """One component's newest records."""

    __slots__ = ("bytes", "file_bytes", "records", "sequence")

    def __init__(self) -> None:
        self.records: deque[tuple[Record, int]] = deque()
        self.bytes = 0
        self.file_bytes = -1  # unknown until first used
        self.sequence = 0

    def add(self, record: Record, size: int) -> None:
        self.records.append((record, size))
        self.bytes += size
        while len(self.records) > limits.RING_RECORDS_MAX or self.bytes > limits.RING_BYTES_MAX:
            self.bytes -= self.records.popleft()[1]


class LogStore:
    """Keeps and finds records.  `files` is the store's own directory."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._rings: OrderedDict[str, _Ring] = OrderedDict()
        self.records = 0
        self.unwritten = 0
        for component in self._stored():
            self._rings[component] = self._load(component)

    # -- writing ---------------------------------------------------------------------------------

    def append(self, records: Iterable[Record]) -> list[Record]:
        """Keep records of one component, in order; returns those that were new."""
        kept: list[Record] = []
        lines: list[bytes] = []
        ring: _Ring | None = None
        for record in records:
            ring = self._ring(record.component)
            if record.sequence and record.sequence <= ring.sequence:
                continue
            ring.sequence = max(ring.sequence, record.sequence)
            record, line = _line(record)
            ring.add(record, len(line))
            lines.append(line)
            kept.append(record)
        if ring is not None and kept:
            self.records += len(kept)
            if not self._write(kept[0].component, ring, b"".join(lines)):
                self.unwritten += len(kept)
        return kept

    def _ring(self, component: str) -> _Ring:
        ring = self._rings.get(component)
        if ring is None:
            ring = self._rings[component] = _Ring()
            while len(self._rings) > limits.COMPONENTS_MAX:
                self.forget(next(iter(self._rings)))
        else:
            self._rings.move_to_end(component)
        return ring

    def _write(self, component: str, ring: _Ring, data: bytes) -> bool:
        path = f"{component}.jsonl"
        try:
            file = self._files.open(path, create=True)
            try:
                if ring.file_bytes < 0:
                    ring.file_bytes = file.size()
                file.write(ring.file_bytes, data)
                ring.file_bytes += len(data)
            finally:
                file.close()
            if ring.file_bytes > limits.SEGMENT_BYTES_MAX:
                self._files.rename(path, f"{component}.jsonl.1")
                ring.file_bytes = 0
        except OSError:
            return False
        return True

    def forget(self, component: str) -> None:
        """Drop a component's records everywhere."""
        self._rings.pop(component, None)
        for path in (f"{component}.jsonl", f"{component}.jsonl.1"):
            try:
                self._files.remove(path)
            except OSError:
                continue  # mostly it was not there; else the next start finds it and tries again

    # -- reading ---------------------------------------------------------------------------------

    def query(
        self,
        wanted: Callable[[Record], bool],
        *,
        since: float = 0.0,
        level: Level = "debug",
        grep: str = "",
        limit: int = 1_000,
    ) -> list[Record]:
        """The newest `limit` matching records, by time, of QUERY_BYTES_MAX at most.

        `wanted` chooses the components: it looks at what all records of one have in common.
        """
        limit = min(limit, limits.QUERY_RECORDS_MAX)
        newest_first = [
            _matching(ring, since=since, level=level, grep=grep)
            for ring in self._rings.values()
            if ring.records and wanted(ring.records[-1][0])
        ]
        found: list[Record] = []
        size = 0
        for record, bytes_ in heapq.merge(*newest_first, key=lambda r: r[0].time, reverse=True):
            size += bytes_
            if len(found) >= limit or size > limits.QUERY_BYTES_MAX:
                break
            found.append(record)
        found.reverse()
        found.sort(key=lambda r: (r.time, r.component))  # stable: as they came, at the same time
        return found

    def tail(self, component: str, count: int) -> list[str]:
        """The last messages of a component."""
        ring = self._rings.get(component)
        if ring is None:
            return []
        return [record.message for record, _ in list(ring.records)[-count:]] if count > 0 else []

    # -- what an earlier process left ------------------------------------------------------------

    def _stored(self) -> list[str]:
        names = [n for n in self._files.list() if n.endswith((".jsonl", ".jsonl.1"))]
        return sorted({n.partition(".")[0] for n in names})

    def _load(self, component: str) -> _Ring:
        ring = _Ring()
        for path in (f"{component}.jsonl.1", f"{component}.jsonl"):
            if not self._files.exists(path):
                continue
            file = self._files.open(path)
            try:
                data = file.read(0, file.size())
            finally:
                file.close()
            if path.endswith(".jsonl"):
                ring.file_bytes = data.rfind(b"\n") + 1
            for line in data.split(b"\n"):
                try:
                    record = msgspec.json.decode(line, type=Record)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue
                ring.add(record, len(line) + 1)
                ring.sequence = max(ring.sequence, record.sequence)
        return ring


def _line(record: Record) -> tuple[Record, bytes]:
    """The record's line in the file.  Fields that JSON cannot say, or too large, are left out."""
    try:
        line = msgspec.json.encode(record)
        if len(record.fields) and len(line) > limits.FIELDS_BYTES_MAX:
            size = len(msgspec.json.encode(record.fields))
            if size > limits.FIELDS_BYTES_MAX:
                raise ValueError(f"{size} bytes")
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        record = msgspec.structs.replace(record, fields={"omitted": str(exc)[:200]})
        line = msgspec.json.encode(record)
    return record, line + b"\n"


def _matching(ring: _Ring, *, since: float, level: str, grep: str) -> Iterator[tuple[Record, int]]:
    for entry in reversed(ring.records):
        if matches(entry[0], since=since, level=level, grep=grep):
            yield entry


def matches(record: Record, *, since: float, level: str, grep: str) -> bool:
    """Does the record pass a query's plain conditions?  Levels that nobody knows count as info."""
    if record.time < since or LEVELS.get(record.level, LEVELS["info"]) < LEVELS[level]:
        return False
    return grep in record.message if grep else True
