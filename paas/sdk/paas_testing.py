"""Test a component without the platform: a harness that a test plays.  One file, from 3.9 on.

    from paas_testing import Harness

    def test_it_asks_the_store():
        with Harness() as harness:
            pending = harness.begin("greet", {"name": "Ada"})
            harness.expect("hub.call", operation="get").answer({"outputs": {"text": "Hi"}})
            assert pending.result() == {"text": "Hi, Ada"}

`Harness()` starts the program of the `component.toml` here (or `Harness(["python3", "main.py"])`)
with `PAAS_SOCKET` naming a socket of its own, and waits until it is ready.  `paas test` puts this
file and the SDK beside a copy of the sources and runs their tests there.

A component that speaks msgpack is spoken to in msgpack, which needs that package here too.

What the component asks waits for `expect`, unless `on` has said how it is answered; only what needs
no thought is answered by itself: records (`logs`), joining and leaving, watches, attributes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Harness", "HarnessError", "Pending", "Request"]

PATIENCE_S = 10.0
COMMAND_VARIABLE = "PAAS_TEST_COMMAND"
_JSON_BEGINS = [b"", *(bytes([code]) for code in b"{[ \t\r\n")]


class HarnessError(Exception):
    """The component answered an error, with this `code`; or it did not do what was expected."""

    def __init__(self, code: str, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message
        self.data = data or {}


class Request:
    """Something that the component asks; `params` are what it gave."""

    def __init__(self, harness: Harness, message: dict[str, Any]) -> None:
        self.method: str = message["method"]
        self.params: dict[str, Any] = message.get("params") or {}
        self.cancelled = threading.Event()
        self._id = message.get("id")
        self._harness = harness

    def answer(self, result: Any = None) -> None:
        if self._id is not None:
            self._harness._send({"id": self._id, "result": {} if result is None else result})

    def fail(self, code: str, message: str = "", **data: Any) -> None:
        error = {"code": -32000, "message": message or code, "data": {**data, "code": code}}
        self._harness._send({"id": self._id, "error": error})


class Pending:
    """An invocation on its way."""

    def __init__(self, harness: Harness, identity: int) -> None:
        self.identity = identity
        self._harness = harness

    def whole(self, timeout: float = PATIENCE_S) -> dict[str, Any]:
        """The whole result: outputs and attachments, whose `data` is bytes."""
        answer = self._harness._await_answer(self.identity, timeout)
        if "error" in answer:
            data = dict(answer["error"].get("data") or {})
            raise HarnessError(str(data.pop("code", "")), answer["error"]["message"], data)
        result: dict[str, Any] = answer["result"]
        for item in result.get("attachments") or []:
            if isinstance(item.get("data"), str):
                item["data"] = base64.b64decode(item["data"])
        return result

    def result(self, timeout: float = PATIENCE_S) -> Any:
        """The outputs; raises HarnessError with the component's error."""
        return self.whole(timeout).get("outputs")

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        self._harness._send({"method": "component.cancel", "params": {"id": self.identity}})


