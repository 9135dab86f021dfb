"""`Component`: a program of threads.

    reader thread ── quick (inline) operations answered at once, many answers in one write
         └── other operations ──> a few worker threads, made when they are needed
    any thread may ask; it waits on a queue of its own until the reader has its answer

The reader never waits for the harness to read: what cannot be written at once is left to a thread
that waits, because a harness that is not read from stops reading itself.  Other threads wait when
much is left to be written.  For the same reason an inline operation cannot wait for an answer;
asking in one is refused.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import sys
import threading
import time

from paas.sdk.python.core import (
    ANSWER_MARGIN_S,
    BATCH_MESSAGES,
    CONFIGURATION_WAIT_S,
    DRAIN_S,
    FAILURES,
    UNSENT_BYTES_MAX,
    Core,
    _trace,
    leave_with,
    open_channel,
    print_traceback,
    receive,
    result_of,
)
from paas.sdk.python.events import Watch
from paas.sdk.python.values import DEFAULT_TIMEOUT_S, Call, Result, are_large, uploading
from paas.sdk.python.wire import ComponentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from paas.sdk.python.values import Steps

WORKERS_MAX = 8
_CLOSED = "the channel is closed"


class Pending:
    """An answer on its way: `result()` waits for it, `cancel()` does without it."""

    def __init__(
        self, component: Component, identity: int, convert: Callable[[Any], Any], until_s: float
    ) -> None:
        self._component = component
        self._identity = identity
        self._convert = convert
        self._until_s = until_s
        self._box: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answer: Any = None

    def put(self, message: dict[str, Any]) -> None:
        self._box.put(message)

    def done(self) -> bool:
        return self._answer is not None or not self._box.empty()

    def cancel(self) -> None:
        """Nobody wants the answer any more; `result` raises `cancelled`."""
        self._component._give_up(self._identity)
        self.put({"error": ComponentError("cancelled").to_rpc()})

    def result(self) -> Any:
        """What was asked for; raises ComponentError."""
        if self._answer is None:
            left_s = max(self._until_s - time.monotonic(), 0.0)
            try:
                self._answer = self._box.get(timeout=left_s)
            except queue.Empty:
                if self._component._give_up(self._identity):
                    raise ComponentError("timeout", "no answer") from None
                self._answer = self._box.get()  # it has come this very moment
        return self._convert(result_of(self._answer))


class ThreadWatch(Watch):
    """`for event in component.watching(group="g")`: ends when the watch is closed."""

    def __init__(self, component: Component, method: str, what: dict[str, Any]) -> None:
        super().__init__(component, method, what)
        self._bell = threading.Condition()
        component._open_watch(method, what, self)

    def __enter__(self) -> ThreadWatch:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __iter__(self) -> ThreadWatch:
        return self

    def __next__(self) -> dict[str, Any]:
        event = self.next(None)
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        """The next event; None when none comes in time, or when the watch has ended."""
        with self._bell:
            self._bell.wait_for(lambda: self._events or self._dropped or self._ended, timeout)
            return self._next()

    def close(self) -> None:
        """End the watch; iteration over it ends."""
        if not self._ended:
            self._component._leave_watch(self.number)

    def _wake(self) -> None:
        with self._bell:
            self._bell.notify_all()


class Component(Core):
    """This program's connection to the platform, for programs of threads."""

    _coroutines = False

    def __init__(self, workers: int = WORKERS_MAX, codec: str = "json") -> None:
        self._workers_max = workers
        self._configured = threading.Event()
        self._stopping = threading.Event()
        self._connected = False
        self._socket: socket.socket | None = None
        self._connecting = threading.Lock()
        self._send_lock = threading.Lock()
        self._room = threading.Condition(self._send_lock)
        self._unsent: list[bytes] = []
        self._sending = False
        self._batch: list[bytes] = []
        self._reader = 0
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._workers = 0
        self._busy_lock = threading.Lock()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._event_thread: threading.Thread | None = None
        super().__init__(codec)

    def run(self) -> None:
        """Say `ready`, then answer calls until the component is to end."""
        self._install_signal()
        self.connect()
        self.request("component.ready")
        self._stopping.wait()
        self._drain()
        leave_with(self._exit_status)

    def stop(self, reason: str = "", status: int = 0) -> None:
        """Let `run` return; `status` other than 0 ends the program with it."""
        if not self._stopping.is_set():
            super().stop(reason, status)

    @property
    def configuration(self) -> dict[str, Any]:
        """What the component was created with; waits for it at first use."""
        if not self._configured.is_set():
            self.connect()
            self._configured.wait(CONFIGURATION_WAIT_S)
        return self._configuration

    # -- asking ------------------------------------------------------------------------------------

    def request(
        self, method: str, params: dict[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """Any method of the component API; its result.  Raises ComponentError."""
        mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        identity = self._send_request(mailbox, method, params, timeout)
        wait_s = (DEFAULT_TIMEOUT_S if timeout is None else timeout) + ANSWER_MARGIN_S
        try:
            answer = mailbox.get(timeout=wait_s)
        except queue.Empty:
            if self._give_up(identity):
                raise ComponentError("timeout", f"no answer to {method}") from None
            answer = mailbox.get()  # it has come this very moment
        return result_of(answer)

    def begin_call(
        self, target: str, operation: str, inputs: Any = None, **options: Any
    ) -> Pending:
        """Ask without waiting yet: many calls on their way from one thread.  As `call`."""
        timeout = options.pop("timeout", DEFAULT_TIMEOUT_S)
        if are_large(options.get("attachments")):
            steps = uploading(options["attachments"], self._binary)
            options["attachments"] = self._drive(steps)
        params = self._call_params(target, operation, inputs, **options)
        until_s = time.monotonic() + timeout + ANSWER_MARGIN_S
        pending = Pending(self, 0, self._outputs, until_s)
        pending._identity = self._send_request(pending, "hub.call", params, timeout)
        return pending

    def _send_request(
        self, waiter: Any, method: str, params: dict[str, Any] | None, timeout: float | None
    ) -> int:
        if threading.get_ident() == self._reader:
            raise ComponentError("invalid", f"{method}: an inline operation cannot wait for others")
        if not self._connected:
            self.connect()
        identity = next(self._numbers)
        data = self._request_bytes(identity, method, params, timeout)
        self._pending[identity] = waiter
        try:
            self._write(data)
        except ComponentError:
            self._pending.pop(identity, None)
            raise
        if self._lost_channel:
            self._lost()
        return identity

    _lost_channel = False

    def _ask(
        self,
        method: str,
        params: dict[str, Any],
        convert: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        answer = self.request(method, params, timeout)
        return answer if convert is None else convert(answer)

    def _tell(self, method: str, params: dict[str, Any]) -> None:
        self.request(method, params)

    def _tell_cast(self, params: dict[str, Any]) -> None:
        if threading.get_ident() == self._reader:
            raise ComponentError("invalid", "hub.cast: an inline operation cannot wait for others")
        if not self._connected:
            self.connect()
        data = self._unconfirmed(params)
        if data:
            self._write(data)
        else:
            self.request("hub.cast", params)

    def _drive(self, steps: Steps) -> Any:
        try:
            method, params = next(steps)
            while True:
                try:
                    answer = self.request(method, params, params.get("timeout"))
                except ComponentError as exc:
                    method, params = steps.throw(exc)
                else:
                    method, params = steps.send(answer)
        except StopIteration as end:
            return end.value

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        self.connect()
        self._write(self._notification(method, params))

    def _resolve(self, waiter: Any, message: dict[str, Any]) -> None:
        waiter.put(message)

    def _open_watch(self, method: str, params: dict[str, Any], target: Any) -> dict[str, Any]:
        with self._opens_watch():
            return self._watch_opened(self.request(method, params), target)

    def watching(self, **what: Any) -> ThreadWatch:
        """The same as `watch`, to iterate over: `with component.watching(group="g") as events`.

        `snapshot` and `index` are those of the beginning; iteration waits for the next event.
        """
        return ThreadWatch(self, "hub.watch", what)

    # -- connection --------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the channel; done by itself when it is needed."""
        if not self._connected:
            with self._connecting:
                self._connect_once()

    def _connect_once(self) -> None:
        if not self._connected:
            opened = open_channel()
            opened.sendall(self._codec.hello)  # the configuration comes back
            self._socket, self._connected = opened, True
            threading.Thread(target=self._read, args=(opened,), daemon=True).start()

    def _install_signal(self) -> None:
        def on_signal(_number: int, _frame: object) -> None:
            # Not set directly: the main thread may hold the event's lock while it is interrupted.
            threading.Thread(target=self._stopping.set).start()

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_signal)

    def _set_configured(self) -> None:
        self._configured.set()

    def _set_stopping(self) -> None:
        self._stopping.set()

    def _write(self, data: bytes) -> None:
        """Many threads may write; whoever is first writes for the others too."""
        if threading.get_ident() == self._reader:
            self._batch.append(data)
            if len(self._batch) >= BATCH_MESSAGES:
                self._write_batch()
            return
        with self._send_lock:
            while self._sending and self._unsent_bytes > UNSENT_BYTES_MAX:
                self._room.wait()
            self._unsent.append(data)
            self._unsent_bytes += len(data)
            if self._sending:
                return
            self._sending = True
        self._write_unsent()

    def _write_unsent(self) -> None:
        assert self._socket is not None
        sent = 0
        try:
            while data := self._take_unsent(sent):
                self._socket.sendall(data)
                sent = len(data)
        except OSError:
            with self._send_lock:
                self._unsent.clear()
                self._unsent_bytes = 0
                self._sending = False
                self._room.notify_all()
            if not sent:  # what was written for others fails for them, when the reader sees the end
                raise ComponentError("not-available", _CLOSED) from None

    def _take_unsent(self, sent: int) -> bytes:
        with self._send_lock:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._unsent_bytes -= sent
            self._sending = bool(data)
            self._room.notify_all()
            return data

    def _write_batch(self) -> None:
        """What the reader has to say, without waiting for it to be taken."""
        data = b"".join(self._batch)
        self._batch.clear()
        with self._send_lock:
            self._unsent_bytes += len(data)
            if self._sending:
                self._unsent.append(data)
                return
            self._sending = True
        assert self._socket is not None
        try:
            sent = self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)  # closed: the reader sees it too
        with self._send_lock:
            self._unsent_bytes -= sent
            if sent < len(data):
                self._unsent.insert(0, data[sent:])
            self._sending = bool(self._unsent)
            if not self._sending:
                return
        try:
            threading.Thread(target=self._write_rest, daemon=True).start()
        except RuntimeError:  # the limit of processes; better late than never
            self._write_rest()

    def _write_rest(self) -> None:
        with contextlib.suppress(ComponentError):  # the reader sees the end of the channel
            self._write_unsent()

    def _read(self, channel: socket.socket) -> None:
        """The reader thread: messages in, answers to who waits, operations started."""
        self._reader = threading.get_ident()
        codec, take = self._codec, self._take
        try:
            while data := receive(channel):
                for message, size in zip(codec.feed(data), codec.sizes):  # noqa: B905  (3.10)
                    try:
                        take(message, size)
                    except FAILURES as exc:
                        print_traceback(exc)
                if self._batch:
                    self._write_batch()
        except Exception as exc:  # what is not the protocol
            print_traceback(exc)
        finally:
            self._lost_channel = True
            self._lost()

    # -- operations --------------------------------------------------------------------------------

    def _start(self, identity: Any, call: Call, found: Any) -> None:
        function, inline = found
        if not inline:
            if identity is not None:
                self._calls[identity] = call
            self._hand_over((identity, call, function))
            return
        if call.trace:
            _trace.set(call.trace)
        try:
            value = function(call.inputs, call)
            if type(value) is Result and are_large(value.attachments):
                # A worker may wait until they are uploaded.
                self._hand_over((identity, call, lambda _inputs, _call: value))
                return
            data = self._answer(identity, value)
        except FAILURES as exc:
            data = self._failure(identity, exc)
        finally:
            if call.trace:
                _trace.set(None)
        if data:
            self._write(data)

    def _work_on_terminate(self, message: dict[str, Any]) -> None:
        try:  # not behind what waits for a worker
            threading.Thread(target=self._terminate, args=(message,), daemon=True).start()
        except RuntimeError:  # the limit of processes
            self._hand_over((None, Call({}), lambda _inputs, _call: self._terminate(message)))

    def _hand_over(self, item: Any) -> None:
        self._work.put(item)
        with self._busy_lock:
            self._running += 1
            self._running_bytes += item[1].size
            more = self._running > self._workers and self._workers < self._workers_max
            if more:
                self._workers += 1
        if more:
            try:
                threading.Thread(target=self._worker, daemon=True).start()
            except RuntimeError:  # the limit of processes; who works already goes on
                with self._busy_lock:
                    self._workers -= 1
                    if not self._workers:
                        raise

    def _worker(self) -> None:
        while True:
            identity, call, function = self._work.get()
            try:
                self._invoke(identity, call, function)
            except FAILURES as exc:
                print_traceback(exc)
            finally:
                self._calls.pop(identity, None)
                _trace.set(None)
                with self._busy_lock:
                    self._running -= 1
                    self._running_bytes -= call.size

    def _invoke(self, identity: Any, call: Call, function: Any) -> None:
        if call.deadline is not None and call.remaining() < 0:
            return
        _trace.set(call.trace)
        try:
            if call.was_cancelled():
                raise ComponentError("cancelled")
            value = function(call.inputs, call)
            steps = self._outgoing(value)
            data = self._answer(identity, value if steps is None else self._drive(steps))
        except FAILURES as exc:
            data = self._failure(identity, exc)
        if data:
            with contextlib.suppress(ComponentError):  # nobody is there to hear it
                self._write(data)

    def _terminate(self, message: dict[str, Any]) -> None:
        params = message.get("params") or {}
        said, refusal = None, None
        try:
            if self._on_terminate is not None:
                said = self._on_terminate(params.get("reason", ""), params.get("inputs"))
        except ComponentError as exc:
            refusal = exc
        except FAILURES as exc:
            print_traceback(exc)
        try:
            accepted = self._terminated(message, said, refusal)
        except ComponentError:  # the harness is gone
            accepted = True
        if accepted:
            self._stopping.set()

    def _drain(self) -> None:
        """Let the operations that run finish and their answers be written, for a while."""
        end_s = time.monotonic() + DRAIN_S
        while (self._running > 0 or self._sending) and time.monotonic() < end_s:
            time.sleep(0.01)
        with contextlib.suppress(Exception):  # closed, or a pipe that nobody reads
            sys.stdout.flush()

    # -- events ------------------------------------------------------------------------------------

    def _deliver(self, callback: Callable[[Any], Any], value: Any) -> None:
        self._events.put((callback, value))
        if self._event_thread is None:
            thread = threading.Thread(target=self._event_loop, daemon=True)
            thread.start()
            self._event_thread = thread

    def _event_loop(self) -> None:
        while True:
            callback, value = self._events.get()
            try:
                callback(value)
            except FAILURES as exc:
                print_traceback(exc)
