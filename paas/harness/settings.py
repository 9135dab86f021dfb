"""What the container controller hands over to a harness: one frozen value, and nothing else.

The container controller builds a `Handoff` in the process that has just become pid 1 of a container
(after every isolation is in force) and calls the harness with it.  The harness finds nothing by
itself: no environment, argument or file of its own tells it anything.

Descriptors are numbers of this very process, all close-on-exec:

    hub_directory_fd   O_PATH, a view of the directory that holds the hub's socket, read-only, a
                       root of its own (`..` leads nowhere).  The name is looked up at every connect
                       to /proc/self/fd/N/harness.sock, so a restarted hub is found again
    exit_file_fd       a file of the controller; when the component has ended, write one JSON object
                       {"code": int|null, "signal": int|null, "reason": str} and end.  It is read
                       when pid 1 is gone, also when the controller was restarted meanwhile
    cgroup_fds         the entrances of the component's own control group, one per hierarchy; the
                       child that becomes the component (one thread) writes b"0" to each, then
                       executes it
    rules_fd           rules of Landlock, which the child lays on itself; -1 where there are none

Pid 1 is uid 0 of the container's user namespace with exactly CAP_SETUID, CAP_SETGID and CAP_KILL in
force; `capabilities` are permitted besides.  The child takes the rules, gives up its power by
becoming `component_uid`/`component_gid` with `capabilities` (setgroups([]) first), then installs
`seccomp_program` (`paas.real.kernel_capabilities.install_filter`) and executes `command`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How the harness turns its component's output into records."""

    line_bytes_max: int = 16 << 10
    """A longer line is cut into several records."""

    queue_records_max: int = 1_024
    """Records kept while the hub cannot be reached; beyond, the oldest are dropped and counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """All that pid 1 of a container knows."""

    component: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str
    protocol: str
    configuration: Any
    endpoints: Mapping[str, tuple[str, int]]
    hub_directory_fd: int
    exit_file_fd: int
    cgroup_fds: tuple[int, ...]
    component_uid: int
    component_gid: int
    seccomp_program: bytes
    ready_timeout_s: float
    incarnation: int = 1
    log: LogSettings = field(default_factory=LogSettings)
    capabilities: tuple[int, ...] = ()
    """Numbers of what pid 1 keeps in reserve for the component, and the component is given."""
    rules_fd: int = -1
    """Rules of Landlock for the component (`paas.real.kernel_landlock`); -1: none."""
