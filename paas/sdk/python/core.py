"""What a component is asked, without I/O: the part that all front ends share.

Whole messages go in at `_take`.  Answers wake who waits; invocations become `Call`s and are handed
to the front end's `_start` with their operation; events go to their watch in order, also those that
overtake the answer which tells the watch's number; cancellations mark the call.  What must go out
is bytes for the front end's `_write`.

Bounded: operations that wait or run, with what was not written yet, have `WAITING_BYTES_MAX` bytes
at most, and `WAITING_OPERATIONS_MAX` there are; what comes beyond is refused.  The reader cannot
just stop reading instead, as what would make room may be an answer.

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

from paas.sdk.python.api import Api
from paas.sdk.python.events import Backlog, Told
from paas.sdk.python.values import Call, Result, are_large, attachments_out, marked, uploading
from paas.sdk.python.wire import (
    MESSAGE_BYTES_MAX,
    NO_SUCH_METHOD,
    ComponentError,
    codec_named,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Operation = Callable[[Any, Call], Any]

ANSWER_MARGIN_S = 2.0
CONFIGURATION_WAIT_S = 10.0
READ_BYTES = 262_144
DRAIN_S = 5.0
WAITING_OPERATIONS_MAX = 10_000
WAITING_BYTES_MAX = 32 << 20
"""Bytes, as they came, of invocations that are not answered, with those of unwritten messages."""

UNSENT_BYTES_MAX = 8 << 20
"""Above this, whoever wants to say something waits until the harness has taken what there is."""

FAILURES = (Exception, SystemExit)
"""What ends an operation or a callback with an error; `stop` ends the program."""
BATCH_MESSAGES = 32
"""Messages that are written together; the harness begins with them while we make the next."""

TOLD_MAX = 256
TOLD_BYTES_MAX = 262_144
"""Casts of `tell`, and their bytes, until one of them is confirmed."""


_trace: contextvars.ContextVar[Any] = contextvars.ContextVar("paas_trace", default=None)
_OPENING = frozenset({"hub.watch", "controller.monitor", "log.follow"})
_OPENINGS_MAX = 1_000
_COROUTINE = 0x80  # of a function's code: inspect.CO_COROUTINE


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
        self._pending_lock = threading.RLock()  # a callback may run at once, and unwatch
        self._calls: dict[Any, Call] = {}
        self._running = 0
        self._running_bytes = 0
        self._unsent_bytes = 0
        self._dropped: dict[str, int] = {}
        self._watches: dict[int, Backlog] = {}
        self._opening = 0
        self._openings: dict[Any, None] = {}
        self._early: dict[int, Backlog] = {}
        self._is_lost = False
        self._told = self._told_bytes = 0
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
        if method in _OPENING:
            self._openings[identity] = None
            if len(self._openings) > _OPENINGS_MAX:  # given up, and never answered
                self._openings.pop(next(iter(self._openings)), None)
        trace = _trace.get()  # what an operation asks belongs to its call
        if trace:
            given.setdefault("trace", trace)
        if timeout is not None:
            given["timeout"] = timeout
        return self._bytes({"jsonrpc": "2.0", "id": identity, "method": method, "params": given})

    def _notification(self, method: str, params: dict[str, Any]) -> bytes:
        return self._bytes({"jsonrpc": "2.0", "method": method, "params": params})

    def _unconfirmed(self, params: dict[str, Any]) -> bytes:
        """The bytes of a cast that nobody confirms; empty when it is time to wait for the hub."""
        if self._told >= TOLD_MAX or self._told_bytes >= TOLD_BYTES_MAX:
            self._told = self._told_bytes = 0
            return b""
        trace = _trace.get()
        if trace:
            params["trace"] = trace
        data = self._notification("hub.cast", params)
        self._told += 1
        self._told_bytes += len(data)
        return data

    def _give_up(self, identity: int) -> bool:
        """Nobody waits for this answer any more: say so, to spare others the work.

        False if the answer has come already.
        """
        if self._pending.pop(identity, None) is None:
            return False
        with contextlib.suppress(ComponentError):  # closed: everything is cancelled
            self._write(self._notification("rpc.cancel", {"id": identity}))
        return True

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
            error = ComponentError("failed", described(exc))
        if identity is None:
            return b""
        try:
            return self._bytes({"jsonrpc": "2.0", "id": identity, "error": error.to_rpc()})
        except Exception as worse:  # its data cannot be said
            said = f"{error.message[:1_000]} ({worse})".encode(errors="replace").decode()
            plain = ComponentError(str(error.code), said)
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

    def _take(self, message: dict[str, Any], size: int = 0) -> None:
        """A message of the harness, and how many bytes it had."""
        method = message.get("method")
        if method == "component.invoke":
            self._invoked(message, size)
        elif method is None:
            identity = message.get("id")
            waiter = self._pending.pop(identity, None)
            opening = bool(self._openings) and self._openings.pop(identity, 0) is None
            if waiter is not None:
                self._resolve(waiter, message)
            elif opening:
                self._leave_unwanted(message)
            elif identity is None:  # it could not tell whose message that was
                print_line(f"the harness could not read a message: {message.get('error')}")
        elif method == "component.event":
            self._event(message["params"], size)
        elif method == "component.cancel":
            self._cancelled(message["params"].get("id"))
        elif method == "component.configure":
            self._configure(message)
        elif method == "component.terminate":
            self._work_on_terminate(message)
        elif "id" in message:
            error = {"code": NO_SUCH_METHOD, "message": f"no method is called {method}"}
            self._write(self._bytes({"jsonrpc": "2.0", "id": message["id"], "error": error}))

    def _invoked(self, message: dict[str, Any], size: int) -> None:
        call = Call(message["params"], self)
        identity = message.get("id")
        found = self._operations.get((call.object, call.operation))
        if found is None:
            self._refuse(identity, self._unknown(call))
        elif call.deadline is not None and call.remaining() < 0:
            return
        elif (
            self._running >= WAITING_OPERATIONS_MAX
            or self._running_bytes + self._unsent_bytes + size > WAITING_BYTES_MAX
        ):
            text = f"{self._running} operations wait or run in this component already"
            self._refuse(identity, ComponentError("limit-exceeded", text))
        else:
            call.size = size
            self._start(identity, call, found)

    def _refuse(self, identity: Any, error: ComponentError) -> None:
        if identity is None:
            self._count_dropped(f"cast: {error.code}")
        else:
            self._write(self._failure(identity, error))

    def _count_dropped(self, what: str) -> None:
        """Nobody can be answered: say so in the log, each time that the number has doubled."""
        number = self._dropped[what] = self._dropped.get(what, 0) + 1
        if number & (number - 1) == 0:
            print_line(f"dropped {number} times: {what}")

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
        with self._pending_lock:
            self._is_lost = True
            watches = list(self._watches.values())
        for watch in watches:
            watch.end()
        for identity in list(self._calls):
            self._cancelled(identity)
        self._set_stopping()

    # -- events ------------------------------------------------------------------------------------

    def _event(self, event: dict[str, Any], size: int) -> None:
        number = event["watch"]
        with self._pending_lock:
            target = self._watches.get(number)
            if target is None and self._opening:  # perhaps its number is not known yet
                target = self._early.setdefault(number, Backlog(number))
            if target is not None:
                target.put(event, size)

    @contextlib.contextmanager
    def _opens_watch(self) -> Iterator[None]:
        """Meanwhile, events of watches that are not known are kept."""
        with self._pending_lock:
            self._opening += 1
        try:
            yield
        finally:
            with self._pending_lock:
                self._opening -= 1
                if not self._opening:
                    self._early.clear()

    def _watch_opened(self, answer: dict[str, Any], target: Any) -> dict[str, Any]:
        """The hub has answered: what came meanwhile first, then whatever comes."""
        if not isinstance(target, Backlog):
            target = Told(target, self._deliver)
        target.opened(answer)
        with self._pending_lock:
            self._watches[target.number] = target
            early = self._early.pop(target.number, None)
            if early is not None:
                target.adopt(early)
            if self._is_lost:
                target.end()
        return answer

    def _close_watch(self, watch: int) -> None:
        with self._pending_lock:
            target = self._watches.pop(watch, None)
        if target is not None:
            target.forget()

    def _leave_unwanted(self, answer: dict[str, Any]) -> None:
        """Perhaps a watch was opened for somebody who did not wait for it."""
        watch = (answer.get("result") or {}).get("watch")
        if watch is not None:
            self._leave_watch(watch)

    def _leave_watch(self, watch: int) -> None:
        """End a watch without waiting for the answer, which tells nothing."""
        self._close_watch(watch)
        with contextlib.suppress(ComponentError):  # it has ended with the channel
            data = self._request_bytes(next(self._numbers), "hub.unwatch", {"watch": watch}, None)
            self._write(data)


def described(exc: BaseException) -> str:
    """An exception in one line; whatever its class does."""
    try:
        text = str(exc)
    except Exception:
        text = ""
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def print_line(text: str) -> None:
    """To standard error, where the platform takes it into the component's log."""
    with contextlib.suppress(Exception):  # closed, or a pipe that nobody reads
        print(f"paas_component: {text}", file=sys.stderr, flush=True)  # noqa: T201


def print_traceback(exc: BaseException) -> None:
    """To standard error, where the platform takes it into the component's log."""
    import traceback  # only now: most programs never need it

    with contextlib.suppress(Exception):  # closed, or a pipe that nobody reads
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
