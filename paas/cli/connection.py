"""A blocking JSON-RPC 2.0 client on the operators' UNIX socket (io).

A command does one thing after the other, so it needs no event loop: a request is written, lines are
read until its answer comes, notifications met on the way are kept for `notifications`.  JSON lines
by default; msgpack frames for binary data (uploads), which JSON would carry as base64.

Who is on the other side is known by the socket's place; who we are, the kernel tells it (component
API, "Transports").  A connection that ends before the answer leaves the outcome unknown, and says
so for requests that change something.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from paas.base.errors import PlatformError
from paas.base.limits import CALL_TIMEOUT_S_DEFAULT, FRAME_BYTES_MAX

ANSWER_GRACE_S = 5.0
"""How much longer than the request's own time we wait for the platform to say that it is over."""

CONNECT_PATIENCE_S = 5.0
"""How long a cluster that runs may be without a hub (it is being restarted) before we give up."""

CONNECT_PAUSE_S = 0.05
READ_BYTES = 1 << 18
_TLS_WAITS = "SSLWantReadError"
"""What encryption raises where a plain socket would block; its module is slow to import."""


class Codec(Protocol):
    """Values to bytes, and bytes as they come to values."""

    def encode(self, value: object) -> bytes: ...

    def feed(self, data: bytes) -> Iterator[Any]: ...


class JsonLines:
    """One JSON value a line."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def encode(self, value: object) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def feed(self, data: bytes) -> Iterator[Any]:
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if line.strip():
                yield json.loads(line)


class Frames:
    """Length-prefixed msgpack maps."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def encode(self, value: object) -> bytes:
        from paas.wire import codec

        body = codec.pack(value)
        return struct.pack(">I", len(body)) + body

    def feed(self, data: bytes) -> Iterator[Any]:
        from paas.wire import codec

        self._buffer += data
        while len(self._buffer) >= 4:
            (length,) = struct.unpack_from(">I", self._buffer)
            if len(self._buffer) < 4 + length:
                return
            body = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            yield codec.unpack_own(body)


