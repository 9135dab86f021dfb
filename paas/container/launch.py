"""From a fork of the template to a harness in a container: what all back ends do, in this order.

    template ─fork─> parent ─(back end)─> first process of the container ══> harness
                                            ├─ waits for the controller's word, then calls it
                                            └─ `settle`: standard files, bounds, powers, filters

Between the fork and `settle` is the back end (`backends/`): who makes the namespaces and how the
first process comes to be in them.  Whatever it is, the first process is pid 1 of the container,
sees the tree of `tree.py` and keeps what `walls.py` leaves it.

The word of the controller ("go") comes after it has written the process's number in its journal.
So no harness runs that the journal does not know: when the controller dies earlier, the socket
ends, and this process with everything it has made.

Errors are told to the controller as {step, errno, text}; nothing is cleaned up here, because
everything made here ends with the process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from paas.container import limits, powers, tree, walls
from paas.container.plan import LaunchOrder
from paas.container.seccomp import Programs
from paas.harness.settings import Handoff
from paas.real import kernel_mounts as mounts
from paas.real import kernel_namespaces as namespaces

Harness = Callable[[Handoff], int]

READY = b"r"
"""What a process that forks containers says when it can take orders."""

GO = b"go"
EXIT_FILE = "exit.json"
LOG_FILE = "harness.log"


class Failure(msgspec.Struct, frozen=True):
    """A step that did not work."""

    step: str
    number: int
    text: str


class Status(msgspec.Struct, frozen=True):
    """What the forked processes tell the controller: the number, then readiness or failure."""

    pid: int | None = None
    """Pid 1 of the container; its descriptor comes with it."""
    beside: int | None = None
    """A process that a back end needs as long as the container lives; its descriptor too."""
    timings_ms: dict[str, float] = {}
    failure: Failure | None = None


class Reporter:
    """The socket to the controller, and a stop watch for the steps."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self._timings_ms: dict[str, float] = {}
        self._step = "fork"
        self._since = time.perf_counter()

    def step(self, name: str) -> None:
        """The step before ends, `name` begins."""
        now = time.perf_counter()
        self._timings_ms[self._step] = round((now - self._since) * 1e3, 3)
        self._step, self._since = name, now

    def ready(self) -> None:
        self.step("wait")
        self._send(Status(timings_ms=self._timings_ms))

    def failed(self, exc: BaseException) -> None:
        number = exc.errno or 0 if isinstance(exc, OSError) else 0
        text = exc.strerror or str(exc) if isinstance(exc, OSError) else repr(exc)
        self._send(Status(failure=Failure(self._step, number, text)))

    def _send(self, status: Status) -> None:
        try:
            self.socket.sendall(msgspec.msgpack.encode(status))
        except OSError:
            os._exit(1)  # nobody waits for us any more


@dataclass(frozen=True, slots=True)
class Start:
    """One launch, as the fork of the template knows it."""

    order: LaunchOrder
    reporter: Reporter
    network_fd: int
    programs: Programs
    harness: Harness


BackEnd = Callable[[Start], NoReturn]
"""Brings the first process of a container into its namespaces; see `backends/`."""


def launch(
    order_fd: int,
    status_fd: int,
    network_fd: int,
    programs: Programs,
    harness: Harness,
    back_ends: Mapping[str, BackEnd],
) -> NoReturn:
    """Runs in a fork of the template; never returns."""
    reporter = Reporter(status_fd)
    try:
        size = os.fstat(order_fd).st_size
        order = msgspec.msgpack.decode(os.pread(order_fd, size, 0), type=LaunchOrder)
        os.close(order_fd)
        reporter.step("enter")
        enter_groups(order)
        back_ends[order.backend](Start(order, reporter, network_fd, programs, harness))
    except BaseException as exc:
        reporter.failed(exc)
    os._exit(1)


def enter_groups(order: LaunchOrder) -> None:
    """Be in the container's groups from here on, and with it whatever is forked."""
    for path in order.harness_entrances:
        _write(path, b"0")


@dataclass(frozen=True, slots=True)
class Outside:
    """What the first process takes along from the host: descriptors, and nothing else."""

    exit_fd: int
    log_fd: int
    hub_fd: int
    cgroup_fds: tuple[int, ...]


def separate() -> None:
    """Leave the session and the signal handling of the template."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def open_outside(order: LaunchOrder) -> Outside:
    """In a mount namespace of the container's, before its tree covers the host's directories."""
    exit_fd, log_fd = _open_files(order.directory)
    entrances = order.component_entrances
    cgroup_fds = tuple(os.open(p, os.O_WRONLY | os.O_CLOEXEC) for p in entrances)
    hub_fd = mounts.detached_view(order.hub_dir, mounts.READ_ONLY | tree.DATA_ONLY)
    return Outside(exit_fd, log_fd, hub_fd, cgroup_fds)


def settle(start: Start, outside: Outside) -> NoReturn:
    """From user 0 of the container, in all its namespaces, to the harness."""
    reporter = start.reporter
    try:
        reporter.step("power")
        handoff = _give_up(start, outside)
        reporter.ready()
        word = reporter.socket.recv(len(GO))
        reporter.socket.close()
    except BaseException as exc:
        reporter.failed(exc)
        os._exit(1)
    if word != GO:
        os._exit(1)
    os._exit(_run(start.harness, handoff))


def _run(harness: Harness, handoff: Handoff) -> int:
    """The harness, whose last words must reach the log even if it fails."""
    try:
        return harness(handoff) & 0xFF
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 70
    finally:
        try:
            sys.stderr.flush()
        except OSError:
            os._exit(70)


def _give_up(start: Start, outside: Outside) -> Handoff:
    order, programs = start.order, start.programs
    keep = {outside.exit_fd, outside.hub_fd, *outside.cgroup_fds, start.reporter.socket.fileno()}
    _standard_files(outside.log_fd)
    namespaces.close_all_but({0, 1, 2} | keep)
    rules_fd = walls.file_rules(order)
    walls.give_up_power(programs, order.capabilities)
    return Handoff(
        component=order.component,
        incarnation=order.incarnation,
        command=order.command,
        environment=order.environment,
        cwd=order.cwd,
        protocol=order.protocol,
        configuration=order.configuration,
        endpoints=order.endpoints,
        hub_directory_fd=outside.hub_fd,
        exit_file_fd=outside.exit_fd,
        cgroup_fds=outside.cgroup_fds,
        component_uid=limits.COMPONENT_UID,
        component_gid=limits.COMPONENT_GID,
        seccomp_program=programs.component,
        ready_timeout_s=order.ready_timeout_s,
        capabilities=powers.numbers(order.capabilities),
        rules_fd=rules_fd,
    )


def _open_files(directory: str) -> tuple[int, int]:
    how = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    exit_fd = os.open(f"{directory}/{EXIT_FILE}", how | os.O_TRUNC, 0o600)
    log_fd = os.open(f"{directory}/{LOG_FILE}", how | os.O_APPEND, 0o600)
    return exit_fd, log_fd


def _standard_files(log_fd: int) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for source, target in ((null, 0), (null, 1), (log_fd, 2)):
        os.dup2(source, target, inheritable=True)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