class Harness:
    """A harness that the test plays, around the program that it tests."""

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        directory: str = ".",
        configuration: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        self.command = list(command) if command else _command_of(directory)
        self.directory = directory
        self.configuration = configuration or {}
        self.environment = environment or {}
        self.component = "ab" * 20
        self.logs: list[dict[str, Any]] = []
        self.groups: list[str] = []
        self.attributes: dict[str, Any] = {}
        self.watches: dict[int, dict[str, Any]] = {}
        self.output: list[str] = []
        self._wait_ready = wait
        self._answers: dict[int, dict[str, Any]] = {}
        self._requests: list[Request] = []
        self._asked: dict[Any, Request] = {}
        self._scripts: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._send_lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._folder = ""
        self._binary = False
        self._wrong: Exception | None = None
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._ready = False
        self._last_id = 0
        self._last_watch = 0

    # -- life --------------------------------------------------------------------------------------

    def __enter__(self) -> Harness:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the program, and wait until it says that it is ready."""
        try:
            self._start()
            if self._wait_ready:
                self.await_ready()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="paas-test-")
        path = os.path.join(self._folder, "component.sock")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        environment = {**os.environ, **self.environment}
        environment.update(PAAS_SOCKET=path, PAAS_COMPONENT_ID=self.component)
        environment.pop("PAAS_FD", None)
        try:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as exc:
            raise HarnessError("", f"cannot start {self.command}: {exc}") from exc
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._listen_to_output, daemon=True).start()

    def await_ready(self, timeout: float = PATIENCE_S) -> None:
        self._until(lambda: self._ready, timeout, "the component did not say that it is ready")

    def terminate(self, reason: str = "asked to end", inputs: Any = None) -> dict[str, Any]:
        """Ask it to end; `accepted`, and its `reason` if it refuses."""
        identity = self._ask("component.terminate", {"reason": reason, "inputs": inputs or {}})
        return Pending(self, identity).whole()

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """The exit status of the program, once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout)

    def close(self) -> None:
        """End the program, whatever it does."""
        process = self._process
        if process is not None and process.poll() is None:
            _signal(process, signal.SIGTERM)
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
        for sock in (self._listener, self._channel):
            if sock is not None:
                with contextlib.suppress(OSError):  # wakes who waits for it
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- what a test does --------------------------------------------------------------------------

    def call(self, operation: str, inputs: Any = None, **options: Any) -> Any:
        """Call an operation; its outputs.  Options are those of `begin`."""
        timeout = float(options.get("timeout", PATIENCE_S))
        return self.begin(operation, inputs, **options).result(timeout)

    def begin(self, operation: str, inputs: Any = None, **options: Any) -> Pending:
        """Call an operation without waiting yet.

        Options: `object`, `attachments` (with bytes as `data`), `sender`, `timeout`, `trace`, and
        `message={"id": …, "attempt": …}` for one from a durable mailbox.
        """
        params = _invocation(operation, inputs, options, self._binary)
        return Pending(self, self._ask("component.invoke", params))

    def cast(self, operation: str, inputs: Any = None, **options: Any) -> None:
        """Tell it to run an operation; nobody waits."""
        params = {**_invocation(operation, inputs, options, self._binary), "oneway": True}
        self._send({"method": "component.invoke", "params": params})

    def expect(self, method: str, timeout: float = PATIENCE_S, **params: Any) -> Request:
        """Wait for the component to ask this, with (at least) these params."""

        def found() -> Request | None:
            for request in self._requests:
                if request.method == method and params.items() <= request.params.items():
                    self._requests.remove(request)
                    return request
            return None

        seen = f"it did not ask {method} with {params}"
        request: Request = self._until(found, timeout, seen)
        return request

    def await_watch(self, timeout: float = PATIENCE_S, **what: Any) -> int:
        """Wait until it watches this (`group="g"`, `signals={…}`); the watch's number."""

        def found() -> int | None:
            for number, params in self.watches.items():
                if what.items() <= params.items():
                    return number
            return None

        number: int = self._until(found, timeout, f"it does not watch {what}")
        return number

    def on(self, method: str, answer: Any) -> None:
        """Answer this method by itself from now on: a result, or `function(params)` giving one."""
        self._scripts[method] = answer

    def event(self, watch: int, event: str, **fields: Any) -> None:
        """Tell it an event of one of its `watches`, by number."""
        params = {"watch": watch, "event": event, "index": 0, **fields}
        self._send({"method": "component.event", "params": params})

    def configure(self, configuration: dict[str, Any]) -> None:
        """Give it another configuration; returns when it has taken it."""
        identity = self._ask("component.configure", {"configuration": configuration})
        self._await_answer(identity, PATIENCE_S)

    # -- the channel -------------------------------------------------------------------------------

    def _ask(self, method: str, params: dict[str, Any]) -> int:
        with self._changed:
            self._last_id += 1
            identity = self._last_id
        self._send({"id": identity, "method": method, "params": params})
        return identity

    def _send(self, message: dict[str, Any]) -> None:
        self._send_many(message)

    def _bytes_of(self, message: dict[str, Any]) -> bytes:
        whole = {"jsonrpc": "2.0", **message}
        if self._binary:
            body: bytes = __import__("msgpack").packb(whole)
            return len(body).to_bytes(4, "big") + body
        return json.dumps(whole, separators=(",", ":")).encode() + b"\n"  # as the real one

    def _send_many(self, *messages: dict[str, Any]) -> None:
        """Several in one write."""
        data = b"".join([self._bytes_of(message) for message in messages])
        with self._send_lock:
            if self._channel is None:
                raise HarnessError("", f"the component has not connected{self._said()}")
            try:
                self._channel.sendall(data)
            except OSError as exc:
                text = f"the component has closed its channel ({exc}){self._said()}"
                raise HarnessError("", text) from exc

    def _await_answer(self, identity: int, timeout: float) -> dict[str, Any]:
        answer: dict[str, Any] = self._until(
            lambda: self._answers.pop(identity, None), timeout, "the component did not answer"
        )
        return answer

    def _until(self, condition: Callable[[], Any], timeout: float, otherwise: str) -> Any:
        end_s = time.monotonic() + timeout
        with self._changed:
            while True:
                if self._wrong is not None:
                    wrong, self._wrong = self._wrong, None
                    raise wrong
                if found := condition():
                    return found
                left_s = end_s - time.monotonic()
                if left_s <= 0 or self._closed:
                    asked = ", ".join(r.method for r in self._requests) or "nothing"
                    why = "it has closed its channel" if self._closed else f"within {timeout:g} s"
                    raise HarnessError("", f"{otherwise}: {why}; it asks {asked}{self._said()}")
                self._changed.wait(min(left_s, 0.5))

    def _said(self) -> str:
        return "; its output:\n" + "".join(self.output[-30:]) if self.output else ""

    def _listen_to_output(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.output.append(line)
        process.wait()
        if self._channel is None:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            channel, _ = self._listener.accept()
            self._binary = channel.recv(1, socket.MSG_PEEK) not in _JSON_BEGINS
            self._channel = channel
            self._ask("component.configure", {"configuration": self.configuration})
            for message in self._messages(channel):
                self._take(message)
        except (OSError, ValueError, KeyError, ImportError, HarnessError) as exc:
            self.output.append(f"the harness could not read the component: {exc!r}\n")
        self._end()

    def _messages(self, channel: socket.socket) -> Iterator[dict[str, Any]]:
        with channel.makefile("rb") as stream:
            if self._binary:
                library = __import__("msgpack")
                while head := stream.read(4):
                    yield library.unpackb(stream.read(int.from_bytes(head, "big")))
            else:
                for line in stream:
                    if line.strip():
                        yield json.loads(line)

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if not isinstance(message, dict) or not {"method", "id"} & message.keys():
                raise ValueError(f"this is no message: {str(message)[:200]}")
            if "method" not in message:
                self._answers[message["id"]] = message
            elif message["method"] == "rpc.cancel":
                asked = self._asked.get(message["params"]["id"])
                if asked is not None:
                    asked.cancelled.set()
            else:
                request = Request(self, message)
                if not self._answer_by_itself(request):
                    self._asked[message.get("id")] = request
                    self._requests.append(request)
            self._changed.notify_all()

    def _answer_by_itself(self, request: Request) -> bool:
        method, params = request.method, request.params
        if method in self._scripts:
            answer = self._scripts[method]
            try:
                request.answer(answer(params) if callable(answer) else answer)
            except Exception as exc:  # of the test's: raised where it waits
                self._wrong = exc
                request.fail("failed", f"{type(exc).__name__}: {exc}")
            return True
        known = getattr(self, "_on_" + method.replace(".", "_"), None)
        if known is not None:
            request.answer(known(params))
        return known is not None

    def _on_component_ready(self, _params: dict[str, Any]) -> None:
        self._ready = True

    def _on_component_available(self, _params: dict[str, Any]) -> None:
        self.logs.append({"level": "info", "message": "available", "fields": {}})

    def _on_component_unavailable(self, params: dict[str, Any]) -> None:
        text = f"unavailable: {params.get('reason', '')}"
        self.logs.append({"level": "info", "message": text, "fields": {}})

    def _on_component_exit(self, params: dict[str, Any]) -> None:
        self.logs.append({"level": "info", "message": f"exit: {params['reason']}", "fields": {}})

    def _on_log_write(self, params: dict[str, Any]) -> None:
        self.logs.append(params)

    def _on_hub_join(self, params: dict[str, Any]) -> dict[str, Any]:
        self.groups += params["groups"]
        ones = dict.fromkeys(params["groups"], 1)
        return {"positions": ones, "members": ones, "token": ones}

    def _on_hub_leave(self, params: dict[str, Any]) -> None:
        self.groups = [group for group in self.groups if group not in params["groups"]]

    def _on_hub_set_attributes(self, params: dict[str, Any]) -> dict[str, Any]:
        for name, value in params["attributes"].items():
            if value is None:
                self.attributes.pop(name, None)
            else:
                self.attributes[name] = value
        return {"index": 1}

    def _on_hub_watch(self, params: dict[str, Any]) -> dict[str, Any]:
        self._last_watch += 1
        self.watches[self._last_watch] = params
        return {"watch": self._last_watch, "snapshot": [], "index": 0, "resumed": False}

    _on_controller_monitor = _on_hub_watch

    def _on_hub_unwatch(self, params: dict[str, Any]) -> None:
        self.watches.pop(params["watch"], None)


def _invocation(
    operation: str, inputs: Any, options: dict[str, Any], binary: bool
) -> dict[str, Any]:
    params: dict[str, Any] = {
        "operation": operation,
        "object": options.get("object", ""),
        "inputs": {} if inputs is None else inputs,
        "from": options.get("sender", "cd" * 20),
        "deadline": time.time() + float(options.get("timeout", PATIENCE_S)),
    }
    if options.get("attachments"):
        params["attachments"] = [
            {**item, "data": item["data"] if binary else base64.b64encode(item["data"]).decode()}
            for item in options["attachments"]
        ]
    for name in ("trace", "message"):
        if options.get(name):
            params[name] = options[name]
    return params


def _command_of(directory: str) -> list[str]:
    """What `paas test` says, or what the manifest says where there is a reader for it (3.11)."""
    given = os.environ.get(COMMAND_VARIABLE)
    if given:
        return [str(word) for word in json.loads(given)]
    import tomllib

    with open(os.path.join(directory, "component.toml"), "rb") as file:
        command = tomllib.load(file)["component"]["command"]
    return [str(word) for word in command]


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)
