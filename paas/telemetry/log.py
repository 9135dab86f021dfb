"""Loggers: an agent's way to say what happened.

    log = Logger(agent="hub", node="n1")
    log.info("node.ready", state=path)

    with operation(request="req-7", trace=traceparent):      # every event inside carries both
        log.warning("call.refused", target=target, error=exc)

The context follows the task and the tasks it starts (a contextvar), so that a handler deep inside
need not be told which request it works for.  Keys are declared in names.py.  Logging never raises
for what it is given, never waits, and is bounded in every direction (event.py, sink.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from paas.base.errors import LocalError
from paas.telemetry import sink
from paas.telemetry.event import Event, Level, is_key, line, timestamp


@dataclass(frozen=True, slots=True)
class Operation:
    """What links the events of one operation: the request's identifier, the W3C trace context."""

    request: str = ""
    trace: str = ""


_operation: ContextVar[Operation] = ContextVar("operation", default=Operation())  # noqa: B039


def current() -> Operation:
    """The operation that this task works for."""
    return _operation.get()


@contextmanager
def operation(*, request: str = "", trace: str = "") -> Iterator[None]:
    """Events inside belong to this operation; what is not given is kept from outside."""
    outer = _operation.get()
    token = _operation.set(Operation(request or outer.request, trace or outer.trace))
    try:
        yield
    finally:
        _operation.reset(token)


class Logger:
    """Writes the events of one agent.  `write` takes a whole line; False means it was dropped."""

    def __init__(
        self,
        agent: str,
        node: str = "",
        *,
        write: Callable[[bytes], object] | None = None,
        now_ms: Callable[[], int] = sink.wall_ms,
        level: Level = Level.INFO,
        **bound: Any,
    ) -> None:
        self.agent = agent
        self.node = node
        self.level = level
        self._write = write if write is not None else sink.DescriptorSink().write
        self._now_ms = now_ms
        self._bound = bound
        self._written = self._dropped = self._unreported = 0

    def debug(self, event: str, /, **fields: Any) -> None:
        self.emit(Level.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        self.emit(Level.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self.emit(Level.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self.emit(Level.ERROR, event, fields)

    def emit(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        """Write one event, if its level is not below the logger's."""
        if not is_key(event):
            raise LocalError(f"{event!r} is no log key: expected subject.happening")
        if level < self.level:
            return
        lost = self._unreported
        if lost and self._put(Level.WARNING, "log.dropped", {"count": lost}):
            self._unreported = 0
        if not self._put(level, event, {**self._bound, **fields} if self._bound else fields):
            self._dropped += 1
            self._unreported += 1

    def _put(self, level: Level, event: str, fields: dict[str, Any]) -> bool:
        where = _operation.get()
        made = Event(
            ts=timestamp(self._now_ms()),
            level=level.name.lower(),
            agent=self.agent,
            node=self.node,
            event=event,
            request=where.request,
            trace=where.trace,
            fields=fields,
        )
        if self._write(line(made)) is False:
            return False
        self._written += 1
        return True

    def bound(self, **fields: Any) -> Logger:
        """A logger whose events also carry these fields; it counts for itself."""
        return Logger(
            self.agent,
            self.node,
            write=self._write,
            now_ms=self._now_ms,
            level=self.level,
            **{**self._bound, **fields},
        )

    def statistics(self) -> dict[str, int]:
        return {"written": self._written, "dropped": self._dropped}
