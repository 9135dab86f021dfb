"""The controller's end of the template process: starting it, asking for forks, ending containers.

The template is started again when it has died; a launch that was under way then fails and can be
repeated.  A launched process is held by a descriptor, never by its number alone.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field

import msgspec
import trio
import trio.socket

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.hooks.contract import Process
from paas.container.launch import GO, Failure, Status
from paas.container.plan import LaunchOrder
from paas.container.reaping import WaitStatus
from paas.container.template import READY
from paas.real import kernel_namespaces as namespaces
from paas.real.kernel_cgroup import Cgroups
from paas.real.kernel_store import sealed_order

_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Variables that the template needs to find Python's modules; a harness never looks at them."""

_DESCRIPTOR_BYTES = 4


@dataclass(slots=True)
class LaunchedProcess:
    """Pid 1 of a container, held by its descriptor."""

    pid: int
    start_ticks: int
    pidfd: int
    timings_ms: dict[str, float] = field(default_factory=dict)
    status: trio.socket.SocketType | None = None
    ended: WaitStatus | None = None

    async def go(self) -> None:
        if self.status is None:
            raise AssertionError("an adopted process has been told to go long ago")
        await self.status.send(GO)
        self.status.close()
        self.status = None

    async def wait(self) -> None:
        """Return when it has ended; it is reaped if it is ours to reap."""
        if self.pidfd >= 0:
            await trio.lowlevel.wait_readable(self.pidfd)
            self.ended = self.ended or await reap(self.pid, self.pidfd)

    def kill(self) -> None:
        """SIGKILL for everything in the container; no error when it is gone."""
        if self.pidfd >= 0:
            namespaces.kill_process(self.pidfd)

    async def end(self) -> None:
        """Kill it, and with it everything in its container; return when it has ended."""
        if self.status is not None:
            await _drain(self.status, self)
        self.kill()
        await self.wait()
        self.close()

    def close(self) -> None:
        if self.status is not None:
            self.status.close()
            self.status = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


async def reap(pid: int, pidfd: int) -> WaitStatus | None:
    """The status of a process that has ended; None when it is another process's child.

    Its parent may be just about to end and to leave it to us, or to reap it: look again for a
    while, as long as it is there.
    """
    for _ in range(limits.REAP_TRIES):
        try:
            # Never blocks: WNOHANG.
            found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222
        except ChildProcessError:
            found = None
        if found is not None:
            return _wait_status(found)
        if namespaces.start_ticks(pid) is None:
            return None
        await trio.sleep(limits.REAP_PAUSE_S)
    return None


def _wait_status(found: os.waitid_result) -> WaitStatus:
    if found.si_code == os.CLD_EXITED:
        return WaitStatus(code=found.si_status)
    return WaitStatus(signal=found.si_status)


