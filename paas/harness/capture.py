"""Output of the component as records: lines cut, understood, numbered, kept until the hub has them.

    bytes of stdout, stderr ──> LineCutter ──> record ──> queue ──> batches ──> hub
                                                            └─ acknowledged: gone

Every line gets the next sequence number, also one that is not kept (flood) or dropped (full
queue): a gap in the numbers is a loss, and its size is what a batch reports as `dropped`.  Batches
therefore never span a gap.  One batch is on its way at a time; it leaves the queue when the hub has
answered, so a hub that dies takes nothing with it.

A line that is a JSON object with a text (`message` or `msg`) and a `level` is a structured record:
its other members become the fields.  Anything else is text; invalid UTF-8 is replaced.  A line
above the limit is cut into pieces, all but the last marked `continued`.

Lines wait as bytes until the queue is less than half full; while some wait, the owner does not
read the pipes, except for a read now and then (`digest(force=True)`), which may push the oldest
records out.  So a reader that keeps up loses nothing, and a component never stands still because of
one that does not.  Each stream has a rate; of what comes faster the newest lines are kept and the
others counted.  Memory is bounded by the queue (records and bytes), one read and one line a stream.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from paas.base.errors import RemoteError
from paas.harness import limits
from paas.harness.messages import LogRecord
from paas.harness.settings import LogSettings
from paas.wire import codec

Stream = Literal["stdout", "stderr", "log", "harness"]
Level = Literal["debug", "info", "warning", "error"]

_STREAM_LEVELS: dict[str, Level] = {"stdout": "info", "stderr": "warning"}
_LEVELS: dict[str, Level] = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "notice": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "err": "error",
    "critical": "error",
    "fatal": "error",
    "panic": "error",
}


class _Batch(msgspec.Struct, omit_defaults=True):
    """`harness.records` with records that are encoded already."""

    records: list[msgspec.Raw]
    dropped: int = 0


class LineCutter:
    """Cuts a stream into lines of at most `line_bytes_max`; the flag says "to be continued"."""

    def __init__(self, line_bytes_max: int) -> None:
        self._max = line_bytes_max
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        cut: list[tuple[bytes, bool]] = []
        for line in lines:
            self._cut(line, cut)
        while len(self._rest) > self._max:
            cut.append((self._rest[: self._max], True))
            self._rest = self._rest[self._max :]
        return cut

    def _cut(self, line: bytes, cut: list[tuple[bytes, bool]]) -> None:
        while len(line) > self._max:
            cut.append((line[: self._max], True))
            line = line[self._max :]
        cut.append((line.removesuffix(b"\r"), False))

    def skip(self, data: bytes) -> int:
        """Like `feed` for lines nobody wants: how many ended, with the rest kept for the next."""
        ended = data.count(b"\n")
        if ended:
            self._rest = data[data.rfind(b"\n") + 1 :][: self._max]
        return ended

    def finish(self) -> list[tuple[bytes, bool]]:
        """The stream has ended: its last line may lack the end of line."""
        rest, self._rest = self._rest, b""
        return [(rest, False)] if rest else []


class Allowance:
    """How many lines a stream may have kept now: a bucket that fills with time."""

    def __init__(self) -> None:
        self._lines = float(limits.LINES_BURST_MAX)
        self._since_s = 0.0

    def at(self, now_s: float) -> int:
        filled = self._lines + max(now_s - self._since_s, 0.0) * limits.LINES_PER_S_MAX
        self._lines = min(filled, float(limits.LINES_BURST_MAX))
        self._since_s = now_s
        return int(self._lines)

    def take(self, lines: int) -> None:
        self._lines -= lines


@dataclass(slots=True)
class _Line:
    """A line that waits to become a record; `skipped_before` it, so many were not kept."""

    stream: str
    text: bytes
    continued: bool
    wall_ms: int
    skipped_before: int


class Capture:
    """Records of one component; `now_s` is monotonic, `wall_ms` wall time."""

    def __init__(self, settings: LogSettings, first_sequence: int = 1) -> None:
        self._settings = settings
        self._cutters = {
            "stdout": LineCutter(settings.line_bytes_max),
            "stderr": LineCutter(settings.line_bytes_max),
        }
        self._next = first_sequence
        self._acknowledged = first_sequence - 1
        self._queue: deque[tuple[int, bytes]] = deque()
        self._waiting: deque[_Line] = deque()
        self._skipped = 0
        self._allowances = {"stdout": Allowance(), "stderr": Allowance()}
        self._in_flight = 0
        self.queued_bytes = 0
        self.oldest_s: float | None = None

    # -- in --------------------------------------------------------------------------------------

    def feed(self, stream: str, data: bytes, now_s: float, wall_ms: int) -> None:
        """Output of the component, as it was read."""
        cutter, allowance = self._cutters[stream], self._allowances[stream]
        lines_max = allowance.at(now_s)
        if lines_max < limits.LINES_MIN and data.count(b"\n") > lines_max:
            self._skipped += cutter.skip(data)
            return
        lines = cutter.feed(data)
        extra = max(len(lines) - lines_max, 0)
        self._skipped += extra
        allowance.take(len(lines) - extra)
        self._put(stream, lines[extra:], wall_ms)
        self.digest(now_s)

    def _put(self, stream: str, lines: list[tuple[bytes, bool]], wall_ms: int) -> None:
        for line, continued in lines:
            self._waiting.append(_Line(stream, line, continued, wall_ms, self._skipped))
            self._skipped = 0

    def digest(self, now_s: float, *, force: bool = False) -> None:
        """Make records of the lines that wait, as long as there is room, or (`force`) of all."""
        while self._waiting and (force or not self._half_full):
            self._record(self._waiting.popleft(), now_s)

    def finish(self, now_s: float, wall_ms: int) -> None:
        """Both streams have ended."""
        for stream, cutter in self._cutters.items():
            self._put(stream, cutter.finish(), wall_ms)
        self.digest(now_s)
        if self._skipped and not self._waiting:
            self._next += self._skipped
            self._skipped = 0
            text = "lines were dropped: they came too fast"
            self.write("harness", "warning", text, {}, now_s, wall_ms)

    def write(
        self,
        stream: Stream,
        level: Level,
        message: str,
        fields: dict[str, Any],
        now_s: float,
        wall_ms: int,
    ) -> None:
        """One record.  Raises OverflowError when a number among the fields cannot be packed."""
        record = LogRecord(
            sequence=self._next,
            time_ms=wall_ms,
            stream=stream,
            level=level,
            message=message,
            fields=fields,
        )
        body = codec.pack(record)
        if self.oldest_s is None:
            self.oldest_s = now_s
        self._queue.append((self._next, body))
        self._next += 1
        self.queued_bytes += len(body)
        while (
            len(self._queue) > self._settings.queue_records_max
            or self.queued_bytes > limits.QUEUE_BYTES_MAX
        ):
            self.queued_bytes -= len(self._queue.popleft()[1])

    def _record(self, line: _Line, now_s: float) -> None:
        self._next += line.skipped_before
        source, text = cast(Stream, line.stream), line.text
        if text[:1] == b"{" and text[-1:] == b"}" and not line.continued:
            found = structured(text)
            if found is not None:
                try:
                    self.write(source, *found, now_s, line.wall_ms)
                    return
                except (OverflowError, ValueError):
                    pass  # a number that no other component could read: keep the text
        fields = {"continued": True} if line.continued else {}
        level, message = _STREAM_LEVELS[line.stream], text.decode("utf-8", "replace")
        self.write(source, level, message, fields, now_s, line.wall_ms)

    # -- out -------------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Lines wait for room: reading on would drop records."""
        return bool(self._waiting)

    @property
    def _half_full(self) -> bool:
        return (
            2 * len(self._queue) > self._settings.queue_records_max
            or 2 * self.queued_bytes > limits.QUEUE_BYTES_MAX
        )

    @property
    def empty(self) -> bool:
        return not self._queue and not self._waiting

    @property
    def acknowledged(self) -> int:
        """The last sequence number that a hub has confirmed."""
        return self._acknowledged

    def batch(self) -> bytes | None:
        """Params of the next `harness.records`; None while one is on its way or none is due."""
        if self._in_flight or not self._queue:
            return None
        first = self._queue[0][0]
        records: list[msgspec.Raw] = []
        size = 0
        for expected, (sequence, body) in enumerate(self._queue, first):
            size += len(body)
            if sequence != expected or (records and size > limits.BATCH_BYTES):
                break
            records.append(msgspec.Raw(body))
        self._in_flight = first + len(records) - 1
        self.oldest_s = None
        return codec.pack(_Batch(records, first - self._acknowledged - 1))

    def settle(self, delivered: bool, now_s: float) -> None:
        """The batch on its way was confirmed, or its hub was lost and it must go again."""
        if delivered:
            self._acknowledged = max(self._acknowledged, self._in_flight)
            while self._queue and self._queue[0][0] <= self._in_flight:
                self.queued_bytes -= len(self._queue.popleft()[1])
        self._in_flight = 0
        self.digest(now_s)
        if self._queue and self.oldest_s is None:
            self.oldest_s = now_s


def structured(line: bytes) -> tuple[Level, str, dict[str, Any]] | None:
    """Level, message and fields of a line that is a structured record, else None."""
    try:
        value = codec.from_json(line)
    except RemoteError:
        return None
    if not isinstance(value, dict):
        return None
    key = "message" if isinstance(value.get("message"), str) else "msg"
    message, level = value.get(key), _level(value.get("level"))
    if not isinstance(message, str) or level is None:
        return None
    del value[key], value["level"]
    return level, message, value


def _level(value: Any) -> Level | None:
    """Words of common loggers, and the numbers that loggers of Node.js write (30 is info)."""
    if isinstance(value, str):
        return _LEVELS.get(value.lower())
    if isinstance(value, int) and not isinstance(value, bool):
        return (
            "debug"
            if value < 30
            else "info"
            if value < 40
            else "warning"
            if value < 50
            else "error"
        )
    return None
