"""A process of ours that forks others on demand: starting it, sending it orders, ending it (io).

    owner ── word, descriptors ──> fork server ── fork ──> ...

It is started with the first order and again when it has died; an order that was under way then
fails and can be repeated.  Orders are messages of one socket (SOCK_SEQPACKET), which is the
server's standard input: it ends when that is closed.  Of the environment it gets what Python needs
to find its modules, and nothing else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import trio
import trio.socket

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.launch import READY

DESCRIPTOR_BYTES = 4

_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")


class ForkServer:
    """One such process; `name` is what errors call it."""

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        self._name = name
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._control: trio.socket.SocketType | None = None
        self._lock = trio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Return when it takes orders.  Raises `internal` when it cannot be brought to that."""
        async with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self.close()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            environment = {k: os.environ[k] for k in _INHERITED if k in os.environ}
            try:
                self._process = await trio.to_thread.run_sync(
                    lambda: subprocess.Popen(
                        self._command,
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        env=environment,
                        cwd="/",
                        start_new_session=True,
                    )
                )
            finally:
                theirs.close()
            self._control = trio.socket.from_stdlib_socket(ours)
            with trio.move_on_after(limits.HOOK_DEADLINE_S):
                if await self._control.recv(len(READY)) == READY:
                    return
            self.close()
            raise PlatformError("internal", f"the {self._name} process does not start")

    async def order(self, word: bytes, descriptors: list[int]) -> None:
        """Send one order with its descriptors.  Raises `internal` when the process has ended."""
        rights = b"".join(fd.to_bytes(DESCRIPTOR_BYTES, sys.byteorder) for fd in descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        try:
            if self._control is None:
                raise OSError("it was ended")
            await self._control.sendmsg([word], ancillary)
        except OSError as exc:
            raise PlatformError("internal", f"the {self._name} process has ended") from exc

    def close(self) -> None:
        """End it; what it forked is not touched."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
