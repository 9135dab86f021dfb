"""The entrance: the process from which people's commands go into containers that run.

    entrance ─fork─> minder ══ enters all namespaces, gives up power ══ ─fork─> inside
                       │                                                          │
                       │ waits, signals it, tells how it ended         a command, or copying files
                       └──────── status socket ──> controller <── terminal, failure ┘

One thread, no event loop, no descriptor of the host but its control socket.  Each message on that
brings an order in a nameless file, a status socket, the descriptor of the container's first process
and what the order needs besides (pipes).  The minder outlives neither its command nor its caller:
the end of the status socket kills the command and what is in its process group.

What a hostile component can reach of this.  The minder is in the namespaces of the container but
not in its PID namespace, so nobody inside can name it.  The process inside is first seen there when
it has the walls of the component already (walls.py), is undumpable and holds no descriptor but its
standard files, the status socket and the entrances of its control group, all closed by the execve.
After the entry nothing is imported any more: modules, like users' names, would come from the
container's files.  So there is nothing of the host's to be had (CVE-2019-5736: the program that
runs us; CVE-2024-21626: a directory left open; CVE-2019-14271: libraries loaded inside), and
besides user 0 in there is nobody outside.

Started as `python -m paas.container.entrance` with the control socket as standard input.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

import msgspec

from paas.base.errors import PlatformError
from paas.bundle import copying
from paas.container import limits, walls
from paas.container.launch import READY
from paas.container.plan import LaunchOrder
from paas.container.seccomp import Programs, compile_programs
from paas.real import kernel_capabilities as power
from paas.real import kernel_enter as entry
from paas.real import kernel_landlock as landlock
from paas.real import kernel_namespaces as namespaces

DESCRIPTORS_MAX = 6
_PIECE_BYTES = 64 << 10

Kind = Literal["exec", "connect", "read", "write"]


class EnterOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done inside.  Paths of control groups are the host's, all others inside."""

    kind: Kind
    entrances: tuple[str, ...] = ()
    uid: int = limits.COMPONENT_UID
    gid: int = limits.COMPONENT_GID
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    cwd: str = "/"
    terminal: bool = False
    rows: int = 24
    columns: int = 80
    address: tuple[str, int] = ("", 0)
    path: str = ""
    name: str = ""
    read_only: tuple[str, ...] = ()
    """Directories of the root that show the host's files."""
    writable: tuple[str, ...] = ()
    """Mount points below it that are written to."""


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes back: one thing each."""

    pid: int | None = None
    """The process inside has this number here."""
    terminal: bool = False
    """The descriptor that comes along is its terminal."""
    connected: bool = False
    """The descriptor that comes along is the connection."""
    copied: dict[str, Any] | None = None
    failure: str = ""
    number: int = 0
    """errno of the failure; -1: an error of the catalogue, in `failure` as JSON."""
    program: bool = False
    """What failed is the execution of the program: everything before it was done."""
    ended: int | None = None
    """Exit code, or minus the signal."""


class Tell(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller says meanwhile."""

    signal: int


@dataclass(slots=True)
class _Work:
    """One order, as the forked process knows it."""

    order: EnterOrder
    status: socket.socket
    pidfd: int
    files: tuple[int, ...]
    programs: Programs

    def tell(self, told: Told, *descriptors: int) -> None:
        message = msgspec.msgpack.encode(told)
        if descriptors:
            socket.send_fds(self.status, [message], [*descriptors])
        else:
            self.status.sendall(message)

    def failed(self, exc: BaseException) -> None:
        text, number = repr(exc), 0
        if isinstance(exc, OSError):
            number, text = exc.errno or 0, exc.strerror or str(exc)
            if isinstance(exc.filename, str):
                text = f"{exc.filename}: {text}"
        elif isinstance(exc, PlatformError):
            number, text = -1, json.dumps(exc.to_rpc())
        try:
            self.tell(Told(failure=text[:1_000] if number >= 0 else text, number=number or 5))
        except OSError:
            os._exit(1)  # nobody waits for us any more


def main() -> int:
    """Serve orders until the control socket ends."""
    programs = compile_programs()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the minders
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    gc.collect()
    gc.freeze()
    control.send(READY)
    while _serve(control, programs):
        pass
    return 0


def _serve(control: socket.socket, programs: Programs) -> bool:
    message, fds, _, _ = socket.recv_fds(control, 1, DESCRIPTORS_MAX)
    if not message:
        return False
    if len(fds) >= 3 and os.fork() == 0:
        control.close()
        _work(fds, programs)
    for fd in fds:
        os.close(fd)
    return True


def _work(fds: list[int], programs: Programs) -> NoReturn:
    """In a fork of the entrance."""
    order_fd, status_fd, pidfd, *files = fds
    status = socket.socket(fileno=status_fd)
    work: _Work | None = None
    try:
        os.setsid()
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        size = os.fstat(order_fd).st_size
        order = msgspec.msgpack.decode(os.pread(order_fd, size, 0), type=EnterOrder)
        os.close(order_fd)
        work = _Work(order, status, pidfd, tuple(files), programs)
        power.undumpable()
        if order.kind == "connect":
            _connect(work)
        else:
            _mind(work)
    except BaseException as exc:
        if work is not None:
            work.failed(exc)
    os._exit(1)


