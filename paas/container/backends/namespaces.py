"""The back end `namespaces`: a fork of the template makes the container's namespaces by itself.

    parent ─fork─> first ══> pid 1 of the container
      │              ├─ own mount, name, IPC and cgroup namespaces; file system
      ├─ id maps <── ├─ own user namespace, asked for last
      └─ ends        └─ `launch.settle`

Why the user namespace comes last: a namespace belongs to the user namespace it was made in.  Made
before it, the mount, network, name, IPC, PID and cgroup namespaces belong to the host's: whatever
capability anybody ever gains inside counts for nothing over them.  No mount or link can be changed
from inside even by a process with every capability there is in there.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import NoReturn

import msgspec

from paas.container import limits, tree, walls
from paas.container.launch import Start, Status, open_outside, separate, settle
from paas.real import kernel_capabilities as power
from paas.real import kernel_mounts as mounts
from paas.real import kernel_namespaces as namespaces


def bring_up(start: Start) -> NoReturn:
    """Fork pid 1 of the container; never returns."""
    namespaces.enter(start.network_fd, namespaces.NEW_NETWORK)
    walls.open_network(start.order.capabilities)
    namespaces.unshare(namespaces.NEW_PID)
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        _first(start, there)
    there.close()
    _parent(start, here, pid)


def _parent(start: Start, here: socket.socket, pid: int) -> NoReturn:
    """Name the child to the controller, write its maps when it asks, and end.

    Ending makes the controller (the nearest reaper above) the child's parent.
    """
    pidfd = namespaces.open_process(pid)
    message = msgspec.msgpack.encode(Status(pid=pid))
    socket.send_fds(start.reporter.socket, [message], [pidfd])
    if here.recv(1):
        proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        base = start.order.uid_base
        namespaces.write_id_maps(proc_fd, pid, base, limits.UIDS_PER_CONTAINER)
        here.send(b"m")
    os._exit(0)


def _first(start: Start, parent: socket.socket) -> NoReturn:
    """Namespaces of its own, then all the rest (a spare has most of them already: spares.py)."""
    try:
        separate()
        start.reporter.step("namespaces")
        namespaces.unshare(
            namespaces.NEW_MOUNT
            | namespaces.NEW_HOST_NAME
            | namespaces.NEW_IPC
            | namespaces.NEW_CGROUP
        )
        mounts.make_private()
    except BaseException as exc:
        start.reporter.failed(exc)
        os._exit(1)
    isolate(start, parent)


def isolate(start: Start, parent: socket.socket) -> NoReturn:
    """Everything up to the harness; the order of the steps is the security."""
    order, reporter = start.order, start.reporter
    try:
        namespaces.set_host_name(order.host_name)
        reporter.step("files")
        outside = open_outside(order)
        reporter.step("layer")
        tree.build_layer(order)
        reporter.step("root")
        tree.build_root(order)
        reporter.step("pivot")
        mounts.change_root(f"{order.directory}/{tree.ROOT}")
        tree.finish_proc()
        tree.mount_queues()
        reporter.step("user")
        _enter_user_namespace(parent)
    except BaseException as exc:
        reporter.failed(exc)
        os._exit(1)
    settle(start, outside)


def _enter_user_namespace(parent: socket.socket) -> None:
    power.leave_keyrings()
    namespaces.unshare(namespaces.NEW_USER)
    parent.send(b"u")
    if parent.recv(1) != b"m":
        raise OSError(errno.EPERM, "the id maps were not written")
    parent.close()
    power.become(0, 0)
