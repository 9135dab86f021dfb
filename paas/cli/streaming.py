"""Byte streams of one connection, for commands: no event loop, one thread, `select` (io).

    Channel ── stream.data, .credit, .end, .reset ──> hub
    Streams.wait()   until something has arrived, or a descriptor is ready
    carry()          a command's standard files <──> a stream, until it has ended

Credit is given back for what was passed on, so a slow reader of our output slows the other end and
nothing is gathered here but one window a stream.  On the socket of this machine bytes travel as
they are; over a WebSocket, as base64.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.connection import Connection
from paas.cli.session import Session

WINDOW_BYTES = 256 << 10
PIECE_BYTES = 48 << 10
INTERRUPTS_MAX = 3
"""So many Ctrl-C end the command here, whatever becomes of it over there."""


class Channel:
    """Our end of one stream."""

    def __init__(self, streams: Streams, number: int) -> None:
        self._streams = streams
        self.number = number
        self.credit = 0
        self.arrived: deque[tuple[int, bytes]] = deque()
        self.ended = False
        self.result: Any = None
        self.error: PlatformError | None = None
        self._owed = 0
        self._closed = False

    def send(self, data: bytes) -> None:
        """At most `credit` bytes."""
        self.credit -= len(data)
        body = data if self._streams.binary else base64.b64encode(data).decode()
        self._say("stream.data", data=body)

    def send_all(self, data: bytes) -> None:
        """Wait for credit as long as it takes; raises why the stream was broken off."""
        view = memoryview(data)
        while view:
            while not self.credit:
                self.check()
                if self.ended:
                    raise PlatformError("failed", "the other end takes no more")
                self._streams.wait()
            count = min(len(view), self.credit, PIECE_BYTES)
            self.send(bytes(view[:count]))
            view = view[count:]

    def end(self) -> None:
        if not self._closed:
            self._closed = True
            self._say("stream.end")

    def passed_on(self, count: int) -> None:
        """So much of what arrived is out of our hands."""
        self._owed += count
        if self._owed * 2 >= WINDOW_BYTES and not self.ended:
            self._say("stream.credit", bytes=self._owed)
            self._owed = 0

    def chunks(self) -> Iterator[bytes]:
        """What arrives, to the end; raises why the stream was broken off."""
        while True:
            while self.arrived:
                _, data = self.arrived.popleft()
                yield data
                self.passed_on(len(data))
            if self.ended:
                return
            self.check()
            self._streams.wait()

    def wait_end(self) -> Any:
        """The result of a stream that brings no data."""
        for _ in self.chunks():
            continue
        return self.result

    def break_off(self) -> None:
        """We want no more of it."""
        self._streams.forget(self)
        with contextlib.suppress(PlatformError):
            error = PlatformError("cancelled").to_rpc()
            self._say("stream.reset", error=error)

    def check(self) -> None:
        if self.error is not None and not self.ended:
            raise self.error

    def _say(self, method: str, **params: Any) -> None:
        self._streams.connection.notify(method, {"stream": self.number, **params})

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """A message of the other end."""
        if method == "stream.data":
            data = params["data"]
            data = data if isinstance(data, bytes) else base64.b64decode(data)
            self.arrived.append((int(params.get("channel", 0)), data))
        elif method == "stream.credit":
            self.credit += int(params["bytes"])
        elif method == "stream.end":
            self.ended, self.result = True, params.get("result")
        elif method == "stream.reset":
            self.error = PlatformError.from_rpc(params.get("error"))


class Streams:
    """The streams of a command, all on its one connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.binary = not session.remote
        self._channels: dict[int, Channel] = {}
        self._last = 0

    @property
    def connection(self) -> Connection:
        return self._session.connection(binary=self.binary)

    def open(self, method: str, params: dict[str, Any], timeout_s: float | None = None) -> Channel:
        """Ask for a stream; raises what the hub answers."""
        self._last += 1
        channel = self._channels[self._last] = Channel(self, self._last)
        body = {**params, "stream": channel.number, "window": WINDOW_BYTES}
        try:
            result = self._session.call(method, body, timeout_s=timeout_s, binary=self.binary)
        except BaseException:
            self.forget(channel)
            raise
        channel.credit += int(result["window"])
        return channel

    def forget(self, channel: Channel) -> None:
        self._channels.pop(channel.number, None)

    def wait(
        self, readable: tuple[Any, ...] = (), writable: tuple[Any, ...] = ()
    ) -> tuple[list[Any], list[Any]]:
        """Until messages have come or a descriptor is ready; those that are."""
        connection = self.connection
        took = self._take(connection)  # looked at before more is asked for, such as the end
        timeout = 0.0 if took else None
        ready, free, _ = select.select([connection, *readable], writable, [], timeout)
        if connection in ready and not took:
            self._take(connection)
        return [r for r in ready if r is not connection], free

    def _take(self, connection: Connection) -> int:
        """How many messages have come."""
        messages = connection.streamed()
        for message in messages:
            params = message.get("params") or {}
            channel = self._channels.get(-int(params.get("stream", 0)))
            if channel is not None:
                channel.heard(message["method"], params)
        return len(messages)


class Wakes:
    """Signals as bytes on a pipe, so that waiting ends when one comes."""

    def __init__(self, handlers: dict[int, Callable[[], None]]) -> None:
        self._handlers = handlers
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        self._before_fd = -1

    def __enter__(self) -> Wakes:
        self._before_fd = signal.set_wakeup_fd(self._write)
        for number in self._handlers:
            self._before[number] = signal.signal(number, _nothing)
        return self

    def __exit__(self, *_exc: object) -> None:
        signal.set_wakeup_fd(self._before_fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def handle(self) -> None:
        """Run what the signals that came are for."""
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._read, 64):
                if number in self._handlers:
                    self._handlers[number]()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The pipe tells."""


def carry(
    streams: Streams, channel: Channel, wakes: Wakes, *, source: int, sinks: dict[int, int]
) -> Any:
    """`source` to the stream, the stream's channels to `sinks`, until it has ended: its result."""
    reading = True
    while True:
        while channel.arrived:
            number, data = channel.arrived.popleft()
            _write_all(sinks.get(number, 1), data)
            channel.passed_on(len(data))
        if channel.ended:
            streams.forget(channel)
            return channel.result
        channel.check()
        wanted = (wakes, source) if reading and channel.credit else (wakes,)
        ready, _ = streams.wait(wanted)
        if wakes in ready:
            wakes.handle()
        if source in ready:
            data = _read(source, min(channel.credit, PIECE_BYTES))
            if data:
                channel.send(data)
            else:
                reading = False
                channel.end()


def _read(descriptor: int, count: int) -> bytes:
    try:
        return os.read(descriptor, count)
    except OSError:
        return b""


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
