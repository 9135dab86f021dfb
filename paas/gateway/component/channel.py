"""The way of the gateway to the platform: its harness's socket, in msgpack frames (io).

    ask ──frame──> harness ──> hub        answers wake who waits, by number
    watch events, invocations, configure, terminate <── harness

It does what the SDK does, for one program that asks several thousand times a second: bodies are
declared, so that a message is encoded and decoded once, and what is asked in one turn of the event
loop is written together.  Source: component API, "Transports".
"""

from __future__ import annotations

import binascii
import itertools
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.base.limits import FRAME_BYTES_MAX

READ_BYTES = 262_144
UNSENT_BYTES_MAX = 8 << 20
"""Who asks waits while this much is unwritten."""

ANSWER_MARGIN_S = 2.0
"""The platform answers `timeout` itself; so much later we stop waiting for that."""

R = TypeVar("R")


class _Request(msgspec.Struct, frozen=True):
    id: int
    method: str
    params: Any
    jsonrpc: str = "2.0"


class _Notification(msgspec.Struct, frozen=True):
    method: str
    params: Any
    jsonrpc: str = "2.0"


class _Result(msgspec.Struct, frozen=True):
    id: Any
    result: Any
    jsonrpc: str = "2.0"


class _Failure(msgspec.Struct, frozen=True):
    id: Any
    error: dict[str, Any]
    jsonrpc: str = "2.0"


_EMPTY = msgspec.Raw(b"\x80")


class _Incoming(msgspec.Struct, frozen=True):
    id: int | str | None = None
    method: str = ""
    params: msgspec.Raw = _EMPTY
    result: msgspec.Raw = _EMPTY
    error: dict[str, Any] | None = None


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """Binary data beside inputs or outputs."""

    name: str
    data: Any = b""
    """Bytes; from a component that speaks JSON, base64."""
    type: str = ""
    size: int = 0
    blob: str = ""
    """Large data stays in the store of attachments, under this name, at this node."""
    node: str = ""
    key: str = ""

    def content(self) -> bytes:
        """The data, if it is here.  Raises ValueError for a text that is no base64."""
        if isinstance(self.data, bytes):
            return self.data
        if not isinstance(self.data, str):
            raise ValueError("an attachment's data is binary")
        return binascii.a2b_base64(self.data)


