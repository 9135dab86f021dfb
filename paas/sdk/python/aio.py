"""`AsyncComponent`: a program of asyncio tasks.

The channel is read where the loop says it is readable; what tasks want to say in one turn of the
loop is written together at its end, or earlier when it is much.  asyncio is imported when such a
component is used.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import contextlib
import signal
import socket
import sys

from paas.sdk.python.awaiting import AwaitedWatch, Awaiting
from paas.sdk.python.core import (
    BATCH_MESSAGES,
    CONFIGURATION_WAIT_S,
    DRAIN_S,
    READ_BYTES,
    leave_with,
    open_channel,
)
from paas.sdk.python.wire import ComponentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from paas.sdk.python.values import Call

SWEEP_S = 1.0


class AsyncWatch(AwaitedWatch):
    """A watch of an asyncio component."""

    _future: Any = None

    async def _wait(self) -> None:
        self._future = self._component._loop.create_future()
        await self._future

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class AsyncComponent(Awaiting):
    """This program's connection to the platform, for programs of asyncio tasks.

    `asyncio.run(component.run())`.  All methods of `Component` that ask are awaited here.
    """

    _loop: Any = None
    _stopping: Any = None
    _configured: Any = None
    _stop_early = False

    async def run(self) -> None:
        """Say `ready`, then answer calls until the component is to end."""
        import asyncio

        if not self._opened:
            self._open()
        not_here = contextlib.suppress(ValueError, RuntimeError)  # another thread, or no signals
        with not_here:
            self._loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        try:
            await self.request("component.ready")
            await self._stopping.wait()
            end_s = self._loop.time() + DRAIN_S
            while self._is_busy() and self._loop.time() < end_s:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finally:
            self._close()
            with not_here:
                self._loop.remove_signal_handler(signal.SIGTERM)
        leave_with(self._exit_status)

    async def connect(self) -> None:
        """Open the channel; done by itself when it is needed."""
        if not self._opened:
            self._open()

    async def configured(self) -> dict[str, Any]:
        """What the component was created with; waits for it at first use."""
        import asyncio

        await self.connect()
        with contextlib.suppress(asyncio.TimeoutError):  # another one than TimeoutError until 3.11
            await asyncio.wait_for(self._configured.wait(), CONFIGURATION_WAIT_S)
        return self._configuration

    @property
    def configuration(self) -> dict[str, Any]:
        """What the component was created with, as far as it is known: see `configured`."""
        return self._configuration

    def watching(self, **what: Any) -> AsyncWatch:
        """As `watch`, to iterate over: `async with component.watching(group="g") as events`."""
        return AsyncWatch(self, "hub.watch", what)

    # -- how one waits -----------------------------------------------------------------------------

    def _waiter(self) -> Any:
        return self._loop.create_future()

    def _came(self, waiter: Any) -> dict[str, Any]:
        """The answer, if it came although nobody waited for it any more."""
        return waiter.result() if waiter.done() and not waiter.cancelled() else {}

    def _resolve(self, waiter: Any, message: dict[str, Any]) -> None:
        future = waiter[0]
        if not future.done():
            future.set_result(message)

    def _set_configured(self) -> None:
        self._configured.set()

    def _set_stopping(self) -> None:
        if self._stopping is None:
            self._stop_early = True
        else:
            self._stopping.set()

    def _spawn(self, function: Any, *arguments: Any) -> None:
        self._task(function(*arguments))

    def _task(self, coroutine: Any) -> Any:
        task = self._make_task(coroutine)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return task

    def _begin(self, identity: Any, call: Call, awaited: Any) -> None:
        call.task = self._task(self._work_on(identity, call, awaited))

    def _cancel_task(self, call: Call) -> None:
        if call.begun:  # else it ends by itself; a task that has not begun could not answer
            call.task.cancel()

    # -- connection --------------------------------------------------------------------------------

    def _open(self) -> None:
        import asyncio

        try:
            self._loop = loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ComponentError(
                "not-available", "not connected: no loop of asyncio runs"
            ) from None
        self._stopping, self._configured = asyncio.Event(), asyncio.Event()
        if self._stop_early:
            self._stopping.set()
        self._tasks: set[Any] = set()
        if sys.version_info >= (3, 12):  # a task that never waits ends before it is in the loop
            self._make_task = lambda c: asyncio.Task(c, loop=loop, eager_start=True)
        else:
            self._make_task = loop.create_task
        self._socket: socket.socket = open_channel()
        self._socket.setblocking(False)
        self._opened = True
        self._flushing = self._blocked = False
        loop.add_reader(self._socket.fileno(), self._readable)
        loop.call_later(SWEEP_S, self._sweep)
        self._write(self._codec.hello)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not self._received(data):
            self._close()

    def _sweep(self) -> None:
        if not self._closed:
            self._expire()
            self._loop.call_later(SWEEP_S, self._sweep)

    def _write(self, data: bytes) -> None:
        if self._closed:
            return
        self._out.append(data)
        self._unsent_bytes += len(data)
        if len(self._out) >= BATCH_MESSAGES:
            self._flush()
        elif not (self._reading or self._flushing or self._blocked):
            self._flushing = True
            self._loop.call_soon(self._flush_later)

    def _flush_later(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        if self._closed or not self._out or self._blocked:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent = len(data)  # the reader sees it too
        self._written(len(data) - sent)
        if sent < len(data):
            self._out.append(data[sent:])
            self._blocked = True
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._blocked = False
        self._flush()

    def _close(self) -> None:
        if self._socket.fileno() >= 0:
            self._flush()
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._lost()
            self._socket.close()
