"""Machines for development and tests: processes that see nothing but themselves and a link.

    caller ── fork ── child ── fork ── process 1 of the machine ── exec
              session,          own /proc, host name, waits at the gate
              namespaces

A machine is a process in new pid, network, mount and host name namespaces.  It is process 1 there:
when it ends, however it ends, the kernel kills everything else of the machine at once, and with
the last process go its mounts and links.  That is a power cut (pid_namespaces(7)).

The gate: after `start` process 1 waits, so that its network can be prepared from outside; `go` lets
it become its program; `abandon`, or the death of the caller, ends it.  Once it runs it is nobody's
child but the machine's own init's, and needs no one.

Not done here: control groups (each node has its own by its name), other limits, the link itself
(`kernel_netlink.Switch`).  A process is named by number *and* start time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paas.real.kernel_mounts import NO_DEV, NO_EXEC, NO_SUID, make_private, mount
from paas.real.kernel_namespaces import (
    NEW_HOST_NAME,
    NEW_MOUNT,
    NEW_NETWORK,
    NEW_PID,
    enter,
    set_host_name,
    start_ticks,
    unshare,
)

_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Python ignores the first two, a shell's background job the third: not what a machine inherits."""


@dataclass(frozen=True, slots=True)
class Program:
    """What process 1 becomes.  `passed` are descriptors that it keeps, under the same numbers."""

    command: Sequence[str]
    environment: Mapping[str, str]
    log: str
    passed: tuple[int, ...] = ()


class Waiting:
    """A machine whose process 1 waits at the gate."""

    def __init__(self, pid: int, ticks: int, gate: int) -> None:
        self.pid = pid
        self.ticks = ticks
        self._gate = gate

    @property
    def network(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def go(self) -> None:
        """Open the gate.  Raises OSError when the machine has ended meanwhile."""
        try:
            os.write(self._gate, b"x")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the gate: a machine that still waits ends."""
        if self._gate >= 0:
            os.close(self._gate)
        self._gate = -1


def start(host_name: str, program: Program) -> Waiting:
    """A new machine, waiting.  Raises OSError with what the kernel refused."""
    gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
    told_read, told_write = os.pipe2(os.O_CLOEXEC)
    # Whoever forks later must not hold this gate open; what is buffered must not be written twice.
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _in_child(host_name, program, gate_read, gate_write, told_write)
    os.close(gate_read)
    os.close(told_write)
    with open(told_read, encoding="utf-8", errors="replace") as told:
        said = told.read()
    os.waitpid(child, 0)
    pid, _, error = said.partition("\n")
    ticks = start_ticks(int(pid)) if pid.isdigit() else None
    if error or ticks is None:
        os.close(gate_write)
        raise OSError(error or "the machine ended before its program began")
    return Waiting(int(pid), ticks, gate_write)


def _in_child(
    host_name: str, program: Program, gate_read: int, gate_write: int, told_write: int
) -> None:
    """Never returns, whatever happens: this is a copy of the caller."""
    status = 1
    try:
        os.close(gate_write)
        os.setsid()
        unshare(NEW_PID | NEW_NETWORK | NEW_MOUNT | NEW_HOST_NAME)
        first = os.fork()
        if first:
            os.write(told_write, f"{first}\n".encode())
            status = 0
        else:
            _become_first(host_name, program, gate_read, told_write)
    except BaseException as exc:
        with contextlib.suppress(OSError):
            os.write(told_write, f"\n{exc}".encode())
    finally:
        os._exit(status)


def _become_first(host_name: str, program: Program, gate_read: int, told_write: int) -> None:
    make_private()
    mount("proc", "/proc", "proc", NO_SUID | NO_DEV | NO_EXEC)
    set_host_name(host_name)
    for number in _RESTORED:
        signal.signal(number, signal.SIG_DFL)
    empty = os.open("/dev/null", os.O_RDONLY)
    log = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, place in ((empty, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place, inheritable=True)
    for descriptor in program.passed:
        os.set_inheritable(descriptor, True)
    os.chdir("/")
    # Said only now: whoever reads this knows that nothing but the program itself can fail.
    os.close(told_write)
    if os.read(gate_read, 1):
        os.execve(program.command[0], list(program.command), dict(program.environment))


@contextlib.contextmanager
def inside(network: str) -> Iterator[None]:
    """This thread, and what it starts meanwhile, in another network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(there, NEW_NETWORK)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter(home, NEW_NETWORK)
    finally:
        os.close(home)


def processes(pid: int) -> list[int]:
    """The machine's process 1 and all its descendants, parents first.

    Orphans of a machine become children of its process 1, so this misses nobody who was there.
    """
    found = [pid]
    for parent in found:  # grows while it is walked
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += [int(w) for w in (thread / "children").read_text().split()]
    return found
