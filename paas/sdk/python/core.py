"""What a component is asked, without I/O: the part that all front ends share.

Whole messages go in at `_take`.  Answers wake who waits; invocations become `Call`s and are handed
to the front end's `_start` with their operation; events go to their watch in order, also those that
overtake the answer which tells the watch's number; cancellations mark the call.  What must go out
is bytes for the front end's `_write`.

A front end decides three things: how one waits (`_ask`), where operations run (`_start`), and when
bytes are written.  Only `_pending_lock`'s holder touches watches; everything else here is touched
by whoever reads the channel.
"""

# ruff: noqa: A002  (`object` is the word of the component API)

from __future__ import annotations

import contextlib
import contextvars
import itertools
import os
import socket
import sys
import threading
from collections import deque

from paas.sdk.python.api import Api
from paas.sdk.python.values import Call, Result, are_large, attachments_out, marked, uploading
from paas.sdk.python.wire import (
    MESSAGE_BYTES_MAX,
    NO_SUCH_METHOD,
    ComponentError,
    codec_named,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Operation = Callable[[Any, Call], Any]

ANSWER_MARGIN_S = 2.0
CONFIGURATION_WAIT_S = 10.0
READ_BYTES = 262_144
DRAIN_S = 5.0
EARLY_EVENTS_MAX = 1_000
WATCH_EVENTS_MAX = 10_000

_trace: contextvars.ContextVar[Any] = contextvars.ContextVar("paas_trace", default=None)
_COROUTINE = 0x80  # of a function's code: inspect.CO_COROUTINE


class Watch:
    """Events of one watch, to be iterated over; a front end says how one waits for the next.

    Who does not keep up loses events, and then gets one event `gap` that says how many.
    """

    def __init__(self, component: Any, method: str, what: dict[str, Any]) -> None:
        self._component = component
        self._method = method
        self._what = what
        self._events: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._ended = False
        self.number = 0
        self.index = 0
        self.snapshot: Any = None
        self.answer: dict[str, Any] = {}

    def _opened(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.number = answer["watch"]
        self.index = answer.get("index", 0)
        self.snapshot = answer.get("snapshot")

    def put(self, event: dict[str, Any]) -> None:
        if len(self._events) >= WATCH_EVENTS_MAX:
            self._dropped += 1
        else:
            self._events.append(event)
        self._wake()

    def _next(self) -> dict[str, Any] | None:
        """The next event that is here."""
        if self._events:
            event = self._events.popleft()
            self.index = event.get("index") or self.index
            return event
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return {"watch": self.number, "event": "gap", "index": 0, "dropped": dropped}
        return None

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        """Somebody may wait for an event."""


class Core(Api):
    """The shared part of `Component`, `AsyncComponent` and `TrioComponent`."""

    _coroutines = True
    """May operations be `async def`?"""

    _write: Callable[[bytes], None]
    _start: Callable[[Any, Call, Any], None]
    _resolve: Callable[[Any, dict[str, Any]], None]
    _deliver: Callable[[Any, Any], None]
    _work_on_terminate: Callable[[dict[str, Any]], None]
    _set_configured: Callable[[], None]
    _set_stopping: Callable[[], None]

    def __init__(self, codec: str = "json") -> None:
        self.id = os.environ.get("PAAS_COMPONENT_ID", "")
        self._codec = codec_named(codec)
        self._binary = self._codec.binary
        self._operations: dict[tuple[str, str], tuple[Any, bool]] = {}
        self._on_terminate: Callable[[str, Any], Any] | None = None
        self._on_configure: Callable[[dict[str, Any]], Any] | None = None
        self._configuration: dict[str, Any] = {}
        self._is_configured = False
        self._exit_status = 0
        self._numbers = itertools.count(1)
        self._pending: dict[Any, Any] = {}
        self._pending_lock = threading.Lock()
        self._calls: dict[Any, Call] = {}
        self._watches: dict[int, Any] = {}
        self._early_events: dict[int, list[dict[str, Any]]] = {}
        self._closed_watches: deque[int] = deque(maxlen=1_000)
        for name, thing, inline, method in marked(self):
            self._register(name, thing, inline, method)

    # -- what the program says about itself --------------------------------------------------------

    def operation(
        self, name: str, object: str = "", inline: bool = False
    ) -> Callable[[Operation], Operation]:
        """Decorator: the function answers calls of this operation, `function(inputs, call)`.

        `inline`: it is quick and waits for nothing, so it runs at once where the channel is read,
        without a thread; many more of those can be answered in a second.
        """

        def register(function: Operation) -> Operation:
            self._register(name, object, inline, function)
            return function

        return register

    def object(self, name: str) -> Callable[[Any], Any]:
        """Decorator: methods of this class (or of this object) marked with `operation` answer calls
        of the object `name`."""

        def register(thing: Any) -> Any:
            instance = thing() if isinstance(thing, type) else thing
            for word, _, inline, method in marked(instance):
                self._register(word, name, inline, method)
            return thing

        return register

    def _register(self, name: str, object: str, inline: bool, function: Any) -> None:
        if not callable(function):
            raise TypeError(f"operation {name!r}: expected a function")
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        waits = code is not None and bool(code.co_flags & _COROUTINE)
        if waits and not self._coroutines:
            raise TypeError(f"operation {name!r} is async: use AsyncComponent or TrioComponent")
        self._operations[object, name] = (function, waits if self._coroutines else inline)

    def on_terminate(self, function: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
        """Decorator: asked `function(reason, inputs)` before the end.

        Return False or raise ComponentError("refused", why) to stay.
        """
        self._on_terminate = function
        return function

    def on_configure(self, function: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
        """Decorator: told `function(configuration)` whenever the configuration changes."""
        self._on_configure = function
        return function

    def stop(self, reason: str = "", status: int = 0) -> None:
        """Let `run` return; `status` other than 0 ends the program with it."""
        self._exit_status = status
        with contextlib.suppress(ComponentError):  # the harness is gone already
            self._notify("component.exit", {"reason": reason})
        self._set_stopping()

    # -- out ---------------------------------------------------------------------------------------

    def _bytes(self, message: dict[str, Any]) -> bytes:
        data = self._codec.encode(message)
        if len(data) > MESSAGE_BYTES_MAX:
            raise ComponentError("limit-exceeded", "a message has 4 MiB at most")
        return data

    def _request_bytes(
        self, identity: int, method: str, params: dict[str, Any] | None, timeout: float | None
    ) -> bytes:
        given = dict(params) if params else {}
        trace = _trace.get()  # what an operation asks belongs to its call
        if trace:
            given.setdefault("trace", trace)
        if timeout is not None:
            given["timeout"] = timeout
        return self._bytes({"jsonrpc": "2.0", "id": identity, "method": method, "params": given})

    def _notification(self, method: str, params: dict[str, Any]) -> bytes:
        return self._bytes({"jsonrpc": "2.0", "method": method, "params": params})

    def _give_up(self, identity: int) -> None:
        """Nobody waits for this answer any more: say so, to spare others the work."""
        if self._pending.pop(identity, None) is not None:
            with contextlib.suppress(ComponentError):  # closed: everything is cancelled
                self._write(self._notification("rpc.cancel", {"id": identity}))

    def _answer(self, identity: Any, outputs: Any) -> bytes:
        """The bytes of what an operation has returned; also when it cannot be said."""
        if identity is None:
            return b""
        try:
            if type(outputs) is Result:
                sent = attachments_out(outputs.attachments, self._binary)
                result = {"outputs": outputs.outputs, "attachments": sent}
                return self._bytes({"jsonrpc": "2.0", "id": identity, "result": result})
            data = self._codec.answer(identity, {} if outputs is None else outputs)
            if len(data) > MESSAGE_BYTES_MAX:
                raise ComponentError("limit-exceeded", "a message has 4 MiB at most")
            return data
        except Exception as exc:
            return self._failure(identity, exc)

    def _failure(self, identity: Any, exc: BaseException) -> bytes:
        """The bytes of the error that an operation has ended with."""
        if isinstance(exc, ComponentError):
            error = exc
        else:
            print_traceback(exc)
            text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
            error = ComponentError("failed", text)
        if identity is None:
            return b""
        try:
            return self._bytes({"jsonrpc": "2.0", "id": identity, "error": error.to_rpc()})
        except Exception as worse:  # its data cannot be said
            plain = ComponentError(error.code, f"{error.message[:1_000]} ({worse})")
            return self._bytes({"jsonrpc": "2.0", "id": identity, "error": plain.to_rpc()})

    def _outgoing(self, value: Any) -> Any:
        """Steps that make a result ready to be sent; None when it is."""
        if type(value) is Result and are_large(value.attachments):
            return self._uploading(value)
        return None

    def _uploading(self, value: Result) -> Any:
        attachments = yield from uploading(value.attachments, self._binary)
        return Result(value.outputs, attachments)

    # -- in ----------------------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method == "component.invoke":
            params = message["params"]
            call = Call(params, self)
            identity = message.get("id")
            found = self._operations.get((call.object, call.operation))
            if found is None:
                self._write(self._failure(identity, self._unknown(call)))
            elif call.deadline is None or call.remaining() >= 0:
                self._start(identity, call, found)
        elif method is None:
            waiter = self._pending.pop(message.get("id"), None)
            if waiter is not None:
                self._resolve(waiter, message)
        elif method == "component.event":
            self._event(message["params"])
        elif method == "component.cancel":
            self._cancelled(message["params"].get("id"))
        elif method == "component.configure":
            self._configure(message)
        elif method == "component.terminate":
            self._work_on_terminate(message)
        elif "id" in message:
            error = {"code": NO_SUCH_METHOD, "message": f"no method is called {method}"}
            self._write(self._bytes({"jsonrpc": "2.0", "id": message["id"], "error": error}))

    def _unknown(self, call: Call) -> ComponentError:
        known = ", ".join(sorted({name for _, name in self._operations}))
        text = f"no operation {call.operation!r}; there are: {known}"
        return ComponentError("no-such-operation", text)

    def _cancelled(self, identity: Any) -> None:
        call = self._calls.get(identity)
        if call is not None:
            call.cancelled.set()
            self._cancel_task(call)

    def _cancel_task(self, call: Call) -> None:
        """A front end that can end what works on a call does so."""

    def _configure(self, message: dict[str, Any]) -> None:
        self._configuration = message["params"].get("configuration") or {}
        changed, self._is_configured = self._is_configured, True
        self._set_configured()
        if "id" in message:
            self._write(self._bytes({"jsonrpc": "2.0", "id": message["id"], "result": {}}))
        if changed and self._on_configure is not None:
            self._deliver(self._on_configure, self._configuration)

    def _terminated(self, message: dict[str, Any], said: Any, exc: ComponentError | None) -> bool:
        """Answer `component.terminate` with what the program said to it; is it the end?"""
        accepted = exc is None and said is not False
        result = {"accepted": accepted, "reason": exc.message if exc else ""}
        if "id" in message:
            self._write(self._bytes({"jsonrpc": "2.0", "id": message["id"], "result": result}))
        return accepted

    def _lost(self) -> None:
        """The harness is gone, and with it the reason to live."""
        gone = {"error": ComponentError("unknown-outcome", "the channel was closed").to_rpc()}
        while self._pending:
            try:
                _, waiter = self._pending.popitem()
            except KeyError:
                break
            self._resolve(waiter, gone)
        for watch in list(self._watches.values()):
            if isinstance(watch, Watch):
                watch.end()
        self._set_stopping()

    # -- events ------------------------------------------------------------------------------------

    def _event(self, event: dict[str, Any]) -> None:
        number = event["watch"]
        with self._pending_lock:
            target = self._watches.get(number)
            if target is not None:
                self._hand_event(target, event)
            elif number not in self._closed_watches:
                early = self._early_events.setdefault(number, [])
                if len(early) < EARLY_EVENTS_MAX:
                    early.append(event)

    def _hand_event(self, target: Any, event: dict[str, Any]) -> None:
        if isinstance(target, Watch):
            target.put(event)
        else:
            self._deliver(target, event)

    def _watch_opened(self, answer: dict[str, Any], target: Any) -> dict[str, Any]:
        """The hub has answered: what came meanwhile first, then whatever comes."""
        number = answer["watch"]
        with self._pending_lock:
            if isinstance(target, Watch):
                target._opened(answer)
            self._watches[number] = target
            for event in self._early_events.pop(number, []):
                self._hand_event(target, event)
        return answer

    def _close_watch(self, watch: int) -> None:
        with self._pending_lock:
            self._closed_watches.append(watch)
            self._early_events.pop(watch, None)
            target = self._watches.pop(watch, None)
        if isinstance(target, Watch):
            target.end()


def print_traceback(exc: BaseException) -> None:
    """To standard error, where the platform takes it into the component's log."""
    import traceback  # only now: most programs never need it

    traceback.print_exception(type(exc), exc, exc.__traceback__)


def result_of(answer: dict[str, Any]) -> Any:
    """The result in an answer; raises the error in it."""
    if "error" in answer:
        raise ComponentError.from_rpc(answer["error"])
    return answer["result"]


def open_channel() -> socket.socket:
    """The socket of the component, as its environment says."""
    path = os.environ.get("PAAS_SOCKET")
    if path:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.connect(path)
        return channel
    number = os.environ.get("PAAS_FD")
    if number:
        return socket.socket(fileno=int(number))
    raise ComponentError(
        "not-available", "neither PAAS_SOCKET nor PAAS_FD is set: this runs as a component only"
    )


def receive(channel: socket.socket) -> bytes:
    try:
        return channel.recv(READ_BYTES)
    except OSError:
        return b""


def leave_with(status: int) -> None:
    """End the program with a status that its `stop` was given."""
    if status:
        sys.exit(status)
