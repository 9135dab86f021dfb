"""`TrioComponent`: a program of trio tasks.  trio is imported when such a component is made.

    async with component:              the channel is open, its tasks are in a nursery
        await component.join("group")
        await component.run()          ready; until the component is to end

`trio.run(component.run)` alone does the same when nothing is to be asked before `ready`.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import signal
import socket
import threading

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
    from collections.abc import Generator
    from typing import Any

    from paas.sdk.python.values import Call

_SWEEP_S = 1.0


class _Waiter:
    """One answer to come."""

    __slots__ = ("event", "message")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.message: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self.event.wait().__await__()
        return self.message


class TrioWatch(AwaitedWatch):
    """A watch of a trio component."""

    _event: Any = None

    async def _wait(self) -> None:
        self._event = self._component._trio.Event()
        await self._event.wait()

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()


class TrioComponent(Awaiting):
    """This program's connection to the platform, for programs of trio tasks.

    All methods of `Component` that ask are awaited here.
    """

    def __init__(self, codec: str = "json") -> None:
        self._trio: Any = __import__("trio")
        self._stopping = self._trio.Event()
        self._configured = self._trio.Event()
        self._to_write = self._trio.Event()
        self._manager: Any = None
        self._nursery: Any = None
        self._blocked = False
        super().__init__(codec)

    async def __aenter__(self) -> TrioComponent:
        self._manager = self._trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        try:
            self._raw: socket.socket = open_channel()
        except BaseException:
            self._nursery.cancel_scope.cancel()
            await self._manager.__aexit__(None, None, None)
            raise
        self._raw.setblocking(False)
        self._opened = True
        self._nursery.start_soon(self._read)
        self._nursery.start_soon(self._write_later)
        self._nursery.start_soon(self._sweep)
        self._write(self._codec.hello)
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        self._nursery.cancel_scope.cancel()
        try:
            return await self._manager.__aexit__(*exc)
        finally:
            self._flush()
            self._lost()
            self._raw.close()

    async def run(self) -> None:
        """Say `ready`, then answer calls until the component is to end."""
        if not self._opened:
            async with self:
                await self._until_stopped()
        else:
            await self._until_stopped()
        leave_with(self._exit_status)

    async def _until_stopped(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._nursery.start_soon(self._await_signal)
        await self.request("component.ready")
        await self._stopping.wait()
        with self._trio.move_on_after(DRAIN_S):
            while self._is_busy():
                await self._trio.sleep(0.01)

    async def _await_signal(self) -> None:
        with self._trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _number in signals:
                self._stopping.set()

    async def configured(self) -> dict[str, Any]:
        """What the component was created with; waits for it at first use."""
        with self._trio.move_on_after(CONFIGURATION_WAIT_S):
            await self._configured.wait()
        return self._configuration

    @property
    def configuration(self) -> dict[str, Any]:
        """What the component was created with, as far as it is known: see `configured`."""
        return self._configuration

    def watching(self, **what: Any) -> TrioWatch:
        """As `watch`, to iterate over: `async with component.watching(group="g") as events`."""
        return TrioWatch(self, "hub.watch", what)

    # -- how one waits -----------------------------------------------------------------------------

    def _open(self) -> None:
        raise ComponentError("not-available", "not connected: use `async with component`, or run")

    def _waiter(self) -> Any:
        return _Waiter(self._trio.Event())

    def _came(self, waiter: Any) -> dict[str, Any]:
        """The answer, if it came although nobody waited for it any more."""
        return waiter.message or {}

    def _resolve(self, waiter: Any, message: dict[str, Any]) -> None:
        waiter[0].message = message
        waiter[0].event.set()

    def _set_configured(self) -> None:
        self._configured.set()

    def _set_stopping(self) -> None:
        self._stopping.set()

    def _spawn(self, function: Any, *arguments: Any) -> None:
        self._nursery.start_soon(function, *arguments)

    def _begin(self, identity: Any, call: Call, awaited: Any) -> None:
        call.task = self._trio.CancelScope()
        self._spawn(self._work_in_scope, identity, call, awaited)

    async def _work_in_scope(self, identity: Any, call: Call, awaited: Any) -> None:
        with call.task:
            await self._work_on(identity, call, awaited)

    def _cancel_task(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()

    # -- connection --------------------------------------------------------------------------------

    async def _read(self) -> None:
        wait_readable = self._trio.lowlevel.wait_readable
        while True:
            try:
                data = self._raw.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                await wait_readable(self._raw)
                continue
            except OSError:
                data = b""
            if not self._received(data):
                self._lost()
                return
            await self._trio.lowlevel.checkpoint()

    async def _sweep(self) -> None:
        while True:
            await self._trio.sleep(_SWEEP_S)
            self._expire()

    def _write(self, data: bytes) -> None:
        if self._closed:
            return
        self._out.append(data)
        self._unsent_bytes += len(data)
        if len(self._out) >= BATCH_MESSAGES and not self._blocked:
            self._flush()
        elif not self._reading:
            self._to_write.set()

    def _flush(self) -> None:
        """Write what can be written without waiting."""
        if self._closed or not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        try:
            sent = self._raw.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent = len(data)  # the reader sees it too
        self._written(len(data) - sent)
        self._blocked = sent < len(data)
        if self._blocked:
            self._out.append(data[sent:])
            self._to_write.set()

    async def _write_later(self) -> None:
        """What tasks want to say in one turn of the scheduler, together."""
        while True:
            await self._to_write.wait()
            self._to_write = self._trio.Event()
            self._flush()
            while self._out:
                await self._trio.lowlevel.wait_writable(self._raw)
                self._flush()
