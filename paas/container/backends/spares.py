"""A pair of processes that have forked already, and wait for the order: the quick way to a start.

    template ─fork─> parent ─fork─> first      made in a quiet moment; both wait
        │  order ──────> │ ── order ──> │
        │                └─ names it, writes its maps, ends   (backends/namespaces.py)

What takes no order is done before: two forks, the process, mount, name and IPC namespaces.  What
remains is the same, in the same order, as without a spare; so a spare changes how long a start
takes and nothing else.  The template has at most one, and makes the next when nothing was asked of
it for a moment, so as not to compete with the start that took the last one.

A spare holds nothing but its sockets.  It belongs to no container before it has its order: the
first process enters the container's groups then.  The end of the template's socket is its end.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

import msgspec

from paas.container import limits
from paas.container.backends.namespaces import isolate
from paas.container.launch import Harness, Reporter, Start, Status, enter_groups, separate
from paas.container.plan import LaunchOrder
from paas.container.seccomp import Programs
from paas.container.walls import open_network
from paas.real import kernel_mounts as mounts
from paas.real import kernel_namespaces as namespaces

DESCRIPTORS = 3
"""Order, status socket, network namespace."""


class Spare:
    """The template's end of a pair that waits."""

    def __init__(self, programs: Programs, harness: Harness, control: socket.socket) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            control.close()
            ours.close()
            _parent(theirs, programs, harness)
        theirs.close()
        self._socket = ours

    def take(self, fds: list[int]) -> bool:
        """Give it an order; false when it has ended and somebody else has to take it."""
        try:
            socket.send_fds(self._socket, [b"l"], fds)
        except OSError:
            return False
        finally:
            self._socket.close()
        return True

    def close(self) -> None:
        """In a fork of the template, whose it is."""
        self._socket.close()


def _parent(template: socket.socket, programs: Programs, harness: Harness) -> NoReturn:
    """Wait for the order, pass it on, and be the parent that writes the maps."""
    try:
        namespaces.unshare(namespaces.NEW_PID)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            template.close()
            here.close()
            _first(there, programs, harness)
        there.close()
        pidfd = namespaces.open_process(pid)
        fds = _receive(template)
        if not fds:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os._exit(0)
        order_fd, status_fd, _network_fd = fds
        status = socket.socket(fileno=status_fd)
        socket.send_fds(status, [msgspec.msgpack.encode(Status(pid=pid))], [pidfd])
        socket.send_fds(here, [b"l"], fds)
        base = _read(order_fd).uid_base
        if here.recv(1):
            proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
            namespaces.write_id_maps(proc_fd, pid, base, limits.UIDS_PER_CONTAINER)
            here.send(b"m")
    finally:
        os._exit(1)


def _first(parent: socket.socket, programs: Programs, harness: Harness) -> NoReturn:
    """Everything that takes no order, the wait for it, and then all the rest."""
    try:
        separate()
        namespaces.unshare(namespaces.NEW_MOUNT | namespaces.NEW_HOST_NAME | namespaces.NEW_IPC)
        mounts.make_private()
        fds = _receive(parent)
        if not fds:
            os._exit(0)
    except BaseException:
        os._exit(1)
    order_fd, status_fd, network_fd = fds
    reporter = Reporter(status_fd)
    try:
        order = _read(order_fd)
        os.close(order_fd)
        reporter.step("enter")
        enter_groups(order)
        namespaces.enter(network_fd, namespaces.NEW_NETWORK)
        open_network(order.capabilities)
        os.close(network_fd)
        namespaces.unshare(namespaces.NEW_CGROUP)
        start = Start(order, reporter, -1, programs, harness)
    except BaseException as exc:
        reporter.failed(exc)
        os._exit(1)
    isolate(start, parent)


def _receive(sock: socket.socket) -> list[int]:
    """The descriptors of an order; none at the end of the socket."""
    try:
        message, fds, _, _ = socket.recv_fds(sock, 1, DESCRIPTORS)
    except OSError:
        return []
    return fds if message and len(fds) == DESCRIPTORS else []


def _read(order_fd: int) -> LaunchOrder:
    size = os.fstat(order_fd).st_size
    return msgspec.msgpack.decode(os.pread(order_fd, size, 0), type=LaunchOrder)
