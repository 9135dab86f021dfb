"""A harness in a forked process, and a hub that a test plays by hand.

The hub is blocking sockets around the shared connection core: a test says what it answers and when,
breaks it, and brings it back.  The harness runs as on a node, but without a container: same code,
own process, ordinary user.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.harness import main as harness_main
from paas.harness import messages as harness
from paas.harness.settings import Handoff
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form, Request
from paas.wire import codec
from paas.wire.registry import decode

SDK = Path(__file__).parents[3] / "paas" / "sdk"
PATIENCE_S = 20.0
"""How long a test waits for what must come: generous, so that only a real fault fails."""


class FakeHub:
    """The hub's end: accepts one harness at a time, answers greetings and records by itself."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "harness.sock")
        self.hellos: list[harness.Hello] = []
        self.phases: list[harness.PhaseChange] = []
        self.records: list[harness.LogRecord] = []
        self.dropped = 0
        self.requests: list[Request] = []
        self.acknowledge = True
        self.connection = Connection(Form.COMPACT)
        self._listener: socket.socket | None = None
        self._socket: socket.socket | None = None
        self.open()

    def open(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()

    def close(self) -> None:
        """The hub is gone; nobody can reach it."""
        for sock in (self._socket, self._listener):
            if sock is not None:
                sock.close()
        self._socket = self._listener = None
        if os.path.exists(self.path):
            os.unlink(self.path)

    # -- waiting ---------------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Serve until the condition holds; its value."""
        end_s = time.monotonic() + patience_s
        while not (value := condition()):
            if time.monotonic() > end_s:
                raise AssertionError(
                    f"not in time; phases {self.phases}, records {self.records[-5:]}"
                )
            self._serve_once(0.05)
        return value

    def phase(self, phase: str) -> harness.PhaseChange:
        def found() -> harness.PhaseChange | None:
            return next((p for p in self.phases if p.phase == phase), None)

        change: harness.PhaseChange = self.until(found)
        return change

    def request(self, method: str) -> Request:
        """The next request of the component with this method."""

        def found() -> Request | None:
            for request in self.requests:
                if request.method == method:
                    self.requests.remove(request)
                    return request
            return None

        wanted: Request = self.until(found)
        return wanted

    def message(self, text: str) -> harness.LogRecord:
        def found() -> harness.LogRecord | None:
            return next((r for r in self.records if text in r.message), None)

        record: harness.LogRecord = self.until(found)
        return record

    # -- speaking --------------------------------------------------------------------------------

    def ask(self, method: str, params: Any, timeout_s: float = PATIENCE_S) -> list[Any]:
        """Send a request; the answer (value or PlatformError) will be appended to the list."""
        answers: list[Any] = []

        def answer(value: bytes | PlatformError) -> None:
            answers.append(value if isinstance(value, PlatformError) else codec.unpack(value))

        _, data = self.connection.request(
            method, codec.pack(params), answer, time.monotonic() + timeout_s
        )
        self.send(data)
        return answers

    def call(self, method: str, params: Any) -> Any:
        answers = self.ask(method, params)
        self.until(lambda: answers)
        if isinstance(answers[0], PlatformError):
            raise answers[0]
        return answers[0]

    def invoke(self, operation: str, inputs: Any, **more: Any) -> Any:
        result = self.call(
            "component.invoke", {"operation": operation, "inputs": inputs, "from": "", **more}
        )
        return result["outputs"]

    def notify(self, method: str, params: Any) -> None:
        self.send(self.connection.notify(method, codec.pack(params)))

    def reply(self, request: Request, value: Any) -> None:
        self.send(self.connection.reply(request, codec.pack(value)))

    def fail(self, request: Request, code: str, message: str = "") -> None:
        self.send(self.connection.fail(request, PlatformError(code, message)))

    def send(self, data: bytes) -> None:
        assert self._socket is not None
        with contextlib.suppress(BrokenPipeError):  # a harness that has ended hears nothing
            self._socket.sendall(data)

    # -- serving ---------------------------------------------------------------------------------

    def _serve_once(self, timeout_s: float) -> None:
        sockets = [s for s in (self._listener, self._socket) if s is not None]
        for ready in select.select(sockets, [], [], timeout_s)[0]:
            if ready is self._listener:
                if self._socket is not None:
                    self._socket.close()
                self._socket, _ = ready.accept()
                self.connection = Connection(Form.COMPACT)
            elif ready is self._socket:
                try:
                    data = ready.recv(1 << 20)
                except ConnectionResetError:
                    data = b""
                if not data:
                    ready.close()
                    self._socket = None
                    continue
                for request in self.connection.receive(data):
                    self._take(request)

    def _take(self, request: Request) -> None:
        if request.method == harness.HELLO.name:
            self.hellos.append(decode(request.params, harness.Hello))
            self.reply(request, {"version": 1, "node": "n1"})
        elif request.method == harness.PHASE.name:
            self.phases.append(decode(request.params, harness.PhaseChange))
        elif request.method == harness.RECORDS.name:
            if self.acknowledge:
                batch = decode(request.params, harness.Records)
                self.records += batch.records
                self.dropped += batch.dropped
                self.reply(request, {})
        else:
            self.requests.append(request)


class Running:
    """A harness process of a test."""

    def __init__(self, pid: int, hub: FakeHub, exit_path: Path, run_dir: Path) -> None:
        self.pid = pid
        self.hub = hub
        self.run_dir = run_dir
        self._exit_path = exit_path
        self.status: int | None = None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> dict[str, Any]:
        """Its exit file, once it has ended."""

        def ended() -> bool:
            if self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
            return self.status is not None

        self.hub.until(ended)
        words: dict[str, Any] = json.loads(self._exit_path.read_bytes())
        return words

    def resident_kb(self) -> int:
        """Memory of the harness; of interest is its growth, as it is a fork of the test."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def kill(self) -> None:
        if self.status is None:
            for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(child), 9)  # each has a session of its own
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)


Start = Callable[..., Running]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    directory = tmp_path / "hub"
    directory.mkdir()
    fake = FakeHub(directory)
    yield fake
    fake.close()


@pytest.fixture
def start(tmp_path: Path, hub: FakeHub) -> Iterator[Start]:
    """Start a harness: `start(command, protocol=...)`; what is left is killed at the end."""
    running: list[Running] = []

    def go(*command: str, protocol: str = "json", **more: Any) -> Running:
        number = len(running)
        run_dir, exit_path = tmp_path / f"run{number}", tmp_path / f"exit{number}.json"
        pid = os.fork()
        if pid == 0:
            _be_harness(command, protocol, tmp_path, run_dir, exit_path, more)
        running.append(Running(pid, hub, exit_path, run_dir))
        return running[-1]

    yield go
    for one in running:
        one.kill()


def _be_harness(
    command: tuple[str, ...],
    protocol: str,
    tmp_path: Path,
    run_dir: Path,
    exit_path: Path,
    more: dict[str, Any],
) -> None:
    status = 70
    try:
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        settings: dict[str, Any] = {
            "component": "ab" * 20,
            "command": command,
            "environment": {"PYTHONPATH": str(SDK), **more.pop("environment", {})},
            "cwd": str(tmp_path),
            "protocol": protocol,
            "configuration": {"word": "hello"},
            "endpoints": {"http": ("10.0.0.1", 8000)},
            "hub_directory_fd": os.open(tmp_path / "hub", os.O_PATH | os.O_CLOEXEC),
            "exit_file_fd": os.open(exit_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC),
            "cgroup_fds": (),
            "component_uid": os.getuid(),
            "component_gid": os.getgid(),
            "seccomp_program": b"",
            "ready_timeout_s": 15.0,
        }
        handoff = Handoff(**{**settings, **more})
        status = harness_main.main(handoff, directories=(str(run_dir),))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class Played:
    """A component that the test plays, byte by byte if it wants, in either codec."""

    def __init__(self, running: Running, form: Form) -> None:
        self.form = form
        self.closed = False
        self._hub = running.hub
        self._buffer = b""
        self._last_id = 0
        self._answers: dict[int, Any] = {}
        self.requests: list[dict[str, Any]] = []
        path = running.run_dir / "component.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The socket is there a moment before anybody listens; the program itself starts later.
        running.hub.until(lambda: self.socket.connect_ex(str(path)) == 0)

    def encode(self, message: dict[str, Any]) -> bytes:
        if self.form is Form.JSON:
            return json.dumps(message).encode() + b"\n"
        body = codec.pack(message)
        return len(body).to_bytes(4, "big") + body

    def send(self, *messages: dict[str, Any]) -> None:
        self.send_bytes(b"".join(self.encode({"jsonrpc": "2.0", **m}) for m in messages))

    def send_bytes(self, data: bytes, piece: int = 0) -> None:
        """With `piece`, in pieces of that many bytes."""
        for start in range(0, len(data), piece or len(data)):
            self.socket.sendall(data[start : start + (piece or len(data))])

    def call(self, method: str, params: Any = None) -> Any:
        """A request of the component, answered: the whole answer."""
        self._last_id += 1
        identity = self._last_id
        self.send({"id": identity, "method": method, "params": params or {}})
        return self.answer(identity)

    def answer(self, identity: int | None) -> Any:
        def found() -> Any:
            self._read()
            return self._answers.pop(identity, None)  # type: ignore[arg-type]

        return self._hub.until(found)

    def asked(self, method: str) -> dict[str, Any]:
        """The next request or notification of the harness with this method."""

        def found() -> Any:
            self._read()
            for message in self.requests:
                if message["method"] == method:
                    self.requests.remove(message)
                    return message
            return None

        message: dict[str, Any] = self._hub.until(found)
        return message

    def ready(self) -> None:
        assert self.call("component.ready")["result"] == {}
        self.send({"id": self.asked("component.configure")["id"], "result": {}})
        self._hub.phase("available")

    def wait_closed(self) -> None:
        def found() -> bool:
            self._read()
            return self.closed

        self._hub.until(found)

    def _read(self) -> None:
        while not self.closed and select.select([self.socket], [], [], 0)[0]:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
            self._buffer += data
            for message in self._messages():
                if isinstance(message, list):  # the answers to a batch
                    self._answers.update((m["id"], m) for m in message)
                elif "method" in message:
                    self.requests.append(message)
                else:
                    self._answers[message["id"]] = message

    def _messages(self) -> Iterator[Any]:
        if self.form is Form.JSON:
            *lines, self._buffer = self._buffer.split(b"\n")
            yield from (json.loads(line) for line in lines)
            return
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            yield codec.unpack(self._buffer[4:end])
            self._buffer = self._buffer[end:]


@pytest.fixture
def play(start: Start) -> Iterator[Callable[..., tuple[Running, Played]]]:
    """`play(form)`: a harness around a sleeping program, and a connection for the test."""
    played: list[Played] = []

    def go(form: Form = Form.JSON, **more: Any) -> tuple[Running, Played]:
        running = start("sleep", "1000", **more)
        played.append(Played(running, form))
        return running, played[-1]

    yield go
    for one in played:
        one.socket.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Played]]:
    """`connect(running, form)`: one more connection of the component."""
    played: list[Played] = []

    def go(running: Running, form: Form = Form.JSON) -> Played:
        played.append(Played(running, form))
        return played[-1]

    yield go
    for one in played:
        one.socket.close()
