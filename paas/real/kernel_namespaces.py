"""Namespaces, identifier maps, and descriptors that name a process for good.

A process is always named by a descriptor (pidfd) or by number *and* start time, never by number
alone: numbers are used again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from pathlib import Path

from paas.real.kernel_calls import SYS_CLOSE_RANGE, SYS_PIDFD_OPEN, call, prctl, system_call

NEW_MOUNT = 0x00020000
NEW_CGROUP = 0x02000000
NEW_HOST_NAME = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PID = 0x20000000
NEW_NETWORK = 0x40000000

_PR_SET_CHILD_SUBREAPER = 36
_START_TIME_FIELD = 22
"""Position of the start time in /proc/PID/stat, counted from 1 (proc_pid_stat(5))."""


def unshare(flags: int) -> None:
    call("unshare", "make new namespaces", flags)


def enter(fd: int, kind: int) -> None:
    call("setns", "enter a namespace", fd, kind)


def set_host_name(name: str) -> None:
    data = name.encode()
    call("sethostname", "set the host name", data, ctypes.c_size_t(len(data)))


def write_id_maps(proc_fd: int, pid: int, base: int, count: int) -> None:
    """Map 0..count-1 inside the user namespace of `pid` to base..base+count-1 outside.

    Written by a process that has its capabilities in the parent user namespace; therefore setgroups
    stays possible inside, which pid 1 needs in order to give up the groups it came with.
    """
    line = f"0 {base} {count}\n".encode()
    for name in ("gid_map", "uid_map"):
        fd = os.open(f"{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)


def open_process(pid: int) -> int:
    """A descriptor of the process that has this number now."""
    return system_call(SYS_PIDFD_OPEN, f"open process {pid}", pid, 0)


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, spaces and parentheses included.
    fields = text.rpartition(")")[2].split()
    return int(fields[_START_TIME_FIELD - 3])


def open_same_process(pid: int, ticks: int) -> int | None:
    """A descriptor of the process `pid` that started at `ticks`, or None if it is gone.

    One that has ended and was not waited for yet still counts: its descriptor says so at once.
    """
    try:
        fd = open_process(pid)
    except OSError as exc:
        if exc.errno in (errno.ESRCH, errno.ENOENT, errno.EINVAL):
            return None  # nobody's number, or that of a thread by now (pidfd_open(2))
        raise
    # The descriptor is taken first: if the start time still agrees, it names the right process.
    if start_ticks(pid) != ticks:
        os.close(fd)
        return None
    return fd


def kill_process(pidfd: int) -> None:
    """SIGKILL; a process that has ended already is no error."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return


def adopt_orphans(on: bool = True) -> None:
    """Become the parent of descendants whose parent ends, so that their exit status is ours."""
    prctl(_PR_SET_CHILD_SUBREAPER, "become the reaper of descendants", int(on))


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    low = 0
    for fd in [*sorted(keep), 1 << 20]:
        if fd > low:
            system_call(SYS_CLOSE_RANGE, "close descriptors", low, fd - 1, 0)
        low = fd + 1


def sync_file_system(fd: int) -> None:
    """Write everything of the file system that `fd` is on, also what is below an overlay."""
    call("syncfs", "write a file system's data", fd)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
