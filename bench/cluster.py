"""A cluster of its own for one measurement, and the client that measures.

The client is synchronous and lean on purpose: what it takes is counted to the platform.  It speaks
length-prefixed msgpack maps or JSON lines on <runtime>/api.sock, as the component API says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
COMPONENTS = ROOT / "bench" / "components"
ECHO = ROOT / "examples" / "echo"
_LENGTH = struct.Struct(">I")


class CallError(Exception):
    """An error that the platform answered, or the loss of the connection (`lost`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code


class Client:
    """One connection to the operators' socket."""

    def __init__(self, path: str, *, text: bool = False) -> None:
        self._text = text
        self._encode = msgspec.json.encode if text else msgspec.msgpack.encode
        self._decode = msgspec.json.decode if text else msgspec.msgpack.decode
        self._last = 0
        self._rest = b""
        self._arrived: deque[dict[str, Any]] = deque()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(path)
        except OSError as exc:
            self._sock.close()
            raise CallError("lost", str(exc)) from None

    def close(self) -> None:
        self._sock.close()

    def call(self, method: str, *, patience_s: float = 60.0, **params: Any) -> Any:
        """One request and its result."""
        self._sock.settimeout(patience_s)
        identity = self.send(method, params)
        while True:
            answer = self.receive()
            if answer.get("id") == identity:
                return _result(answer)

    def send(self, method: str, params: dict[str, Any]) -> int:
        self._last += 1
        message = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        body = self._encode(message)
        try:
            self._sock.sendall(body + b"\n" if self._text else _LENGTH.pack(len(body)) + body)
        except OSError as exc:
            raise CallError("lost", str(exc)) from None
        return self._last

    def receive(self) -> dict[str, Any]:
        """The next message; raises CallError when nothing comes."""
        while not self._arrived:
            try:
                data = self._sock.recv(1 << 16)
            except OSError as exc:
                raise CallError("lost", str(exc)) from None
            if not data:
                raise CallError("lost", "the hub closed the connection")
            self._split(self._rest + data)
        return self._arrived.popleft()

    def _split(self, data: bytes) -> None:
        if self._text:
            *lines, self._rest = data.split(b"\n")
            self._arrived.extend(map(self._decode, filter(None, lines)))
            return
        at = 0
        while len(data) - at >= 4:
            end = at + 4 + _LENGTH.unpack_from(data, at)[0]
            if end > len(data):
                break
            self._arrived.append(self._decode(data[at + 4 : end]))
            at = end
        self._rest = data[at:]

    def pump(
        self, method: str, params: dict[str, Any], count: int, in_flight: int
    ) -> tuple[float, list[float]]:
        """`count` requests, always `in_flight` on the way: seconds, and milliseconds of each."""
        self._sock.settimeout(60.0)
        clock = time.perf_counter
        sent: dict[int, float] = {}
        took_ms: list[float] = []
        begin = clock()
        for _ in range(min(in_flight, count)):
            sent[self.send(method, params)] = clock()
        left = count - len(sent)
        while sent:
            answer = self.receive()
            took_ms.append((clock() - sent.pop(answer["id"])) * 1e3)
            _result(answer)
            if left:
                left -= 1
                sent[self.send(method, params)] = clock()
        return clock() - begin, took_ms


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        error = answer["error"]
        raise CallError(str((error.get("data") or {}).get("code", "")), str(error.get("message")))
    return answer["result"]


class Cluster:
    """A development cluster with a state directory of its own; at the end nothing is left."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="paas-bench-"))
        self.folder.chmod(0o755)
        self.state = self.folder / "state"
        self.runtime = ""
        self.supervisor = 0

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> float:
        """Start it; seconds until it was ready, as a user waits for them."""
        since = time.perf_counter()
        self.paas("dev", "--detach")
        took_s = time.perf_counter() - since
        facts = json.loads((self.state / "cluster.json").read_text())
        self.runtime, self.supervisor = facts["runtime"], facts["pid"]
        return took_s

    def end(self) -> float:
        """End it and remove its state; seconds."""
        since = time.perf_counter()
        self.paas("down", "--purge", "--yes")
        took_s = time.perf_counter() - since
        shutil.rmtree(self.folder, ignore_errors=True)
        return took_s

    def paas(self, *words: str) -> str:
        """A command of the CLI; its standard output."""
        done = subprocess.run(
            [*paas_command(), "--state", str(self.state), *words],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
        )
        if done.returncode:
            raise RuntimeError(f"paas {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def environment(self) -> dict[str, str]:
        """Keys and contexts of the user stay out of it."""
        kinds = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
        return {**os.environ, **{kind: str(self.folder / kind.lower()) for kind in kinds}}

    def push(self, source: Path) -> str:
        """Push a bundle's source; the type's name."""
        return self.paas("-o", "name", "push", str(source))

    @property
    def socket(self) -> str:
        return f"{self.runtime}/api.sock"

    @contextlib.contextmanager
    def client(self, *, text: bool = False) -> Iterator[Client]:
        client = Client(self.socket, text=text)
        try:
            yield client
        finally:
            client.close()

    def source(self, name: str) -> Path:
        """A copy of one of our components' sources, to be completed."""
        copy = self.folder / "sources" / name
        shutil.copytree(COMPONENTS / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
        return copy


def paas_command() -> list[str]:
    """The command as installed beside this interpreter, else the module."""
    beside = Path(sys.executable).parent / "paas"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "paas.cli"]
