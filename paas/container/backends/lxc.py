"""The back end `lxc`: LXC makes the container's namespaces, our pid 1 moves into them.

    parent ─fork─> first (pid 1 of a new PID namespace): own mounts, the whole tree, /run private
      │              ║
      ├─ fork, exec lxc-start ─> holder, in new user, mount, name, IPC and cgroup namespaces
      ├─ holder's pidfd ───> first: enters all of them at once, becomes user 0, `launch.settle`
      └─ ends            lxc-start stays outside as the container's monitor

LXC starts a container by executing a program in it.  A harness is a fork of the template, which
costs milliseconds and shares its memory; an interpreter executed inside would cost a tenth of a
second, memory of its own and a copy of Python in every base.  Hence two processes: LXC's init is
the `holder`, which only keeps the namespaces, and the harness joins it.  The PID namespace is the
harness's own (lxc.namespace.share.pid), so that the harness is pid 1 under both back ends, and that
its end is the end of everything inside: the holder, and with it LXC's monitor.

Nothing of LXC is left on the host, whoever is killed when: its locks and sockets' directories are
in a /run that exists in its own mount namespace only; it sees no control groups, so it makes none
and stays in those that it was started in; all mounts were made before its user namespace, so that
they cannot be taken off inside.

The monitor listens on an abstract socket in the host's network namespace, never in the container's.

Sources: lxc.container.conf(5), lxc-start(1), setns(2), unix(7), mount_namespaces(7).
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import select
import shutil
import signal
import socket
import struct
from typing import NoReturn

import msgspec

from paas.container import limits, tree, walls
from paas.container.backends import holder, lxc_config
from paas.container.launch import Outside, Start, Status, open_outside, separate, settle
from paas.container.plan import LaunchOrder
from paas.real import kernel_capabilities as power
from paas.real import kernel_mounts as mounts
from paas.real import kernel_namespaces as namespaces

CONFIG_FILE = "lxc.conf"
SEARCHED = "/usr/sbin:/usr/bin:/sbin:/bin"
_TOOL = "lxc-start"
_CGROUPS = "/sys/fs/cgroup"
_RUN = "/run"
_INSIDE = (
    namespaces.NEW_USER
    | namespaces.NEW_MOUNT
    | namespaces.NEW_HOST_NAME
    | namespaces.NEW_IPC
    | namespaces.NEW_CGROUP
)
_CREDENTIALS = struct.Struct("iII")
_SPARE_FD = 64
_WORDS_BYTES_MAX = 2_000


def missing() -> str | None:
    """What this machine lacks for the back end; None: nothing."""
    if find_tool() is None:
        return f"{_TOOL} is missing"
    if holder.program(platform.machine()) is None:
        return f"the processor is a {platform.machine()}"
    return None


def find_tool() -> str | None:
    return shutil.which(_TOOL, path=SEARCHED)


def bring_up(start: Start) -> NoReturn:
    """Make pid 1 and LXC's container around it; never returns."""
    order = start.order
    tool, program = find_tool(), holder.program(platform.machine())
    if tool is None or program is None:
        raise OSError(errno.EOPNOTSUPP, missing() or "")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever ends early can still be asked why
    directory = os.open(order.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.NEW_PID)
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        _first(start, there, program)
    there.close()
    namespaces.enter(own_pids, namespaces.NEW_PID)
    _Parent(start, here, pid).serve(tool, directory)
    os._exit(0)


def _write_config(order: LaunchOrder, directory: int) -> int:
    """The file lies in the container's directory, for people to look at."""
    text = lxc_config.config(order.host_name, order.uid_base, limits.UIDS_PER_CONTAINER)
    how = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(CONFIG_FILE, how, 0o600, dir_fd=directory)
    os.write(fd, text.encode())
    return fd


