"""Write a component of the platform in Python: one file, standard library only, from 3.9 on.

    from paas_component import Component

    component = Component()

    @component.operation("greet")
    def greet(inputs, call):
        return {"text": f"Hello, {inputs['name']}!"}

    component.run()

What an operation returns (any JSON value) becomes the outputs of the call; return
`Result(outputs, attachments)` to add binary payload.  An exception becomes the error `failed` with
its message; its traceback goes to standard error, where `paas logs` finds it.  Raise
`ComponentError(code, message)` to answer with another code.

Operations run in a small pool of threads: protect what they share.  In them and outside of them,
`component.call("group:store", "get", {})` asks another component.  Events of watches come in order.
The wire: JSON-RPC 2.0, one object a line, on the socket `PAAS_SOCKET` or the descriptor `PAAS_FD`.
"""

# ruff: noqa: A002  (`object` is the word of the component API)

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["Call", "Component", "ComponentError", "Result"]

DEFAULT_TIMEOUT_S = 30.0
WORKERS_MAX = 8
ANSWER_MARGIN_S = 2.0
CONFIGURATION_WAIT_S = 10.0
READ_BYTES = 65_536
MESSAGE_BYTES_MAX = 4 << 20
DRAIN_S = 5.0

OURS = -32000
NO_SUCH_METHOD = -32601


class ComponentError(Exception):
    """An error with a code of the platform: answered by others, or to be answered to a caller.

    Codes are those of the component API, such as `invalid`, `refused`, `timeout`, `failed`.
    """

    def __init__(self, code: str, message: str = "", **data: Any) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message or code
        self.data = data

    def to_rpc(self) -> dict[str, Any]:
        return {"code": OURS, "message": self.message, "data": {**self.data, "code": self.code}}

    @classmethod
    def from_rpc(cls, error: dict[str, Any]) -> ComponentError:
        data = error.get("data")
        data = {str(k): v for k, v in data.items()} if isinstance(data, dict) else {}
        code = str(data.pop("code", "failed"))
        made = cls(code, str(error.get("message", "")))
        made.data = data
        return made


class Result:
    """Outputs with attachments: dictionaries with `name`, `type` and `data` (bytes)."""

    def __init__(self, outputs: Any = None, attachments: list[dict[str, Any]] | None = None):
        self.outputs = {} if outputs is None else outputs
        self.attachments = attachments or []


