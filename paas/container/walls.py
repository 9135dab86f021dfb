"""What pid 1 of a container gives up before it does anything of its own; nothing comes back.

Bounds, capabilities, the ability to gain any by an execution, system calls: in this order, since
each step needs what a later one takes away.

The component, a child of pid 1, loses the rest: its user is another one, its capabilities are those
of its manifest (usually none), and rules of Landlock (`file_rules`) stand behind the mounts:

    nothing below /proc and /sys is written     also where a mount or a permission would let it
    nothing that the host shows read-only       (the base's trees)
    no device is made, none used outside /dev
    no mount is changed, nobody traced outside, no signal and no abstract socket past the rules

Whatever else the permissions allow is allowed: the rules break no program that works without
them, but one that changes its own files of /proc (the name of another thread, oom_score_adj), which
is told `EACCES`.

Sources: landlock(7), getrlimit(2), capabilities(7); container CVEs of docs/concepts/isolation.md.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from paas.container import limits, powers
from paas.container.plan import LaunchOrder
from paas.container.seccomp import Programs
from paas.container.tree import QUEUES
from paas.real import kernel_capabilities as power
from paas.real import kernel_landlock as landlock
from paas.real.kernel_landlock import Right, Scope

_PID_1 = (power.CAP_KILL, power.CAP_SETGID, power.CAP_SETUID)
_BOUNDS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NOFILE, limits.OPEN_FILES),
    (resource.RLIMIT_MEMLOCK, limits.LOCKED_BYTES),
    (resource.RLIMIT_MSGQUEUE, limits.MESSAGE_QUEUE_BYTES),
    (resource.RLIMIT_SIGPENDING, limits.PENDING_SIGNALS),
    (resource.RLIMIT_NPROC, limits.PIDS_MAX),
    (resource.RLIMIT_RTPRIO, 0),
    (resource.RLIMIT_NICE, 0),
)

_LOW_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_READ = Right.READ_FILE | Right.READ_DIR | Right.EXECUTE
_WRITE = (
    Right.WRITE_FILE
    | Right.REMOVE_DIR
    | Right.REMOVE_FILE
    | Right.MAKE_DIR
    | Right.MAKE_REG
    | Right.MAKE_SOCK
    | Right.MAKE_FIFO
    | Right.MAKE_SYM
    | Right.REFER
    | Right.TRUNCATE
)
_NEVER_WRITTEN = ("proc", "sys")


def open_network(capabilities: Iterable[str]) -> None:
    """In the container's network, with the host's power: what its capabilities stand for there."""
    if powers.NET_BIND_SERVICE in capabilities:
        Path(_LOW_PORTS).write_text("0")


def give_up_power(programs: Programs, capabilities: Iterable[str] = ()) -> None:
    """Of pid 1, for good; `capabilities` are kept for the component, not in force here."""
    granted = powers.numbers(capabilities)
    for kind, bound in _BOUNDS:
        power.limit(kind, bound, bound)
    power.drop_bounding_set(granted)
    power.lock_secure_bits(grants=bool(granted))
    power.keep_capabilities(_PID_1, permitted=granted)
    power.no_new_privileges()
    power.install_filter(programs.arguments)
    power.install_filter(programs.calls)
    power.undumpable()
    os.umask(0o022)


def file_rules(order: LaunchOrder, *, scoped: bool = True) -> int:
    """A descriptor of the component's rules, in its tree after the change of root; -1 without.

    `scoped` is false for people's own commands in a container, which may signal its component.
    """
    scopes = Scope.ABSTRACT_SOCKETS | Scope.SIGNALS if scoped else Scope(0)
    generation = landlock.version()
    if generation < landlock.VERSION_MIN:
        return -1
    return landlock.make_rules(_allowed(order), scopes, generation)


def _allowed(order: LaunchOrder) -> list[tuple[str, Right]]:
    shown = {inside.strip("/") for _, inside in order.binds}
    # A queue is opened by its name, not by a path below /dev: its own directory is all it has.
    allowed = [("/", _READ), ("/dev", Right.IOCTL_DEV), (QUEUES, _READ | _WRITE)]
    with os.scandir("/") as entries:
        for entry in entries:
            if entry.name in _NEVER_WRITTEN or entry.name in shown:
                continue
            if entry.is_dir(follow_symlinks=False):
                allowed.append((entry.path, _WRITE))
    allowed += [(volume.path, _WRITE) for volume in order.volumes]
    return allowed
