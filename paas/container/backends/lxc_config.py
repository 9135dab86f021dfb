"""The configuration file of one container for LXC (lxc.container.conf(5)).

LXC makes the user, mount, name, IPC and cgroup namespaces, maps the identifiers, changes the root
and drops every power of its init.  What is decided elsewhere is kept away from it: the tree is
mounted already, the network and PID namespaces are given, control groups are those that its process
is in, terminals, devices and consoles there are none.

Pure.  Values come from a checked specification; a value that could end a line is refused here too.
"""

from __future__ import annotations

import hashlib

ROOT = "/run/root"
MOUNT_POINT = "/run/mount"
PROGRAM = "/run/holder"
"""Paths in the mount namespace of LXC's own process, where /run is private and empty."""

CONFIG_FD, NETWORK_FD, PID_FD, PROGRAM_FD = 4, 5, 6, 7
"""Descriptors that LXC's process is given; the names below /proc/self/fd lead to them."""


def config(host_name: str, uid_base: int, uid_count: int) -> str:
    """The text of the file."""
    lines = [
        ("lxc.uts.name", host_name),
        ("lxc.rootfs.path", f"dir:{ROOT}"),
        ("lxc.rootfs.mount", MOUNT_POINT),
        ("lxc.idmap", f"u 0 {uid_base} {uid_count}"),
        ("lxc.idmap", f"g 0 {uid_base} {uid_count}"),
        ("lxc.namespace.share.net", _descriptor(NETWORK_FD)),
        ("lxc.namespace.share.pid", _descriptor(PID_FD)),
        ("lxc.init.cmd", _descriptor(PROGRAM_FD)),
        ("lxc.cap.keep", "none"),
        ("lxc.no_new_privs", "1"),
        ("lxc.apparmor.profile", "unconfined"),
        ("lxc.mount.auto", ""),
        ("lxc.autodev", "0"),
        ("lxc.tty.max", "0"),
        ("lxc.pty.max", "0"),
        ("lxc.console.path", "none"),
    ]
    if any(mark in value for _, value in lines for mark in "\n\0"):
        raise ValueError("a value of the configuration may not contain the end of a line")
    return "".join(f"{key} = {value}\n" for key, value in lines)


def state_path(directory: str) -> str:
    """Where LXC may keep things of the container that has this directory on the host.

    Its monitor's abstract socket, which all of the host's processes share, is named by this path:
    so it tells nodes apart that run on one machine.
    """
    return f"/run/{hashlib.sha256(directory.encode()).hexdigest()[:32]}"


def _descriptor(number: int) -> str:
    return f"/proc/self/fd/{number}"
