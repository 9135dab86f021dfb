"""The face of `entering.py`: what is inside, joined to byte streams (io).

    hub ── container.exec, stream N ──> face ── pipes or terminal ──> command inside

What is inside ends with its stream, and the stream with it.  When a command has ended, what it had
written is still delivered, however slowly its caller reads; what processes write that it has left
behind is not.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from paas.base.errors import PlatformError, invalid
from paas.container import entering_methods as methods
from paas.container import limits
from paas.container.entering import Entering, signal_number
from paas.container.inside import Inside, error_of
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.stream_messages import Opened
from paas.rpc.streams import Stream, Streams
from paas.wire.registry import Nothing

logger = logging.getLogger(__name__)

_PIECE_BYTES = 48 << 10
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_ENOENT = 2


class EnteringFace:
    """Handlers; see the module's text."""

    def __init__(self, entering: Entering, nursery: trio.Nursery) -> None:
        self._entering = entering
        self._nursery = nursery
        self.streams = Streams(nursery)
        self._commands: dict[Stream, Inside] = {}

    def register(self, dispatcher: Dispatcher) -> None:
        self.streams.register(dispatcher)
        dispatcher.task(methods.EXEC, self._exec)
        dispatcher.task(methods.CONNECT, self._connect)
        dispatcher.task(methods.FILES, self._files)
        dispatcher.task(methods.RESIZE_TERMINAL, self._resize)

    # -- methods ---------------------------------------------------------------------------------

    async def _exec(self, params: methods.ExecInContainer, context: Context) -> Opened:
        terminal = (params.rows, params.columns) if params.terminal else None
        if terminal is not None:
            _check_size(*terminal)

        async def enter() -> Inside:
            return await self._entering.execute(
                params.component,
                params.command,
                environment=params.environment,
                cwd=params.cwd,
                terminal=terminal,
                root=params.root,
            )

        return await self._join(params, context, enter, self._command)

    async def _files(self, params: methods.CopyInContainer, context: Context) -> Opened:
        async def enter() -> Inside:
            return await self._entering.copy(
                params.component,
                params.path,
                write=params.write,
                name=params.name,
                root=params.root,
            )

        return await self._join(params, context, enter, self._copy)

    async def _connect(self, params: methods.ConnectInContainer, context: Context) -> Opened:
        stream = self.streams.accept(context.peer, params)
        try:
            found = await self._entering.connect(params.component, params.endpoint, params.port)
        except BaseException:
            stream.reset(PlatformError("cancelled"))
            raise
        self._nursery.start_soon(self._guarded, stream, self._connection, stream, found)
        return Opened(window=stream.window)

    async def _resize(self, params: methods.ResizeTerminal, context: Context) -> Nothing:
        stream = self.streams.stream(context.peer, params.stream)
        inside = None if stream is None else self._commands.get(stream)
        if inside is None:
            raise PlatformError("not-available", f"stream {params.stream} has no command")
        if params.signal:
            await inside.signal(signal_number(params.signal))
        if params.rows or params.columns:
            _check_size(params.rows, params.columns)
            inside.resize(params.rows, params.columns)
        return Nothing()

    async def _join(
        self,
        params: Any,
        context: Context,
        enter: Callable[[], Awaitable[Inside]],
        work: Callable[[Stream, Inside], Awaitable[None]],
    ) -> Opened:
        """Open the stream, go inside, and leave the two to each other."""
        stream = self.streams.accept(context.peer, params)
        try:
            inside = await enter()
        except BaseException:
            stream.reset(PlatformError("cancelled"))
            raise
        if work == self._command:
            self._commands[stream] = inside
        self._nursery.start_soon(self._guarded, stream, work, stream, inside)
        return Opened(window=stream.window)

    async def _guarded(
        self, stream: Stream, work: Callable[..., Awaitable[None]], *arguments: Any
    ) -> None:
        """An error is the stream's, never the node's."""
        try:
            async with stream:
                try:
                    await work(*arguments)
                except* PlatformError as group:
                    stream.reset(_first(group))
        except Exception:
            logger.exception("a stream into a container failed")
            stream.reset(PlatformError("internal"))
        finally:
            inside = self._commands.pop(stream, None)
            if inside is not None:
                self._entering.close(inside)

    # -- commands and copies ---------------------------------------------------------------------

    async def _command(self, stream: Stream, inside: Inside) -> None:
        try:
            code = await self._carry(stream, inside)
        finally:
            self._entering.close(inside)
        stream.end(_how_it_ended(code, inside))

    async def _copy(self, stream: Stream, inside: Inside) -> None:
        try:
            await self._carry(stream, inside)
        finally:
            self._entering.close(inside)
        if inside.failure is not None:
            raise error_of(inside.failure)
        if not inside.copied:
            raise PlatformError("failed", "the copy was ended inside")
        stream.end(inside.copied)

    async def _carry(self, stream: Stream, inside: Inside) -> int:
        """Bytes both ways until it has ended and what it wrote was taken."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, stream, inside)
            nursery.start_soon(_watch, stream, nursery.cancel_scope)
            ended = _Ended()
            async with trio.open_nursery() as outputs:
                for channel, descriptor in inside.outputs.items():
                    outputs.start_soon(_drain, stream, channel, descriptor, ended)
                code = await inside.wait()
                ended.set()
            nursery.cancel_scope.cancel()
            return code
        raise PlatformError("cancelled", "the caller has gone")

    # -- connections -----------------------------------------------------------------------------

    async def _connection(self, stream: Stream, found: trio.SocketStream) -> None:
        async with found, trio.open_nursery() as nursery:
            nursery.start_soon(_watch, stream, nursery.cancel_scope)
            async with trio.open_nursery() as both:
                both.start_soon(_to_socket, stream, found)
                both.start_soon(_from_socket, stream, found)
            nursery.cancel_scope.cancel()


class _Ended:
    """The process has ended: who waits for more of its output looks once more and stops."""

    def __init__(self) -> None:
        self._set = False
        self._scopes: set[trio.CancelScope] = set()

    def __bool__(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for scope in self._scopes:
            scope.cancel()

    async def wait_readable(self, descriptor: int) -> None:
        """Return when there is something to read, or the process has ended."""
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                self._scopes.discard(scope)


async def _drain(stream: Stream, channel: int, descriptor: int, ended: _Ended) -> None:
    """What is written inside, to the stream; to the last byte that the process wrote."""
    while True:
        over = bool(ended)
        try:
            data = os.read(descriptor, _PIECE_BYTES)
        except BlockingIOError:
            if over:
                return
            await ended.wait_readable(descriptor)
            continue
        except OSError:  # the other side of a terminal was closed
            return
        if not data:
            return
        await stream.send(data, channel)


async def _feed(stream: Stream, inside: Inside) -> None:
    """What the caller sends, to the process; what it does not take is dropped with it."""
    try:
        while (piece := await stream.receive()) is not None:
            view = memoryview(piece[1])
            while view:
                try:
                    view = view[os.write(inside.input_fd, view) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(inside.input_fd)
        inside.close_input()
    except (OSError, PlatformError):  # it reads no more; or the caller has gone (`_watch`)
        return


async def _watch(stream: Stream, scope: trio.CancelScope) -> None:
    await stream.wait_broken()
    scope.cancel()


async def _to_socket(stream: Stream, found: trio.SocketStream) -> None:
    try:
        while (piece := await stream.receive()) is not None:
            await found.send_all(piece[1])
        await found.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def _from_socket(stream: Stream, found: trio.SocketStream) -> None:
    try:
        while data := await found.receive_some(_PIECE_BYTES):
            await stream.send(bytes(data))
    except trio.BrokenResourceError as exc:
        raise PlatformError("failed", "the connection inside was reset") from exc
    stream.end()


def _how_it_ended(code: int, inside: Inside) -> dict[str, Any]:
    if inside.failure is not None:
        missing = inside.failure.number == _ENOENT
        status = _NOT_FOUND if missing else _NOT_EXECUTABLE
        return {"code": status, "error": inside.failure.failure}
    if code >= 0:
        return {"code": code}
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return {"signal": name, "number": -code}


def _check_size(rows: int, columns: int) -> None:
    for name, value in (("rows", rows), ("columns", columns)):
        if not 0 < value <= limits.TERMINAL_SIDE_MAX:
            raise invalid(name, f"expected 1 to {limits.TERMINAL_SIDE_MAX}", param=name)


def _first(group: BaseExceptionGroup[PlatformError]) -> PlatformError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PlatformError)
    return error