class TemplateLauncher:
    """Forks containers off one template process."""

    def __init__(self, harness: str, groups: Cgroups) -> None:
        self._harness = harness
        self._groups = groups
        self._process: subprocess.Popen[bytes] | None = None
        self._control: trio.socket.SocketType | None = None
        self._lock = trio.Lock()

    async def open(self) -> None:
        """Start the template if it does not run; return when it is ready."""
        async with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._forget()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            environment = {k: os.environ[k] for k in _INHERITED if k in os.environ}
            try:
                self._process = await trio.to_thread.run_sync(
                    lambda: subprocess.Popen(
                        [sys.executable, "-m", "paas.container.template", self._harness],
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
            self._forget()
            raise PlatformError("internal", "the template process does not start")

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the template; containers are not touched."""
        self._forget()

    @property
    def template_pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def launch(self, order: LaunchOrder, network_fd: int) -> LaunchedProcess:
        """Fork pid 1 of a container and bring it to the point where it waits for its word."""
        data = msgspec.msgpack.encode(order)
        if len(data) > limits.ORDER_BYTES_MAX:
            raise PlatformError("limit-exceeded", "the container's description is too large")
        await self.open()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status = trio.socket.from_stdlib_socket(ours)
        process = LaunchedProcess(-1, -1, -1, status=status)
        try:
            with theirs:
                order_fd = sealed_order(data)
                try:
                    await self._ask([order_fd, theirs.fileno(), network_fd])
                finally:
                    os.close(order_fd)
            await _follow(status, process)
        except BaseException:
            await self._abandon(order.component, process)
            raise
        return process

    async def _ask(self, fds: list[int]) -> None:
        if self._control is None:
            raise PlatformError("internal", "the template process has ended")
        rights = b"".join(fd.to_bytes(_DESCRIPTOR_BYTES, sys.byteorder) for fd in fds)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        try:
            await self._control.sendmsg([b"l"], ancillary)
        except OSError as exc:
            raise PlatformError("internal", "the template process has ended") from exc

    async def _abandon(self, component: str, process: LaunchedProcess) -> None:
        with trio.CancelScope(shield=True):
            await self.end(component, process)

    async def end(self, component: str, process: Process | None) -> None:
        """Kill pid 1, and with it everything in its container; return when all are gone."""
        self._groups.lift_io(component)
        if process is not None:
            await process.end()
        while pids := self._groups.processes(component):
            # Forks of a launch that failed half-way, or of a controller that was killed.
            for pid in pids:
                await _kill(pid)


async def _kill(pid: int) -> None:
    try:
        pidfd = namespaces.open_process(pid)
    except ProcessLookupError:
        return
    try:
        namespaces.kill_process(pidfd)
        with trio.move_on_after(1):
            await trio.lowlevel.wait_readable(pidfd)
        await reap(pid, pidfd)
    finally:
        os.close(pidfd)


async def _drain(status: trio.socket.SocketType, process: LaunchedProcess) -> None:
    """After this nobody is on the way to become this container's pid 1 any more.

    The end of the socket tells that every fork that held it has ended, also one that the template
    had not even begun.  Pid 1 ends by itself when it reads the end instead of its word; if it is
    held up it is killed.
    """
    status.shutdown(socket.SHUT_WR)
    while True:
        process.kill()
        told, pidfd = await _receive(status)
        if told is None:
            return
        if told.pid is not None:
            process.pid, process.pidfd = told.pid, pidfd


async def _receive(status: trio.socket.SocketType) -> tuple[Status | None, int]:
    space = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)
    try:
        message, ancillary, _, _ = await status.recvmsg(limits.STATUS_BYTES_MAX, space)
    except ConnectionResetError:
        return None, -1
    if not message:
        return None, -1
    told = msgspec.msgpack.decode(message, type=Status)
    return told, _descriptor(ancillary) if told.pid is not None else -1


async def _follow(status: trio.socket.SocketType, process: LaunchedProcess) -> None:
    """Read what the forks tell until pid 1 is ready; the two of them may speak in any order."""
    ready = False
    while not (ready and process.pidfd >= 0):
        told, pidfd = await _receive(status)
        if told is None:
            raise PlatformError("internal", "the container's first process ended while it was made")
        if told.failure is not None:
            raise _error(told.failure)
        if told.pid is not None:
            process.pid = told.pid
            process.pidfd = pidfd
            process.start_ticks = namespaces.start_ticks(told.pid) or 0
        else:
            process.timings_ms = told.timings_ms
            ready = True


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fd = int.from_bytes(data[:_DESCRIPTOR_BYTES], sys.byteorder)
            os.set_inheritable(fd, False)
            return fd
    raise PlatformError("internal", "the container's process came without its descriptor")


def _error(failure: Failure) -> PlatformError:
    if failure.number in {errno.ENOSYS, errno.ENODEV, errno.EOPNOTSUPP}:
        code = "unsupported"
    elif failure.number in {errno.ENOSPC, errno.EDQUOT}:
        code = "storage-full"
    else:
        code = "failed"
    message = f"the container could not be made: {failure.step}: {failure.text}"
    return PlatformError(code, message, step=failure.step, errno=failure.number)
