"""Entering the namespaces of a container, and terminals inside it.

A container is named by the descriptor of its first process (pidfd), so what is entered is that
container or none, whatever became of its number.  Source: setns(2), pty(7), ioctl_tty(2).
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios

from paas.real import kernel_namespaces as namespaces

_AROUND = (
    namespaces.NEW_MOUNT
    | namespaces.NEW_CGROUP
    | namespaces.NEW_HOST_NAME
    | namespaces.NEW_IPC
    | namespaces.NEW_PID
    | namespaces.NEW_NETWORK
)
_MULTIPLEXER = os.makedev(5, 2)
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


def enter_container(pidfd: int) -> None:
    """Enter all namespaces of the process; its PID namespace is that of children from now on.

    The user namespace comes last: until then the power of the host is needed, afterwards there is
    none over anything outside.  Working and root directory are the container's.
    """
    namespaces.enter(pidfd, _AROUND)
    namespaces.enter(pidfd, namespaces.NEW_USER)


def enter_network(pidfd: int) -> None:
    """Enter the network of the process and nothing else."""
    namespaces.enter(pidfd, namespaces.NEW_NETWORK)


def open_terminal(rows: int, columns: int) -> tuple[int, int]:
    """(master, slave) of a new terminal of the namespaces we are in.

    The multiplexer is opened by path and then looked at: anything else that stands there is
    refused.  The slave is had from the master, not by path.
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        facts = os.fstat(master)
        if not stat.S_ISCHR(facts.st_mode) or facts.st_rdev != _MULTIPLEXER:
            raise OSError(19, "/dev/pts/ptmx is not the terminal multiplexer")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        set_size(master, rows, columns)
        return master, slave
    except BaseException:
        os.close(master)
        raise


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Programs in the foreground are told (SIGWINCH)."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def control_terminal(slave: int) -> None:
    """Make it the controlling terminal of the process that calls (setsid(2) left it without)."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
