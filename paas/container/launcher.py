"""The controller's end of the template process: starting it, asking for forks, ending containers.

The template is started again when it has died; a launch that was under way then fails and can be
repeated.  A launched process is held by a descriptor, never by its number alone.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import weakref
from dataclasses import dataclass, field

import msgspec
import trio
import trio.socket

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.fork_server import DESCRIPTOR_BYTES, ForkServer
from paas.container.hooks.contract import Process
from paas.container.launch import GO, Failure, Status
from paas.container.plan import LaunchOrder
from paas.container.reaping import WaitStatus
from paas.container.template import FORK, SPARE, SPARED
from paas.real import kernel_namespaces as namespaces
from paas.real import kernel_orphans
from paas.real.kernel_cgroup import Cgroups
from paas.real.kernel_store import sealed_order

_held: weakref.WeakSet[LaunchedProcess] = weakref.WeakSet()
"""All of this process: children are a process's, not a launcher's."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class LaunchedProcess:
    """Pid 1 of a container, held by its descriptor."""

    pid: int
    start_ticks: int
    pidfd: int
    beside: list[tuple[int, int]] = field(default_factory=list)
    """(number, descriptor) of what the back end needs besides: of no use without pid 1, nor one of
    them without the one before it, whose child it is."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    status: trio.socket.SocketType | None = None
    ended: WaitStatus | None = None

    def __post_init__(self) -> None:
        _held.add(self)

    @property
    def numbers(self) -> list[int]:
        own = [self.pid] if self.pidfd >= 0 else []
        return own + [pid for pid, _ in self.beside]

    async def go(self) -> None:
        if self.status is None:
            raise AssertionError("an adopted process has been told to go long ago")
        try:
            await self.status.send(GO)
        except OSError as exc:
            raise _ended_early() from exc
        self.status.close()
        self.status = None

    async def wait(self) -> None:
        """Return when it has ended; it is reaped if it is ours to reap."""
        if self.pidfd >= 0:
            async with trio.open_nursery() as nursery:
                if self.beside:
                    nursery.start_soon(self._mind)
                await trio.lowlevel.wait_readable(self.pidfd)
                nursery.cancel_scope.cancel()
            self.ended = self.ended or await reap(self.pid, self.pidfd)
        while self.beside:
            await _kill_and_close(*self.beside.pop(0))

    async def _mind(self) -> None:
        """Whose parent has ended is ours to reap.

        The kernel lets pid 1 end only when all others of its PID namespace have been reaped.
        """
        while self.beside:
            pid, pidfd = self.beside[0]
            await trio.lowlevel.wait_readable(pidfd)
            await reap(pid, pidfd)
            os.close(self.beside.pop(0)[1])
            if self.beside:
                namespaces.kill_process(self.beside[0][1])

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
        while self.beside:
            os.close(self.beside.pop()[1])


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
        self._groups = groups
        self._template = ForkServer("template", "paas.container.template", harness)

    async def open(self) -> None:
        """Start the template if it does not run; return when it is ready."""
        await self._template.start()

    def close(self) -> None:
        """End the template; containers are not touched."""
        self._template.close()

    @property
    def template_pid(self) -> int | None:
        return self._template.pid

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
                    word = SPARE if order.backend in SPARED else FORK
                    await self._template.order(word, [order_fd, theirs.fileno(), network_fd])
                finally:
                    os.close(order_fd)
            await _follow(status, process)
        except BaseException:
            await self._abandon(order.component, process)
            raise
        return process

    async def _abandon(self, component: str, process: LaunchedProcess) -> None:
        with trio.CancelScope(shield=True):
            await self.end(component, process)
            await _reap_strangers()

    async def end(self, component: str, process: Process | None) -> None:
        """Kill pid 1, and with it everything in its container; return when all are gone."""
        self._groups.let_die(component)
        if process is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep, component, process)
                await process.end()
                nursery.cancel_scope.cancel()
        while pids := self._groups.processes(component):
            # Forks of a launch that failed half-way, or of a controller that was killed.
            for pid in pids:
                await _kill(pid)

    async def _sweep(self, component: str, process: Process) -> None:
        """End what nobody told us of: it would keep pid 1 from ending."""
        while True:
            await trio.sleep(limits.SWEEP_PAUSE_S)
            for pid in self._groups.processes(component):
                if pid not in process.numbers:
                    await _kill(pid)
            await _reap_strangers()


async def reap_always() -> None:
    """Until cancelled: look for those whom nobody else would reap.

    While one of them is left, pid 1 of its container cannot end: whoever waits for that waits on.
    Reaped is who was a stranger the time before too: a container that is just being started is one
    until its launcher has heard of it, and how it ended must not be lost.
    """
    before: set[int] = set()
    while True:
        await trio.sleep(limits.STRANGERS_PAUSE_S)
        found = await trio.to_thread.run_sync(kernel_orphans.strangers, _numbers())
        kernel_orphans.reap(found & before - _numbers())
        before = found


async def _reap_strangers() -> None:
    """Those whose parents were killed before they could tell us of them."""
    await trio.to_thread.run_sync(kernel_orphans.reap_strangers, _numbers())


def _numbers() -> set[int]:
    return {number for process in list(_held) for number in process.numbers}


async def _kill(pid: int) -> None:
    try:
        pidfd = namespaces.open_process(pid)
    except ProcessLookupError:
        return
    await _kill_and_close(pid, pidfd)


async def _kill_and_close(pid: int, pidfd: int) -> None:
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
        if told.beside is not None:
            process.beside.append((told.beside, pidfd))


async def _receive(status: trio.socket.SocketType) -> tuple[Status | None, int]:
    space = socket.CMSG_SPACE(DESCRIPTOR_BYTES)
    try:
        message, ancillary, _, _ = await status.recvmsg(limits.STATUS_BYTES_MAX, space)
    except ConnectionResetError:
        return None, -1
    if not message:
        return None, -1
    told = msgspec.msgpack.decode(message, type=Status)
    named = told.pid is not None or told.beside is not None
    return told, _descriptor(ancillary) if named else -1


async def _follow(status: trio.socket.SocketType, process: LaunchedProcess) -> None:
    """Read what the forks tell until pid 1 is ready; the two of them may speak in any order."""
    ready = False
    while not (ready and process.pidfd >= 0):
        told, pidfd = await _receive(status)
        if told is None:
            raise _ended_early()
        if told.failure is not None:
            raise _error(told.failure)
        if told.pid is not None:
            process.pid = told.pid
            process.pidfd = pidfd
            process.start_ticks = namespaces.start_ticks(told.pid) or 0
        elif told.beside is not None:
            process.beside.append((told.beside, pidfd))
        else:
            process.timings_ms = told.timings_ms
            ready = True


def _ended_early() -> PlatformError:
    return PlatformError("internal", "the container's first process ended while it was made")


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fd = int.from_bytes(data[:DESCRIPTOR_BYTES], sys.byteorder)
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
