"""Something of ours inside a container, as the controller holds it (io): see `entering.py`.

The other end is a minder (`entrance.py`): it tells on the status socket what becomes of the process
inside, and kills it when the socket ends.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio
import trio.socket

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.entrance import Tell, Told
from paas.container.fork_server import DESCRIPTOR_BYTES
from paas.real import kernel_enter


@dataclass(slots=True)
class Inside:
    """Something of ours inside a container; close it and it ends."""

    component: str
    status: trio.socket.SocketType
    input_fd: int = -1
    outputs: dict[int, int] = field(default_factory=dict)
    """Channel of the stream to descriptor."""
    terminal_fd: int = -1
    pid: int = 0
    copied: dict[str, Any] = field(default_factory=dict)
    failure: Told | None = None
    _ended: int | None = None
    _descriptors: list[int] = field(default_factory=list)

    async def wait(self) -> int:
        """Return when the process inside has ended: its exit code, or minus the signal."""
        while self._ended is None:
            await self._hear()
        return self._ended

    async def hear_begin(self, *, terminal: bool) -> None:
        """Return when it runs.  Raises why it could not."""
        while not self.pid or (terminal and self.terminal_fd < 0):
            await self._hear()
            if self.failure is not None and not self.failure.program:
                raise error_of(self.failure)
            if self.failure is not None or self._ended is not None:
                return  # it is over already; `wait` tells how

    async def _hear(self) -> None:
        told, descriptor = await receive(self.status)
        if told.terminal:
            self.terminal_fd = self.input_fd = self.own(descriptor)
            self.outputs = {1: descriptor}
        elif told.pid is not None:
            self.pid = told.pid
        elif told.copied is not None:
            self.copied = told.copied
        elif told.failure:
            self.failure = told
        elif told.ended is not None:
            self._ended = told.ended

    def own(self, descriptor: int) -> int:
        """Keep it open as long as this is, without blocking."""
        os.set_blocking(descriptor, False)
        self._descriptors.append(descriptor)
        return descriptor

    def close_input(self) -> None:
        """Nothing more comes; a terminal is told so as a person would."""
        if self.terminal_fd >= 0:
            try:
                os.write(self.terminal_fd, b"\x04")
            except OSError:
                return
        elif self.input_fd in self._descriptors:
            self._close(self.input_fd)
            self.input_fd = -1

    def resize(self, rows: int, columns: int) -> None:
        if self.terminal_fd >= 0:
            kernel_enter.set_size(self.terminal_fd, rows, columns)

    async def signal(self, number: int) -> None:
        """To the command and what it has started; nothing when it has ended."""
        try:
            await self.status.send(msgspec.msgpack.encode(Tell(signal=number)))
        except OSError:
            return

    def close(self) -> None:
        """End it."""
        self.status.close()
        while self._descriptors:
            self._close(self._descriptors[-1])

    def _close(self, descriptor: int) -> None:
        self._descriptors.remove(descriptor)
        trio.lowlevel.notify_closing(descriptor)
        os.close(descriptor)


async def receive(status: trio.socket.SocketType) -> tuple[Told, int]:
    """The next word from inside, and the descriptor that came along (-1: none)."""
    space = socket.CMSG_SPACE(DESCRIPTOR_BYTES)
    gone = PlatformError("not-available", "the container has ended")
    try:
        message, ancillary, _, _ = await status.recvmsg(
            limits.STATUS_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        raise gone from None
    if not message:
        raise gone
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptor = int.from_bytes(data[:DESCRIPTOR_BYTES], sys.byteorder)
            return msgspec.msgpack.decode(message, type=Told), descriptor
    return msgspec.msgpack.decode(message, type=Told), -1


def error_of(told: Told) -> PlatformError:
    """What went wrong inside, as an error."""
    if told.number == -1:
        return PlatformError.from_rpc(json.loads(told.failure))
    code = "storage-full" if told.number in (28, 122) else "failed"
    return PlatformError(code, told.failure or "it could not be done inside", errno=told.number)
