"""From a fork of the template to pid 1 of a container: what the forked child does, in order.

    template ─fork─> parent ─fork─> first ══> pid 1 of the container ══> harness
                       │              │
                       │              ├─ own mount, name, IPC and cgroup namespaces; file system
                       ├─ id maps <── ├─ own user namespace, asked for last
                       └─ ends        ├─ users, capabilities, filters given up
                                      └─ waits for the controller's word, then calls the harness

Why the user namespace comes last: a namespace belongs to the user namespace it was made in.  Made
before it, the mount, network, name, IPC, PID and cgroup namespaces belong to the host's: whatever
capability anybody ever gains inside counts for nothing over them.  No mount or link can be changed
from inside even by a process with every capability there is in there.

The word of the controller ("go") comes after it has written the process's number in its journal.
So no harness runs that the journal does not know: when the controller dies earlier, the socket
ends, and this process with everything it has made.

Errors are told to the controller as {step, errno, text}; nothing is cleaned up here, because
everything made here ends with the process.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import msgspec

from paas.container import limits, tree, walls
from paas.container.plan import APP, LaunchOrder
from paas.container.seccomp import Programs
from paas.harness.settings import Handoff
from paas.real import kernel_capabilities as power
from paas.real import kernel_mounts as mounts
from paas.real import kernel_namespaces as namespaces

Harness = Callable[[Handoff], int]

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


def launch(
    order_fd: int, status_fd: int, network_fd: int, programs: Programs, harness: Harness
) -> NoReturn:
    """Runs in a fork of the template; never returns."""
    reporter = Reporter(status_fd)
    try:
        size = os.fstat(order_fd).st_size
        order = msgspec.msgpack.decode(os.pread(order_fd, size, 0), type=LaunchOrder)
        reporter.step("enter")
        for path in order.harness_entrances:
            _write(path, b"0")
        namespaces.enter(network_fd, namespaces.NEW_NETWORK)
        namespaces.unshare(namespaces.NEW_PID)
        here, there = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            here.close()
            os.close(order_fd)
            os.close(network_fd)
            _first(order, reporter, there, programs, harness)
        there.close()
        _parent(order, reporter, here, pid)
    except BaseException as exc:
        reporter.failed(exc)
    os._exit(1)


def _parent(order: LaunchOrder, reporter: Reporter, here: socket.socket, pid: int) -> NoReturn:
    """Name the child to the controller, write its maps when it asks, and end.

    Ending makes the controller (the nearest reaper above) the child's parent.
    """
    pidfd = namespaces.open_process(pid)
    message = msgspec.msgpack.encode(Status(pid=pid))
    socket.send_fds(reporter.socket, [message], [pidfd])
    if here.recv(1):
        proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        namespaces.write_id_maps(proc_fd, pid, order.uid_base, limits.UIDS_PER_CONTAINER)
        here.send(b"m")
    os._exit(0)


def _first(
    order: LaunchOrder,
    reporter: Reporter,
    parent: socket.socket,
    programs: Programs,
    harness: Harness,
) -> NoReturn:
    try:
        handoff = _isolate(order, reporter, parent, programs)
        reporter.ready()
        word = reporter.socket.recv(len(GO))
        reporter.socket.close()
    except BaseException as exc:
        reporter.failed(exc)
        os._exit(1)
    if word != GO:
        os._exit(1)
    os._exit(_run(harness, handoff))


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


def _isolate(
    order: LaunchOrder, reporter: Reporter, parent: socket.socket, programs: Programs
) -> Handoff:
    """Everything between the fork and the harness; the order of the steps is the security."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    reporter.step("files")
    exit_fd, log_fd = _open_files(order.directory)
    cgroup_fds = tuple(os.open(p, os.O_WRONLY | os.O_CLOEXEC) for p in order.component_entrances)
    reporter.step("namespaces")
    namespaces.unshare(
        namespaces.NEW_MOUNT | namespaces.NEW_HOST_NAME | namespaces.NEW_IPC | namespaces.NEW_CGROUP
    )
    namespaces.set_host_name(order.host_name)
    mounts.make_private()
    hub_fd = mounts.detached_view(order.hub_dir, mounts.READ_ONLY | tree.DATA_ONLY)
    reporter.step("layer")
    tree.build_layer(order)
    reporter.step("root")
    tree.build_root(order)
    reporter.step("pivot")
    mounts.change_root(f"{order.directory}/{tree.ROOT}")
    tree.finish_proc()
    reporter.step("user")
    _enter_user_namespace(parent)
    reporter.step("power")
    keep = {exit_fd, hub_fd, *cgroup_fds, reporter.socket.fileno()}
    _standard_files(log_fd)
    namespaces.close_all_but({0, 1, 2} | keep)
    walls.give_up_power(programs)
    return Handoff(
        component=order.component,
        incarnation=order.incarnation,
        command=order.command,
        environment=order.environment,
        cwd=APP,
        protocol=order.protocol,
        configuration=order.configuration,
        endpoints=order.endpoints,
        hub_directory_fd=hub_fd,
        exit_file_fd=exit_fd,
        cgroup_fds=cgroup_fds,
        component_uid=limits.COMPONENT_UID,
        component_gid=limits.COMPONENT_GID,
        seccomp_program=programs.component,
        ready_timeout_s=order.ready_timeout_s,
    )


def _open_files(directory: str) -> tuple[int, int]:
    how = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    exit_fd = os.open(f"{directory}/{EXIT_FILE}", how | os.O_TRUNC, 0o600)
    log_fd = os.open(f"{directory}/{LOG_FILE}", how | os.O_APPEND, 0o600)
    return exit_fd, log_fd


def _enter_user_namespace(parent: socket.socket) -> None:
    power.leave_keyrings()
    namespaces.unshare(namespaces.NEW_USER)
    parent.send(b"u")
    if parent.recv(1) != b"m":
        raise OSError(errno.EPERM, "the id maps were not written")
    parent.close()
    power.become(0, 0)


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
