"""What the two front ends with `await` share, whichever library runs the tasks.

A front end of this kind has `_waiter(wait_s)` (something to await, and until when), `_resolve`,
`_open`, `_spawn(function, *arguments)`, and `_write`.  Operations that are `async def` run as
tasks, which are cancelled when nobody wants the answer any more; plain ones run at once where
messages are read, so they must be quick and wait for nothing.
"""

from __future__ import annotations

import sys
import time
from collections import deque

from paas.sdk.python.core import (
    _OPENING,
    ANSWER_MARGIN_S,
    FAILURES,
    UNSENT_BYTES_MAX,
    Core,
    _trace,
    print_traceback,
    result_of,
)
from paas.sdk.python.events import Watch
from paas.sdk.python.values import DEFAULT_TIMEOUT_S, Result, are_large
from paas.sdk.python.wire import ComponentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from paas.sdk.python.values import Call, Steps


class AwaitedWatch(Watch):
    """`async with component.watching(group="g") as events: async for event in events`."""

    async def __aenter__(self) -> AwaitedWatch:
        await self._component._open_watch(self._method, self._what, self)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def __aiter__(self) -> AwaitedWatch:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            event = self._next()
            if event is not None:
                return event
            if self._ended:
                raise StopAsyncIteration
            await self._wait()

    async def close(self) -> None:
        """End the watch; iteration over it ends.  Waits for nothing, so that a task that was
        cancelled can do it."""
        if not self._ended:
            self._component._leave_watch(self.number)

    async def _wait(self) -> None:
        """Until there is an event, or the end."""