class Connection:
    """One connection to a hub.  `patience_s`, when set, bounds every answer (completion)."""

    def __init__(
        self, sock: socket.socket, *, binary: bool = False, codec: Codec | None = None
    ) -> None:
        self._sock = sock
        self._codec: Codec = codec or (Frames() if binary else JsonLines())
        self._last = 0
        self.patience_s: float | None = None
        self._events: deque[dict[str, Any]] = deque()
        self._arrived: deque[Any] = deque()
        self._streamed: deque[dict[str, Any]] = deque()

    def close(self) -> None:
        self._sock.close()

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        changes: bool = False,
    ) -> Any:
        """One request and its result; raises the PlatformError it was answered with.

        `changes`: when the connection ends meanwhile, nobody knows whether it was done.
        """
        body = dict(params or {})
        if timeout_s is not None:
            body["timeout"] = timeout_s
        self._last += 1
        request = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": body}
        wait_s = self.patience_s or (timeout_s or CALL_TIMEOUT_S_DEFAULT) + ANSWER_GRACE_S
        data = self._codec.encode(request)
        if len(data) > FRAME_BYTES_MAX:
            raise PlatformError("limit-exceeded", f"a request has at most {FRAME_BYTES_MAX} bytes")
        try:
            self._sock.settimeout(wait_s)
            # A hub that refuses us says why and hangs up, perhaps before we have spoken.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._sock.sendall(data)
            return self._answer(self._last, time.monotonic() + wait_s)
        except TimeoutError:
            raise PlatformError("timeout", f"{method}: the hub does not answer") from None
        except (OSError, EOFError):
            raise _lost(method, changes) from None

    def _answer(self, identity: int, until: float) -> Any:
        for message in self._messages(until):
            if "method" in message:
                self._keep(message)
            elif message.get("id") == identity or message.get("id") is None:
                if "error" in message:
                    raise PlatformError.from_rpc(message["error"])
                return message.get("result")
        raise EOFError

    def _messages(self, until: float | None) -> Iterator[dict[str, Any]]:
        """What arrives, until the time is over (TimeoutError) or the peer has gone (EOFError)."""
        while True:
            while self._arrived:
                message = self._arrived.popleft()
                if isinstance(message, dict):
                    yield message
            if until is not None:
                self._sock.settimeout(max(0.001, until - time.monotonic()))
            else:
                self._sock.settimeout(None)
            data = self._sock.recv(READ_BYTES)
            if not data:
                raise EOFError
            try:
                self._arrived.extend(self._codec.feed(data))
            except ValueError:
                raise PlatformError("failed", "the hub's answer is not readable") from None

    def _keep(self, message: dict[str, Any]) -> None:
        method = str(message.get("method"))
        if method == "component.event":
            self._events.append(message.get("params") or {})
        elif method.startswith("stream."):
            self._streamed.append(message)

    # -- byte streams (streaming.py) -------------------------------------------------------------

    def fileno(self) -> int:
        return self._sock.fileno()

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Say something that is not answered; raises `unavailable`."""
        data = self._codec.encode({"jsonrpc": "2.0", "method": method, "params": params})
        try:
            self._sock.settimeout(None)
            self._sock.sendall(data)
        except OSError:
            raise PlatformError("unavailable", "the hub closed the connection") from None

    def streamed(self) -> list[dict[str, Any]]:
        """The messages of streams that are here, without waiting; raises `unavailable`."""
        self._keep_arrived()
        while True:
            try:
                self._sock.settimeout(0)
                data = self._sock.recv(READ_BYTES)
            except OSError as exc:
                if isinstance(exc, BlockingIOError) or type(exc).__name__ == _TLS_WAITS:
                    break
                data = b""
            finally:
                self._sock.settimeout(None)
            if not data:
                if self._streamed:  # what it has said before comes first
                    break
                raise PlatformError("unavailable", "the hub closed the connection")
            self._arrived.extend(self._codec.feed(data))
            self._keep_arrived()
        found = list(self._streamed)
        self._streamed.clear()
        return found

    def _keep_arrived(self) -> None:
        while self._arrived:  # some may have come together with an answer
            message = self._arrived.popleft()
            if isinstance(message, dict) and "method" in message:
                self._keep(message)

    def notifications(self, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Events of watches in order; ends (`timeout`) when the time is over."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while self._events:
                yield self._events.popleft()
            try:
                for message in self._messages(until):
                    self._keep(message)
                    if self._events:
                        break
            except TimeoutError:
                raise PlatformError("timeout", "nothing more happened in that time") from None
            except (OSError, EOFError):
                raise PlatformError("unavailable", "the hub closed the connection") from None


def _lost(method: str, changes: bool) -> PlatformError:
    if changes:
        return PlatformError("unknown-outcome", f"{method}: the connection was lost on the way")
    return PlatformError("unavailable", f"{method}: the hub closed the connection")


def connect(
    path: str, *, expected: bool, binary: bool = False, timeout_s: float | None = None
) -> Connection:
    """Connect to the socket at `path`; when the cluster is `expected` to run, with patience.

    `timeout_s` bounds one attempt, for a hub that has stopped taking connections.
    """
    until = time.monotonic() + (CONNECT_PATIENCE_S if expected else 0.0)
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(timeout_s)
        try:
            sock.connect(path)
            return Connection(sock, binary=binary)
        except PermissionError:
            sock.close()
            raise PlatformError(
                "denied",
                "you may not use this cluster's socket",
                hint="run this as the user who started the cluster, or as root",
            ) from None
        except OSError as exc:
            sock.close()
            if time.monotonic() >= until:
                raise PlatformError(
                    "unavailable", f"the cluster's hub cannot be reached: {exc.strerror or exc}"
                ) from None
            time.sleep(CONNECT_PAUSE_S)