class Invocation(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What somebody asks of this component."""

    operation: str
    object: str = ""
    inputs: msgspec.Raw = _EMPTY
    attachments: list[Attachment] = []
    from_: str = ""


class CallAnswer(msgspec.Struct, frozen=True):
    """The result of `hub.call`."""

    outputs: msgspec.Raw = _EMPTY
    attachments: list[Attachment] = []
    component: str = ""


class _Waiting:
    __slots__ = ("event", "value")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.value: msgspec.Raw | PlatformError = _EMPTY


class Channel:
    """See the module's text.  The `on_` functions are called as messages come, and never wait."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Incoming).decode
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._out = bytearray()
        self._to_write = trio.Event()
        self._written = trio.Event()
        self.closed = trio.Event()
        self.on_event: Callable[[msgspec.Raw], None] = lambda params: None
        self.on_invoke: Callable[[Any, Invocation], None] = lambda identity, call: None
        self.on_configure: Callable[[dict[str, Any]], None] = lambda configuration: None
        self.on_terminate: Callable[[str], bool] = lambda reason: True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and write until the harness is gone, which ends everything here."""
        # An answer that nobody asked for tells the harness our codec, and is dropped.
        self._send(_Result(0, {}))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            task_status.started()
            try:
                await self._read()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self._lose()
                nursery.cancel_scope.cancel()

    def _lose(self) -> None:
        self.closed.set()
        self._written.set()
        for waiting in self._waiting.values():
            waiting.value = PlatformError("unknown-outcome", "the channel was closed")
            waiting.event.set()
        self._waiting.clear()

    # -- asking ----------------------------------------------------------------------------------

    async def ask(self, method: str, params: Any, kind: type[R], *, timeout_s: float) -> R:
        """Ask the platform; raises what it answers, `timeout`, or `unknown-outcome` at the end.

        `params` is a map or a struct that has the member `timeout` set.
        """
        if self.closed.is_set():
            raise PlatformError("not-available", "the channel is closed")
        while len(self._out) > UNSENT_BYTES_MAX:
            self._written = trio.Event()
            await self._written.wait()
        number = next(self._numbers)
        waiting = self._waiting[number] = _Waiting()
        self._send(_Request(number, method, params))
        try:
            with trio.move_on_after(timeout_s + ANSWER_MARGIN_S) as scope:
                await waiting.event.wait()
        finally:
            if self._waiting.pop(number, None) is not None and not self.closed.is_set():
                self._send(_Notification("rpc.cancel", {"id": number}))
        if scope.cancelled_caught:
            raise PlatformError("timeout", f"{method} was not answered in {timeout_s:g} s")
        if isinstance(waiting.value, PlatformError):
            raise waiting.value
        try:
            return msgspec.msgpack.decode(waiting.value, type=kind)
        except msgspec.MsgspecError as exc:
            raise PlatformError("failed", f"the answer to {method}: {exc}") from None

    def tell(self, method: str, params: Any) -> None:
        """Without an answer."""
        self._send(_Notification(method, params))

    def answer(self, identity: Any, outputs: Any) -> None:
        """What an invocation yields; nobody waits for it if `identity` is None."""
        if identity is not None:
            self._send(_Result(identity, {"outputs": outputs}))

    def fail(self, identity: Any, error: PlatformError) -> None:
        if identity is not None:
            self._send(_Failure(identity, error.to_rpc()))

    def _send(self, message: msgspec.Struct) -> None:
        body = self._encode(message)
        if len(body) > FRAME_BYTES_MAX:
            raise PlatformError("limit-exceeded", f"a message has {FRAME_BYTES_MAX} bytes at most")
        if not self._out:
            self._to_write.set()
        self._out += len(body).to_bytes(4, "big")
        self._out += body

    async def _write(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write = trio.Event()
            data, self._out = self._out, bytearray()
            self._written.set()
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    # -- what comes ------------------------------------------------------------------------------

    async def _read(self) -> None:
        rest = b""
        while True:
            data = await self._stream.receive_some(READ_BYTES)
            if not data:
                return
            data = rest + data if rest else bytes(data)
            at, size = 0, len(data)
            while size - at >= 4:
                end = at + 4 + int.from_bytes(data[at : at + 4], "big")
                if end > size:
                    break
                self._take(self._decode(data[at + 4 : end]))
                at = end
            rest = data[at:]

    def _take(self, message: _Incoming) -> None:
        if not message.method:
            waiting = self._waiting.pop(message.id, None) if isinstance(message.id, int) else None
            if waiting is not None:
                failed = message.error is not None
                waiting.value = PlatformError.from_rpc(message.error) if failed else message.result
                waiting.event.set()
            return
        if message.method == "component.event":
            self.on_event(message.params)
        elif message.method == "component.invoke":
            call = msgspec.msgpack.decode(message.params, type=Invocation)
            self.on_invoke(message.id, call)
        elif message.method == "component.configure":
            told = msgspec.msgpack.decode(message.params)
            self._reply(message.id, {})
            self.on_configure(told.get("configuration") or {})
        elif message.method == "component.terminate":
            told = msgspec.msgpack.decode(message.params)
            accepted = self.on_terminate(told.get("reason", ""))
            self._reply(message.id, {"accepted": accepted, "reason": ""})

    def _reply(self, identity: Any, result: dict[str, Any]) -> None:
        if identity is not None:
            self._send(_Result(identity, result))


def open_channel() -> socket.socket:
    """The socket of this component, as its environment says; raises `not-available`."""
    path = os.environ.get("PAAS_SOCKET")
    if path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(path)
        return sock
    number = os.environ.get("PAAS_FD")
    if number:
        return socket.socket(fileno=int(number))
    raise PlatformError("not-available", "this runs as a component only: PAAS_SOCKET is not set")