class Awaiting(Core):
    """The shared part of `AsyncComponent` and `TrioComponent`."""

    _open: Callable[[], None]
    _waiter: Callable[[], Any]
    _came: Callable[[Any], dict[str, Any]]
    _spawn: Callable[..., None]
    _flush: Callable[[], None]

    def __init__(self, codec: str = "json") -> None:
        self._opened = False
        self._out: list[bytes] = []
        self._reading = False
        self._waits_for_room: list[Any] = []
        self._deliveries: deque[Any] = deque()
        self._delivering = False
        self._running = 0
        self._closed = False
        super().__init__(codec)

    # -- asking ------------------------------------------------------------------------------------

    async def request(
        self, method: str, params: dict[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """Any method of the component API; its result.  Raises ComponentError."""
        if not self._opened:
            self._open()
        while self._unsent_bytes > UNSENT_BYTES_MAX and not self._closed:
            await self._room()
        if self._closed:
            raise ComponentError("not-available", "the channel is closed")
        identity = next(self._numbers)
        data = self._request_bytes(identity, method, params, timeout)
        wait_s = (DEFAULT_TIMEOUT_S if timeout is None else timeout) + ANSWER_MARGIN_S
        waiter = self._waiter()
        self._pending[identity] = (waiter, time.monotonic() + wait_s)
        self._write(data)
        try:
            answer = await waiter
        except BaseException:
            if not self._give_up(identity) and method in _OPENING:
                self._leave_unwanted(self._came(waiter))
            raise
        return result_of(answer)

    async def _ask(
        self,
        method: str,
        params: dict[str, Any],
        convert: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        answer = await self.request(method, params, timeout)
        return answer if convert is None else convert(answer)

    async def _drive(self, steps: Steps) -> Any:
        try:
            method, params = next(steps)
            while True:
                try:
                    answer = await self.request(method, params, params.get("timeout"))
                except ComponentError as exc:
                    method, params = steps.throw(exc)
                else:
                    method, params = steps.send(answer)
        except StopIteration as end:
            return end.value

    def _tell(self, method: str, params: dict[str, Any]) -> None:
        if not self._opened:
            self._open()
        self._spawn(self._said, method, params)

    async def _tell_cast(self, params: dict[str, Any]) -> None:
        if not self._opened:
            self._open()
        if self._closed:
            raise ComponentError("not-available", "the channel is closed")
        while self._unsent_bytes > UNSENT_BYTES_MAX and not self._closed:
            await self._room()
        data = self._unconfirmed(params)
        if data:
            self._write(data)
        else:
            await self.request("hub.cast", params)

    async def _room(self) -> None:
        """Until the harness has taken most of what there is to be written."""
        waiter = self._waiter()
        self._waits_for_room.append((waiter, 0))
        await waiter

    def _written(self, rest: int) -> None:
        """So many bytes are left to be written."""
        self._unsent_bytes = rest
        if self._waits_for_room and rest <= UNSENT_BYTES_MAX:
            waiting, self._waits_for_room = self._waits_for_room, []
            for waiter in waiting:
                self._resolve(waiter, {})

    async def _said(self, method: str, params: dict[str, Any]) -> None:
        try:
            await self.request(method, params)
        except ComponentError as exc:
            print(f"{method}: {exc.code}: {exc.message}", file=sys.stderr)  # noqa: T201

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        if not self._opened:
            self._open()
        if self._unsent_bytes > UNSENT_BYTES_MAX and method == "log.write":
            self._count_dropped("log record: the harness does not read")
        else:
            self._write(self._notification(method, params))

    async def _open_watch(self, method: str, params: dict[str, Any], target: Any) -> dict[str, Any]:
        with self._opens_watch():
            return self._watch_opened(await self.request(method, params), target)

    def _expire(self) -> None:
        """Now and then: who waits too long is told so."""
        now_s = time.monotonic()
        late = {"error": ComponentError("timeout", "no answer").to_rpc()}
        for identity, (waiter, until_s) in list(self._pending.items()):
            if until_s < now_s:
                self._give_up(identity)
                self._resolve((waiter, until_s), late)

    # -- reading -----------------------------------------------------------------------------------

    def _received(self, data: bytes) -> bool:
        """Bytes of the harness; False at the end of the channel."""
        if not data:
            return False
        try:
            messages = self._codec.feed(data)
        except Exception as exc:  # what is not the protocol
            print_traceback(exc)
            return False
        self._reading = True
        try:
            for message, size in zip(messages, self._codec.sizes):  # noqa: B905  (3.10)
                try:
                    self._take(message, size)
                except FAILURES as exc:
                    print_traceback(exc)
        finally:
            self._reading = False
            if self._out:
                self._flush()
        return True

    def _is_busy(self) -> bool:
        """Is there something that the end should wait for?"""
        return self._running > 0 or bool(self._out and not self._closed)

    def _lost(self) -> None:
        self._closed = True
        super()._lost()
        self._written(0)

    # -- operations --------------------------------------------------------------------------------

    def _start(self, identity: Any, call: Call, found: Any) -> None:
        function, waits = found
        later, data = None, b""
        token = _trace.set(call.trace) if call.trace else None
        try:
            value = function(call.inputs, call)
            if waits or hasattr(type(value), "__await__"):
                later = value
            elif type(value) is Result and are_large(value.attachments):
                later = _as_it_is(value)
            else:
                data = self._answer(identity, value)
        except FAILURES as exc:
            data = self._failure(identity, exc)
        finally:
            if token is not None:
                _trace.reset(token)
        if later is not None:
            if identity is not None:
                self._calls[identity] = call
            self._running += 1
            self._running_bytes += call.size
            self._begin(identity, call, later)
        elif data:
            self._write(data)

    def _begin(self, identity: Any, call: Call, awaited: Any) -> None:
        """Start a task that works on a call."""
        self._spawn(self._work_on, identity, call, awaited)

    async def _work_on(self, identity: Any, call: Call, awaited: Any) -> None:
        """A task: what is awaited gives the outputs."""
        _trace.set(call.trace)
        call.begun, data = True, b""
        try:
            if call.was_cancelled():  # before the task could begin
                _never_begun(awaited)
                raise ComponentError("cancelled")
            value = await awaited
            steps = self._outgoing(value)
            data = self._answer(identity, value if steps is None else await self._drive(steps))
        except FAILURES as exc:
            data = self._failure(identity, exc)
        except BaseException:
            data = self._failure_of_cancelled(identity)
            raise
        finally:
            self._calls.pop(identity, None)
            self._running -= 1
            self._running_bytes -= call.size
            if data and not self._closed:
                self._write(data)

    def _failure_of_cancelled(self, identity: Any) -> bytes:
        """Also a call that nobody waits for is answered: until then it counts as waiting."""
        return b"" if identity is None else self._failure(identity, ComponentError("cancelled"))

    def _work_on_terminate(self, message: dict[str, Any]) -> None:
        self._spawn(self._terminate, message)

    async def _terminate(self, message: dict[str, Any]) -> None:
        params = message.get("params") or {}
        said, refusal = None, None
        try:
            if self._on_terminate is not None:
                said = self._on_terminate(params.get("reason", ""), params.get("inputs"))
                if hasattr(type(said), "__await__"):
                    said = await said
        except ComponentError as exc:
            refusal = exc
        except FAILURES as exc:
            print_traceback(exc)
        if self._terminated(message, said, refusal):
            self._set_stopping()

    # -- events ------------------------------------------------------------------------------------

    def _deliver(self, callback: Callable[[Any], Any], value: Any) -> None:
        self._deliveries.append((callback, value))
        if not self._delivering:
            self._delivering = True
            self._spawn(self._deliver_all)

    async def _deliver_all(self) -> None:
        """One after the other, so that order is kept; callbacks may be `async def`."""
        try:
            while self._deliveries:
                callback, value = self._deliveries.popleft()
                try:
                    said = callback(value)
                    if hasattr(type(said), "__await__"):
                        await said
                except FAILURES as exc:
                    print_traceback(exc)
        finally:
            self._delivering = False


async def _as_it_is(value: Any) -> Any:
    return value


def _never_begun(awaited: Any) -> None:
    close = getattr(awaited, "close", None) or getattr(awaited, "cancel", None)
    if close is not None:
        close()