def _connect(work: _Work) -> None:
    """A connection made inside, and handed out."""
    entry.enter_network(work.pidfd)
    found = socket.socket(socket.AF_INET6 if ":" in work.order.address[0] else socket.AF_INET)
    found.settimeout(limits.CONNECT_S)
    found.connect(work.order.address)
    work.tell(Told(connected=True), found.fileno())
    os._exit(0)


# -- the minder -----------------------------------------------------------------------------------


def _mind(work: _Work) -> NoReturn:
    order = work.order
    power.leave_keyrings()
    os.dup2(0, 2)  # the controller's standard error is the host's
    groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in order.entrances]
    entry.enter_container(work.pidfd)
    _import_nothing_more()
    os.chdir("/")
    power.become(0, 0)
    power.undumpable()
    rules = walls.file_rules(cast(LaunchOrder, _Tree(order)), scoped=False)
    keep = {0, 1, 2, work.status.fileno(), *work.files, *groups}
    namespaces.close_all_but(keep | ({rules} if rules >= 0 else set()))
    walls.give_up_power(work.programs)
    pid = os.fork()
    if pid == 0:
        _inside(work, groups, rules)
    for fd in (*groups, *work.files, *([rules] if rules >= 0 else [])):
        os.close(fd)
    with contextlib.suppress(OSError):  # the caller has gone: `_watch` sees that, and ends it
        work.tell(Told(pid=pid))
    os._exit(_watch(work, pid))


def _import_nothing_more() -> None:
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


@dataclass(frozen=True, slots=True)
class _Mount:
    path: str


class _Tree:
    """The container's tree as `walls.file_rules` asks of an order: what is the host's in it, and
    what is written to inside of that.  Whatever else it may ask about there is none of.
    """

    def __init__(self, order: EnterOrder) -> None:
        self.binds = tuple(("", path) for path in order.read_only)
        self.volumes = tuple(_Mount(path) for path in order.writable)

    def __getattr__(self, _name: str) -> tuple[()]:
        return ()


def _watch(work: _Work, pid: int) -> int:
    """Until the process inside has ended; kill it when nobody listens any more."""
    process = namespaces.open_process(pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(work.status, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if work.status.fileno() in ready and not _told(work, pid):
            poll.unregister(work.status)
            _signal(pid, signal.SIGKILL)
        if process in ready:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work.tell(Told(ended=code))
    except OSError:
        return 1
    return 0


def _told(work: _Work, pid: int) -> bool:
    try:
        message = work.status.recv(256)
    except ConnectionResetError:  # the caller has gone without reading what we said
        return False
    if not message:
        return False
    _signal(pid, msgspec.msgpack.decode(message, type=Tell).signal)
    return True


def _signal(pid: int, number: int) -> None:
    """To the command and what it has started, as a terminal would; not reaped, so the number is
    still its own.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # it has no group of its own yet
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


# -- inside ---------------------------------------------------------------------------------------


def _inside(work: _Work, groups: list[int], rules: int) -> NoReturn:
    """In the container's PID namespace, walled in already; leaves by execve or _exit."""
    order = work.order
    try:
        for fd in groups:
            os.write(fd, b"0")
            os.close(fd)
        os.setsid()
        if rules >= 0:
            landlock.restrict(rules, landlock.version())
            os.close(rules)
        power.become(order.uid, order.gid)
        power.keep_capabilities(())
        power.undumpable()
        if order.kind == "exec":
            _execute(work)
        else:
            _copy(work)
    except BaseException as exc:
        work.failed(exc)
    os._exit(127)


def _execute(work: _Work) -> None:
    order = work.order
    if order.terminal:
        master, slave = entry.open_terminal(order.rows, order.columns)
        work.tell(Told(terminal=True), master)
        os.close(master)
        entry.control_terminal(slave)
        standard = (slave, slave, slave)
    else:
        standard = (work.files[0], work.files[1], work.files[2])
    for target, source in enumerate(standard):
        os.dup2(source, target, inheritable=True)
    namespaces.close_all_but({0, 1, 2, work.status.fileno()})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(order.cwd)
    except OSError:
        os.chdir("/")
    os.umask(0o022)
    work.status.set_inheritable(False)
    power.install_filter(work.programs.component)
    try:
        os.execvpe(order.command[0], list(order.command), order.environment)
    except OSError as exc:
        why = exc.errno or errno.ENOENT
        text = f"{order.command[0]}: {os.strerror(why)}"
        work.tell(Told(failure=text[:1_000], number=why, program=True))
        os._exit(127)


def _copy(work: _Work) -> None:
    order = work.order
    power.install_filter(work.programs.component)
    try:
        if order.kind == "read":
            counts = copying.pack(order.path, lambda data: _write_all(work.files[1], data))
        else:
            directory, name = copying.destination(order.path, order.name)
            counts = copying.unpack(_pieces(work.files[0]), directory, name)
    finally:
        for fd in work.files:
            os.close(fd)
    facts = {
        "files": counts.files,
        "bytes": counts.bytes,
        "skipped": counts.skipped,
        "named": counts.named,
    }
    work.tell(Told(copied=facts))
    os._exit(0)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _pieces(fd: int) -> Iterator[bytes]:
    while data := os.read(fd, _PIECE_BYTES):
        yield data


if __name__ == "__main__":
    sys.exit(main())
