"""What the two front ends with `await` share, whichever library runs the tasks.

A front end of this kind has `_waiter(wait_s)` (something to await, and until when), `_resolve`,
`_open`, `_spawn(function, *arguments)`, and `_write`.  Operations that are `async def` run as
tasks, which are cancelled when nobody wants the answer any more; plain ones run at once where
messages are read, so they must be quick and wait for nothing.
"""

from __future__ import annotations

import sys
import time

from paas.sdk.python.core import (
    ANSWER_MARGIN_S,
    Core,
    Watch,
    _trace,
    print_traceback,
    result_of,
)
from paas.sdk.python.values import DEFAULT_TIMEOUT_S
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
        if not self._ended:
            await self._component.unwatch(self.number)

    async def _wait(self) -> None:
        """Until there is an event, or the end."""


class Awaiting(Core):
    """The shared part of `AsyncComponent` and `TrioComponent`."""

    _open: Callable[[], None]
    _waiter: Callable[[], Any]
    _spawn: Callable[..., None]
    _flush: Callable[[], None]

    def __init__(self, codec: str = "json") -> None:
        self._opened = False
        self._out: list[bytes] = []
        self._reading = False
        self._deliveries: list[Any] = []
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
            self._give_up(identity)
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
        self._spawn(self._told, method, params)

    async def _told(self, method: str, params: dict[str, Any]) -> None:
        try:
            await self.request(method, params)
        except ComponentError as exc:
            print(f"{method}: {exc.code}: {exc.message}", file=sys.stderr)  # noqa: T201

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        if not self._opened:
            self._open()
        self._write(self._notification(method, params))

    async def _open_watch(self, method: str, params: dict[str, Any], target: Any) -> dict[str, Any]:
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
        try:
            messages = self._codec.feed(data) if data else None
        except ValueError as exc:
            print_traceback(exc)
            messages = None
        if messages is None:
            self._closed = True
            self._lost()
            return False
        self._reading = True
        for message in messages:
            try:
                self._take(message)
            except Exception as exc:
                print_traceback(exc)
        self._reading = False
        if self._out:
            self._flush()
        return True

    # -- operations --------------------------------------------------------------------------------

    def _start(self, identity: Any, call: Call, found: Any) -> None:
        function, waits = found
        if waits:
            if identity is not None:
                self._calls[identity] = call
            self._running += 1
            self._begin(identity, call, function(call.inputs, call))
            return
        token = _trace.set(call.trace) if call.trace else None
        try:
            value = function(call.inputs, call)
            if hasattr(type(value), "__await__"):
                self._running += 1
                self._begin(identity, call, value)
                return
            data = self._answer(identity, value)
        except Exception as exc:
            data = self._failure(identity, exc)
        finally:
            if token is not None:
                _trace.reset(token)
        if data:
            self._write(data)

    def _begin(self, identity: Any, call: Call, awaited: Any) -> None:
        """Start a task that works on a call."""
        self._spawn(self._work_on, identity, call, awaited)

    async def _work_on(self, identity: Any, call: Call, awaited: Any) -> None:
        """A task: what is awaited gives the outputs."""
        _trace.set(call.trace)
        data = self._failure_of_cancelled(identity)
        try:
            value = await awaited
            steps = self._outgoing(value)
            data = self._answer(identity, value if steps is None else await self._drive(steps))
        except Exception as exc:
            data = self._failure(identity, exc)
        finally:
            self._calls.pop(identity, None)
            self._running -= 1
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
        except Exception as exc:
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
                callback, value = self._deliveries.pop(0)
                try:
                    said = callback(value)
                    if hasattr(type(said), "__await__"):
                        await said
                except Exception as exc:
                    print_traceback(exc)
        finally:
            self._delivering = False
