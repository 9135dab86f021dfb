"""The log store of a hub: every component's records, bounded, in memory and on disk (rows H05, G01).

A component has a ring in memory, which answers queries, and a file of JSON lines, which survives
the hub.  The file is rotated by size, with one older file kept, so a component can hold at most
`2 * SEGMENT_BYTES_MAX` bytes of disk.  Nothing is synced: log records are informative state and a
power cut may take the last of them (architecture, rule 5).  A torn last line is skipped when read.

When the disk is full the records stay in memory and the loss is counted, never raised: logging must
not stop anything.  Duplicates by sequence, which a harness may resend after a reconnect, are
dropped; what the harness itself lost is shown in the next record's `dropped`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

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
            line = msgspec.json.encode(record) + b"\n"
            ring.add(record, len(line))
            lines.append(line)
            kept.append(record)
        if ring is not None and kept:
            self.records += len(kept)
            self._write(kept[0].component, ring, b"".join(lines))
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

    def _write(self, component: str, ring: _Ring, data: bytes) -> None:
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
            self.unwritten += 1

    def forget(self, component: str) -> None:
        """Drop a component's records everywhere."""
        self._rings.pop(component, None)
        for path in (f"{component}.jsonl", f"{component}.jsonl.1"):
            if self._files.exists(path):
                self._files.remove(path)

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
        """The newest `limit` matching records, by time; `wanted` chooses the components."""
        found = [
            record
            for ring in self._rings.values()
            for record, _ in ring.records
            if matches(record, since=since, level=level, grep=grep) and wanted(record)
        ]
        found.sort(key=lambda r: (r.time, r.component, r.sequence))
        return found[-min(limit, limits.QUERY_RECORDS_MAX) :] if limit > 0 else []

    def tail(self, component: str, count: int) -> list[str]:
        """The last messages of a component."""
        ring = self._rings.get(component)
        if ring is None:
            return []
        return [record.message for record, _ in list(ring.records)[-count:]]

    # -- what an earlier process left ------------------------------------------------------------

    def _stored(self) -> list[str]:
        names = [n for n in self._files.list() if n.endswith(".jsonl") or n.endswith(".jsonl.1")]
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
            for line in data.splitlines():
                try:
                    record = msgspec.json.decode(line, type=Record)
                except msgspec.DecodeError:
                    continue
                ring.add(record, len(line) + 1)
                ring.sequence = max(ring.sequence, record.sequence)
        return ring


def matches(record: Record, *, since: float, level: str, grep: str) -> bool:
    """Does the record pass a query's plain conditions?"""
    if record.time < since or LEVELS[record.level] < LEVELS[level]:
        return False
    return grep in record.message if grep else True