class _Parent:
    """Outside: starts LXC in the first process's mounts, and hands the namespaces on."""

    def __init__(self, start: Start, first: socket.socket, pid: int) -> None:
        self._start = start
        self._first = first
        self._pidfd = namespaces.open_process(pid)
        self._pid = pid
        message = msgspec.msgpack.encode(Status(pid=pid))
        socket.send_fds(start.reporter.socket, [message], [self._pidfd])

    def serve(self, tool: str, directory: int) -> None:
        if not self._first.recv(1):  # it has built the tree, or has told why not and is gone
            return
        config_fd = _write_config(self._start.order, directory)
        pid_fd = os.open(f"/proc/{self._pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        namespaces.enter(self._pidfd, namespaces.NEW_MOUNT)
        ready, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ready.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        words_fd = os.memfd_create("lxc-start", os.MFD_CLOEXEC)
        program_fd = os.open(lxc_config.PROGRAM, os.O_RDONLY | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        wanted = {
            0: null,
            1: null,
            2: words_fd,
            holder.READY_FD: theirs.fileno(),
            lxc_config.CONFIG_FD: config_fd,
            lxc_config.NETWORK_FD: self._start.network_fd,
            lxc_config.PID_FD: pid_fd,
            lxc_config.PROGRAM_FD: program_fd,
        }
        monitor = _spawn(tool, self._start.order, wanted)
        theirs.close()
        monitor_fd = namespaces.open_process(monitor)
        message = msgspec.msgpack.encode(Status(beside=monitor))
        socket.send_fds(self._start.reporter.socket, [message], [monitor_fd])
        inside = self._wait(ready, monitor_fd)
        if inside is None:
            namespaces.kill_process(monitor_fd)
            namespaces.kill_process(self._pidfd)
            raise OSError(errno.EIO, f"lxc-start: {_last_words(words_fd)}")
        pid, pidfd = inside
        message = msgspec.msgpack.encode(Status(beside=pid))
        socket.send_fds(self._start.reporter.socket, [message], [pidfd])
        socket.send_fds(self._first, [b"h"], [pidfd])

    def _wait(self, ready: socket.socket, monitor_fd: int) -> tuple[int, int] | None:
        """LXC's init, number and descriptor; None when it will not come any more."""
        poll = select.poll()
        status = self._start.reporter.socket.fileno()
        for fd in (ready.fileno(), monitor_fd, status):
            poll.register(fd, select.POLLIN | select.POLLRDHUP)
        found = {fd for fd, _ in poll.poll()}
        if ready.fileno() not in found:
            return None
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        message, ancillary, _, _ = ready.recvmsg(1, space)
        for level, kind, data in ancillary:
            if message and (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, _, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
                return pid, namespaces.open_process(pid)
        return None


def _spawn(tool: str, order: LaunchOrder, wanted: dict[int, int]) -> int:
    """Start lxc-start with these descriptors and no others, and nothing in its environment.

    An empty PATH keeps it from newuidmap: the ranges are ours to give, /etc/subuid does not count.
    A fork would copy the template's page tables only to throw them away; hence posix_spawn.
    """
    # Copied out of the way first: any of them may stand where another one must go.
    spare = {to: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SPARE_FD) for to, fd in wanted.items()}
    words = [tool, "-F", "-n", order.component, "-f", f"/proc/self/fd/{lxc_config.CONFIG_FD}"]
    words += ["-P", lxc_config.state_path(order.directory)]
    return os.posix_spawn(
        tool,
        words,
        {"PATH": "/nonexistent"},
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in spare.items()],
        setsigdef=[signal.SIGCHLD, signal.SIGPIPE],  # it waits for its children
        setsid=True,
    )


def _last_words(fd: int) -> str:
    size = os.fstat(fd).st_size
    text = os.pread(fd, _WORDS_BYTES_MAX, max(0, size - _WORDS_BYTES_MAX))
    return text.decode(errors="replace").strip() or "ended without a word"


def _first(start: Start, parent: socket.socket, program: bytes) -> NoReturn:
    reporter = start.reporter
    try:
        separate()
        outside = _build(start, program)
        reporter.step("lxc")
        parent.send(b"b")
        word, fds, _, _ = socket.recv_fds(parent, 1, 1)
        if not word:
            os._exit(1)  # the parent has told why
        parent.close()
        reporter.step("join")
        power.leave_keyrings()
        namespaces.enter(fds[0], _INSIDE)
        power.become(0, 0)
        tree.mount_queues()
    except BaseException as exc:
        reporter.failed(exc)
        os._exit(1)
    settle(start, outside)


def _build(start: Start, program: bytes) -> Outside:
    """The container's tree, in mounts that LXC's process will inherit."""
    order, reporter = start.order, start.reporter
    reporter.step("namespaces")
    namespaces.enter(start.network_fd, namespaces.NEW_NETWORK)
    walls.open_network(order.capabilities)
    namespaces.unshare(namespaces.NEW_MOUNT)
    mounts.make_private()
    reporter.step("files")
    outside = open_outside(order)
    reporter.step("layer")
    tree.build_layer(order)
    reporter.step("root")
    tree.build_root(order)
    root = f"{order.directory}/{tree.ROOT}"
    _finish_below(root)
    reporter.step("stage")
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    how = mounts.NO_SUID | mounts.NO_DEV
    mounts.mount("paas", _RUN, "tmpfs", how, "size=1m,mode=755,nr_inodes=64")
    for path in (lxc_config.ROOT, lxc_config.MOUNT_POINT, lxc_config.state_path(order.directory)):
        os.mkdir(path, 0o755)
    mounts.move(root_fd, lxc_config.ROOT)
    os.close(root_fd)
    if os.path.isdir(_CGROUPS):
        mounts.mount("paas", _CGROUPS, "tmpfs", how | mounts.READ_ONLY, "size=4k,nr_inodes=1")
    fd = os.open(lxc_config.PROGRAM, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o555)
    os.write(fd, program)
    os.close(fd)
    return outside


def _finish_below(root: str) -> None:
    """`tree.finish_proc` as after the change of root, which LXC makes later."""
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chroot(root)
    os.chdir("/")
    tree.finish_proc()
    os.fchdir(host)
    os.chroot(".")
    os.close(host)
