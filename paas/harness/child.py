"""The component's process: start, signal, kill, reap (platform document §4.6.2).

The child gives up what the harness has, in this order: control group (its own leaf),
files outside its rules, every descriptor but 0-3, session, user and capabilities, new privileges,
system calls; then it becomes the program.  What
goes wrong on the way is written to a pipe that a successful execve closes.

Descriptors of the component: 0 /dev/null, 1 and 2 pipes to the harness, 3 one end of a connected
socket pair, which is a channel like any other (`PAAS_FD`), for programs that cannot connect.
"""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from typing import NoReturn

from paas.harness.settings import Handoff
from paas.real import kernel_capabilities as power
from paas.real import kernel_landlock as landlock

CHANNEL_FD = 3
_ERROR_FD = 4
_DESCRIPTORS_END = 1 << 20
_SPARE_FIRST = 10
_ERROR_BYTES_MAX = 512
_PIPE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Child:
    """A process that is about to become the component; the descriptors are ours, not blocking."""

    pid: int
    stdout_fd: int
    stderr_fd: int
    error_fd: int
    channel: socket.socket | None


def start(handoff: Handoff, environment: dict[str, str], *, with_channel: bool) -> Child:
    """Fork the child; whether it could be executed is told by `error_fd`: text, or the end."""
    stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
    stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    ours: socket.socket | None = None
    theirs: socket.socket | None = None
    if with_channel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
    pid = os.fork()
    if pid == 0:
        standard = (stdin, stdout_write, stderr_write)
        _become(handoff, environment, standard, error_write, theirs)
    for fd in (stdin, stdout_write, stderr_write, error_write):
        os.close(fd)
    if theirs is not None:
        theirs.close()
    for fd in (stdout_read, stderr_read, error_read):
        os.set_blocking(fd, False)
    return Child(pid, stdout_read, stderr_read, error_read, ours)


def _become(
    handoff: Handoff,
    environment: dict[str, str],
    standard: tuple[int, int, int],
    error_fd: int,
    channel: socket.socket | None,
) -> NoReturn:
    """In the child.  Leaves only by execve or _exit."""
    try:
        for fd in handoff.cgroup_fds:
            os.write(fd, b"0")
        if handoff.rules_fd >= 0:
            landlock.restrict(handoff.rules_fd, landlock.version())
        _arrange_descriptors(standard, error_fd, -1 if channel is None else channel.fileno())
        error_fd = _ERROR_FD
        os.setsid()
        _reset_signals()
        os.chdir(handoff.cwd)
        if (os.getuid(), os.getgid()) != (handoff.component_uid, handoff.component_gid):
            ids = (handoff.component_uid, handoff.component_gid)
            power.become(*ids, handoff.capabilities)
        if handoff.seccomp_program:
            power.no_new_privileges()
            power.install_filter(handoff.seccomp_program)
        os.execvpe(handoff.command[0], list(handoff.command), environment)
    except BaseException as exc:
        try:
            os.write(error_fd, _said(exc, handoff).encode("utf-8", "replace")[:_ERROR_BYTES_MAX])
        finally:
            os._exit(127)


def _said(exc: BaseException, handoff: Handoff) -> str:
    if not isinstance(exc, OSError):
        return repr(exc)
    text = os.strerror(exc.errno) if exc.errno else str(exc)
    # The search in PATH names, in bytes, the last place it looked at: not what was asked for.
    what = exc.filename if isinstance(exc.filename, str) else handoff.command[0]
    return f"{what}: {text}"


def _arrange_descriptors(standard: tuple[int, int, int], error_fd: int, channel_fd: int) -> None:
    """0-2 standard, 3 channel (or nothing), 4 errors (closed by execve), no other.

    All are first copied out of the way, since any of them may stand where another one must go.
    """
    wanted = [*zip(standard, (0, 1, 2), strict=True), (error_fd, _ERROR_FD)]
    if channel_fd >= 0:
        wanted.append((channel_fd, CHANNEL_FD))
    spare = [(os.dup2(fd, _SPARE_FIRST + fd + 64, inheritable=False), to) for fd, to in wanted]
    for fd, to in spare:
        os.dup2(fd, to, inheritable=to != _ERROR_FD)
    if channel_fd < 0:
        os.closerange(CHANNEL_FD, CHANNEL_FD + 1)
    os.closerange(_ERROR_FD + 1, _DESCRIPTORS_END)


def _reset_signals() -> None:
    """Python ignores some signals, and what is ignored stays so in the program."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def send_signal(pid: int, number: int) -> None:
    """Not reaped yet means that the number is still its own."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def kill_all() -> None:
    """Kill everything in the container: all that pid 1 can see.

    Outside a PID namespace of its own (developers' runs) only the descendants we know are killed;
    the grandchildren of a killed child become our children and are found by the next call.
    """
    if os.getpid() == 1:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        return
    for pid in _children():
        send_signal(pid, signal.SIGKILL)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def reap() -> list[tuple[int, int]]:
    """The exit code (or minus the signal) of every ended child, adopted orphans too."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))