class Call:
    """What an operation can know about the call it answers."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.operation: str = params.get("operation", "")
        self.object: str = params.get("object", "")
        self.inputs: Any = params.get("inputs", {})
        self.sender: str = params.get("from", "")
        self.deadline: float | None = params.get("deadline")
        self.trace: str | None = params.get("trace")
        self.oneway: bool = bool(params.get("oneway", False))
        given = params.get("attachments")
        self.attachments: list[dict[str, Any]] = _attachments_in(given) if given else []

    def remaining(self) -> float:
        """Seconds until nobody waits for the answer any more."""
        if self.deadline is None:
            return DEFAULT_TIMEOUT_S
        return self.deadline - time.time()


Operation = Callable[[Any, Call], Any]


class Component:
    """This program's connection to the platform."""

    def __init__(self, workers: int = WORKERS_MAX) -> None:
        self.id = os.environ.get("PAAS_COMPONENT_ID", "")
        self._workers_max = workers
        self._operations: dict[Any, Operation] = {}
        self._on_terminate: Callable[[str, Any], Any] | None = None
        self._on_configure: Callable[[dict[str, Any]], Any] | None = None
        self._on_event: dict[int, Callable[[dict[str, Any]], Any]] = {}
        self._early_events: dict[int, list[dict[str, Any]]] = {}
        self._configuration: dict[str, Any] = {}
        self._configured = threading.Event()
        self._stopping = threading.Event()
        self._exit_status = 0
        self._connected = False
        self._socket: socket.socket | None = None
        self._connecting = threading.Lock()
        self._send_lock = threading.Lock()
        self._unsent: list[bytes] = []
        self._sending = False
        self._pending: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._pending_lock = threading.Lock()
        self._last_id = 0
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._workers = 0
        self._busy = 0
        self._busy_lock = threading.Lock()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._event_thread: threading.Thread | None = None

    # -- what the program says about itself --------------------------------------------------------

    def operation(self, name: str, object: str = "") -> Callable[[Operation], Operation]:
        """Decorator: the function answers calls of this operation, `function(inputs, call)`."""

        def register(function: Operation) -> Operation:
            self._operations[object, name] = function
            return function

        return register

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

    def run(self) -> None:
        """Say `ready`, then answer calls until the component is to end."""
        self._install_signal()
        self.connect()
        self.request("component.ready")
        self._stopping.wait()
        self._drain()
        if self._exit_status:
            sys.exit(self._exit_status)

    def stop(self, reason: str = "", status: int = 0) -> None:
        """Let `run` return; `status` other than 0 ends the program with it."""
        if not self._stopping.is_set():
            self._exit_status = status
            with contextlib.suppress(ComponentError):
                self._notify("component.exit", {"reason": reason})
            self._stopping.set()

    def unavailable(self, reason: str = "") -> None:
        """Take no calls for now."""
        self.request("component.unavailable", {"reason": reason})

    def available(self) -> None:
        """Take calls again."""
        self.request("component.available")

    @property
    def configuration(self) -> dict[str, Any]:
        """What the component was created with; waits for it at first use."""
        if not self._configured.is_set():
            self.connect()
            self._configured.wait(CONFIGURATION_WAIT_S)
        return self._configuration

    # -- what it asks of others --------------------------------------------------------------------

    def call(self, target: str, operation: str, inputs: Any = None, **options: Any) -> Any:
        """Ask a component (id, name or `group:<name>`); its outputs.  Raises ComponentError.

        Options are those of `call_whole`.  With `selector="all"`, the list of all replies.
        """
        answer = self.call_whole(target, operation, inputs, **options)
        return answer["replies"] if "replies" in answer else answer.get("outputs")

    def call_whole(
        self,
        target: str,
        operation: str,
        inputs: Any = None,
        *,
        object: str = "",
        selector: str = "any",
        attachments: list[dict[str, Any]] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Like `call`, with everything the answer has: outputs, attachments, component, replies."""
        params = _call_params(target, operation, inputs, object, selector, attachments)
        answer: dict[str, Any] = self.request("hub.call", params, timeout=timeout)
        if answer.get("attachments"):
            answer["attachments"] = _attachments_in(answer["attachments"])
        return answer

    def cast(
        self,
        target: str,
        operation: str,
        inputs: Any = None,
        *,
        object: str = "",
        selector: str = "any",
        attachments: list[dict[str, Any]] | None = None,
    ) -> int:
        """Tell without waiting for an answer; to how many components it went."""
        params = _call_params(target, operation, inputs, object, selector, attachments)
        return int(self.request("hub.cast", params)["accepted"])

    def join(self, *groups: str, unique: bool = False) -> dict[str, Any]:
        """Join groups; positions, member counts and fencing tokens by group."""
        joined: dict[str, Any] = self.request("hub.join", {"groups": groups, "unique": unique})
        return joined

    def leave(self, *groups: str) -> None:
        """Leave groups."""
        self.request("hub.leave", {"groups": list(groups)})

    def members(self, group: str) -> list[dict[str, Any]]:
        """The members of a group, in joining order."""
        members: list[dict[str, Any]] = self.request("hub.members", {"group": group})["members"]
        return members

    def watch(self, callback: Callable[[dict[str, Any]], Any], **what: Any) -> dict[str, Any]:
        """Be told of changes: `watch(callback, group="name")`; the snapshot and the watch's number.

        After the hub was restarted the callback gets an event `resumed` with a new snapshot in
        `data`, as changes in between may be missing.
        """
        return self._open_watch("hub.watch", what, callback)

    def monitor(self, component: str, callback: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Be told once, with the reason, when a component ends."""
        return self._open_watch("controller.monitor", {"component": component}, callback)

    def unwatch(self, watch: int) -> None:
        """End a watch."""
        self._on_event.pop(watch, None)
        self.request("hub.unwatch", {"watch": watch})

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Write a structured record; `level` is debug, info, warning or error."""
        self._notify("log.write", {"message": message, "level": level, "fields": fields})

    def request(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Any method of the component API; its result.  Raises ComponentError."""
        self.connect()
        given = dict(params or {})
        if timeout is not None:
            given["timeout"] = timeout
        mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._pending_lock:
            identity = self._last_id = self._last_id + 1
            self._pending[identity] = mailbox
        message = {"jsonrpc": "2.0", "id": identity, "method": method, "params": given}
        wait_s = (DEFAULT_TIMEOUT_S if timeout is None else timeout) + ANSWER_MARGIN_S
        try:
            self._send(message)
            answer = mailbox.get(timeout=wait_s)
        except queue.Empty:
            raise ComponentError("timeout", f"no answer to {method}") from None
        finally:
            with self._pending_lock:
                self._pending.pop(identity, None)
        if "error" in answer:
            raise ComponentError.from_rpc(answer["error"])
        return answer["result"]

    def _open_watch(
        self, method: str, params: dict[str, Any], callback: Callable[[dict[str, Any]], Any]
    ) -> dict[str, Any]:
        result: dict[str, Any] = self.request(method, params)
        with self._pending_lock:
            self._on_event[result["watch"]] = callback
            for event in self._early_events.pop(result["watch"], []):
                self._deliver(callback, event)
        return result

    # -- connection --------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the channel; done by itself when it is needed."""
        if not self._connected:
            with self._connecting:
                self._connect_once()

    def _connect_once(self) -> None:
        if not self._connected:
            opened = _open_channel()
            opened.sendall(b"\n")  # an empty line tells the codec; the configuration comes back
            self._socket, self._connected = opened, True
            threading.Thread(target=self._read, args=(opened,), daemon=True).start()

    def _install_signal(self) -> None:
        def on_signal(_number: int, _frame: object) -> None:
            # Not set directly: the main thread may hold the event's lock while it is interrupted.
            threading.Thread(target=self._stopping.set).start()

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_signal)

    def _send(self, message: dict[str, Any]) -> None:
        """Many threads may send; whoever is first sends for the others too."""
        line = _encode(message)
        if len(line) > MESSAGE_BYTES_MAX:
            raise ComponentError("limit-exceeded", "a message has 4 MiB at most")
        with self._send_lock:
            self._unsent.append(line)
            if self._sending:
                return
            self._sending = True
        try:
            while data := self._take_unsent():
                assert self._socket is not None
                self._socket.sendall(data)
        except OSError:
            self._sending = False
            raise ComponentError("not-available", "the channel is closed") from None

    def _take_unsent(self) -> bytes:
        with self._send_lock:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._sending = bool(data)
            return data

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        self.connect()
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def _read(self, channel: socket.socket) -> None:
        """The reader thread: lines in, answers to who waits, requests to workers."""
        rest = b""
        loads = json.loads
        while True:
            try:
                data = channel.recv(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                break
            if b"\n" not in data:
                rest = self._gather(channel, rest + data)
                if not rest:
                    break
            else:
                rest += data
            lines = rest.split(b"\n")
            rest = lines.pop()
            for line in lines:
                if line:
                    self._message(loads(line))
        self._lost()

    @staticmethod
    def _gather(channel: socket.socket, first: bytes) -> bytes:
        """The rest of a long line, without copying its beginning again and again."""
        parts = [first]
        while True:
            try:
                data = channel.recv(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                return b""
            parts.append(data)
            if b"\n" in data:
                return b"".join(parts)

    def _lost(self) -> None:
        """The harness is gone, and with it the reason to live."""
        gone = ComponentError("unknown-outcome", "the channel was closed").to_rpc()
        for mailbox in list(self._pending.values()):
            mailbox.put({"error": gone})
        self._stopping.set()

    def _message(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method == "component.invoke":
            self._hand_over(message)
        elif method is None:
            mailbox = self._pending.get(message.get("id", 0))
            if mailbox is not None:
                mailbox.put(message)
        elif method == "component.event":
            self._event(message["params"])
        elif method == "component.configure":
            self._configure(message)
        elif method == "component.terminate":
            self._hand_over(message)
        else:
            error = {"code": NO_SUCH_METHOD, "message": f"no method is called {method}"}
            self._answer(message, {"error": error})

    def _answer(self, request: dict[str, Any], body: dict[str, Any]) -> None:
        if "id" in request:
            try:
                self._send({"jsonrpc": "2.0", "id": request["id"], **body})
            except ComponentError as exc:
                if exc.code == "limit-exceeded":
                    self._answer(request, {"error": exc.to_rpc()})

    def _configure(self, message: dict[str, Any]) -> None:
        self._configuration = message["params"].get("configuration") or {}
        changed = self._configured.is_set()
        self._configured.set()
        self._answer(message, {"result": {}})
        if changed and self._on_configure is not None:
            self._deliver(self._on_configure, self._configuration)

    # -- operations --------------------------------------------------------------------------------

    def _hand_over(self, message: dict[str, Any]) -> None:
        self._work.put(message)
        with self._busy_lock:
            self._busy += 1
            more = self._busy > self._workers and self._workers < self._workers_max
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
            message = self._work.get()
            try:
                if message["method"] == "component.invoke":
                    self._invoke(message)
                else:
                    self._terminate(message)
            except Exception:
                traceback.print_exc()
            finally:
                with self._busy_lock:
                    self._busy -= 1

    def _invoke(self, message: dict[str, Any]) -> None:
        call = Call(message["params"])
        if call.remaining() < 0:
            return
        operation = self._operations.get((call.object, call.operation))
        try:
            if operation is None:
                known = ", ".join(sorted(name for _, name in self._operations))
                raise ComponentError(
                    "no-such-operation", f"no operation {call.operation!r}; there are: {known}"
                )
            self._answer(message, {"result": _result(operation(call.inputs, call))})
        except ComponentError as exc:
            self._answer(message, {"error": exc.to_rpc()})
        except Exception as exc:
            traceback.print_exc()
            text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
            self._answer(message, {"error": ComponentError("failed", text).to_rpc()})

    def _terminate(self, message: dict[str, Any]) -> None:
        params = message.get("params") or {}
        accepted, reason = True, ""
        try:
            if self._on_terminate is not None:
                said = self._on_terminate(params.get("reason", ""), params.get("inputs"))
                accepted = said is not False
        except ComponentError as exc:
            accepted, reason = False, exc.message
        self._answer(message, {"result": {"accepted": accepted, "reason": reason}})
        if accepted:
            self._stopping.set()

    def _drain(self) -> None:
        """Let the operations that run finish, for a while."""
        end_s = time.monotonic() + DRAIN_S
        while self._busy > 0 and time.monotonic() < end_s:
            time.sleep(0.01)

    # -- events ------------------------------------------------------------------------------------

    def _event(self, event: dict[str, Any]) -> None:
        with self._pending_lock:
            callback = self._on_event.get(event["watch"])
            if callback is None:
                early = self._early_events.setdefault(event["watch"], [])
                if len(early) < 1_000:
                    early.append(event)
            else:
                self._deliver(callback, event)

    def _deliver(self, callback: Callable[[Any], Any], value: Any) -> None:
        if self._event_thread is None:
            self._event_thread = threading.Thread(target=self._event_loop, daemon=True)
            self._event_thread.start()
        self._events.put((callback, value))

    def _event_loop(self) -> None:
        while True:
            callback, value = self._events.get()
            try:
                callback(value)
            except Exception:
                traceback.print_exc()


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _encode(message: dict[str, Any]) -> bytes:
    return _encoder.encode(message).encode("utf-8", "surrogatepass") + b"\n"


def _open_channel() -> socket.socket:
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


def _call_params(
    target: str,
    operation: str,
    inputs: Any,
    object: str,
    selector: str,
    attachments: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    given = {} if inputs is None else inputs
    params: dict[str, Any] = {"target": target, "operation": operation, "inputs": given}
    if object:
        params["object"] = object
    if selector != "any":
        params["selector"] = selector
    if attachments:
        params["attachments"] = _attachments_out(attachments)
    return params


def _result(value: Any) -> dict[str, Any]:
    if isinstance(value, Result):
        return {"outputs": value.outputs, "attachments": _attachments_out(value.attachments)}
    return {"outputs": {} if value is None else value}


def _attachments_out(attachments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**item, "data": base64.b64encode(item.get("data", b"")).decode("ascii")}
        for item in attachments
    ]


def _attachments_in(attachments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "data": base64.b64decode(item.get("data", ""))} for item in attachments]
