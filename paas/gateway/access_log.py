"""The access log: one event for every answered request, as a line of JSON.

    {"message": "GET /shop 200", "level": "info", "event": "http.request", "route": "shop.web", …}

Lines are gathered and leave together, a few times a second: the write belongs to nobody's request.
`write` never waits; what it does not take is tried again, in bounded number.
The log is bounded in rate; what is left out is counted by an event of its own, and errors (status
500 and above, connections cut off) are never left out in favour of answers that went well.  A query
may hold secrets, so it is not logged.

What is logged: the source's address, method, host, path, status, bytes, duration, route, member,
tries, identifier, and for errors what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from paas.gateway.http.exchange import Exchange
from paas.wire import codec

Mode = Literal["all", "errors", "none"]

WRITE_BYTES = 4_096
"""Written at once: what a pipe takes without blocking whenever it is ready (PIPE_BUF, pipe(7))."""

EVENTS_PER_S_MAX = 1_000
ERRORS_PER_S_MAX = 1_000
WAITING_BYTES_MAX = 1 << 20
PATH_CHARACTERS_MAX = 256


class Access(msgspec.Struct, omit_defaults=True):
    """One line."""

    message: str
    level: str
    event: str
    request_id: str = ""
    remote: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    version: str = ""
    status: int = 0
    received: int = 0
    sent: int = 0
    duration_ms: float = 0.0
    route: str = ""
    member: str = ""
    tries: int = 0
    outcome: str = ""


class AccessLog:
    """Gathers lines; `write` takes them all, when `flush` is called by the clock."""

    def __init__(self, mode: Mode, write: Callable[[bytes], bool]) -> None:
        self._mode = mode
        self._write = write
        self._lines: list[bytes] = []
        self._bytes = 0
        self._second = 0.0
        self._count = self._errors = self._left_out = 0

    def wants(self, exchange: Exchange) -> bool:
        """Is the exchange, which is over, to be logged?"""
        if self._mode == "all":
            return True
        return self._mode == "errors" and _failed(exchange)

    def add(self, exchange: Exchange, now: float) -> None:
        """Log it."""
        failed = _failed(exchange)
        if now >= self._second + 1:
            self._second = now
            self._count = self._errors = 0
        if failed:
            self._errors += 1
            full = self._errors > ERRORS_PER_S_MAX
        else:
            self._count += 1
            full = self._count > EVENTS_PER_S_MAX
        if full or self._bytes > WAITING_BYTES_MAX:
            self._left_out += 1
            return
        self._append(codec.to_json(_event(exchange, now, failed)) + b"\n")

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._left_out:
            text = f"{self._left_out} requests were not logged"
            event = {"message": text, "level": "warning", "event": "http.unlogged"}
            self._append(codec.to_json({**event, "count": self._left_out}) + b"\n")
            self._left_out = 0
        done = 0
        while done < len(self._lines):
            end, size = done, 0
            while end < len(self._lines) and (
                end == done or size + len(self._lines[end]) <= WRITE_BYTES
            ):
                size += len(self._lines[end])
                end += 1
            if self._write(b"".join(self._lines[done:end])) is False:
                break  # the reader is slow: it is tried again at the next flush
            done = end
            self._bytes -= size
        del self._lines[:done]


def _failed(exchange: Exchange) -> bool:
    return exchange.status >= 500 or exchange.status == 0 or bool(exchange.outcome)


def _event(exchange: Exchange, now: float, failed: bool) -> Access:
    head = exchange.head
    path = head.path[:PATH_CHARACTERS_MAX]
    return Access(
        message=f"{head.method} {path} {exchange.status or 'cut off'}",
        level="warning" if failed else "info",
        event="http.request",
        request_id=exchange.request_id,
        remote=exchange.remote,
        method=head.method,
        host=head.host,
        path=path,
        version=head.version,
        status=exchange.status,
        received=exchange.received,
        sent=exchange.sent,
        duration_ms=round((now - exchange.began) * 1e3, 2),
        route=exchange.route,
        member=exchange.member,
        tries=exchange.tries,
        outcome=exchange.outcome,
    )
