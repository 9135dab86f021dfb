"""Can this machine have containers, and if not, what is missing and what cures it?

Used by `paas doctor` (all checks) and at the start of the engine (`require`: the first that fails).
A check looks at facts of the kernel; it never guesses from a version.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from paas.base.errors import PlatformError
from paas.container.backends import lxc
from paas.real import kernel_landlock, kernel_loop, kernel_netns6
from paas.real.kernel_cgroups import choose, choose_io, read_mounts

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


class Check(msgspec.Struct, frozen=True):
    """One fact about the machine."""

    name: str
    ok: bool
    detail: str
    cure: str = ""
    needed: bool = True
    """False: containers work without it, less well."""


def probe() -> list[Check]:
    """Every check, in a fixed order."""
    return [check() for check in _CHECKS]


def require(checks: Sequence[Check] | None = None) -> None:
    """Raise `unsupported` naming everything needed that is missing."""
    failed = [c for c in (probe() if checks is None else checks) if c.needed and not c.ok]
    if failed:
        raise PlatformError(
            "unsupported",
            "this machine cannot have containers: " + "; ".join(c.detail for c in failed),
            hint=failed[0].cure,
            missing=[c.name for c in failed],
        )


def _root() -> Check:
    ok = os.geteuid() == 0
    detail = "running as root" if ok else f"not root (user {os.geteuid()})"
    return Check("root", ok, detail, "run as root: sudo paas ...")


def _overlay() -> Check:
    ok = "overlay" in Path("/proc/filesystems").read_text().split()
    return Check(
        "overlayfs",
        ok,
        "overlayfs is there" if ok else "no overlayfs: bases are shown read-only (binds)",
        "load it: modprobe overlay",
        False,
    )


def _namespaces() -> Check:
    missing = [n for n in _NAMESPACES if not os.path.exists(f"/proc/self/ns/{n}")]
    limit = Path("/proc/sys/user/max_user_namespaces")
    if not missing and limit.exists() and limit.read_text().strip() == "0":
        missing = ["user (user.max_user_namespaces is 0)"]
    detail = f"no namespaces of kind: {', '.join(missing)}" if missing else "all namespaces"
    cure = "sysctl user.max_user_namespaces=15000; a kernel with CONFIG_NAMESPACES"
    return Check("namespaces", not missing, detail, cure)


def _cgroups() -> Check:
    mounts = read_mounts()
    chosen, missing = choose(mounts)
    versions = sorted({type(h).__name__[-1] for h in chosen})
    detail = f"control groups version {' and '.join(versions)}"
    if missing:
        detail = f"no control-group hierarchy offers: {', '.join(missing)}"
    cure = "mount cgroup2: mount -t cgroup2 none /sys/fs/cgroup"
    return Check("cgroups", not missing, detail, cure)


def _io() -> Check:
    mounts = read_mounts()
    found = choose_io(mounts, ())
    detail = f"bounds on disk I/O: {found.root}" if found else "limits.io would be refused"
    cure = "mount cgroup2 with the controller io; a kernel with CONFIG_BLK_DEV_THROTTLING"
    return Check("disk-io", found is not None, detail, cure, False)


def _packet_filter() -> Check:
    found = shutil.which("nft", path=_SBIN)
    detail = f"nftables: {found}" if found else "nft is missing"
    return Check("nftables", found is not None, detail, "apt install nftables")


def _filters() -> Check:
    ok = ctypes.util.find_library("seccomp") is not None and _has_filters()
    detail = "system-call filters" if ok else "no system-call filters (libseccomp)"
    return Check("seccomp", ok, detail, "apt install libseccomp2")


def _has_filters() -> bool:
    return os.path.exists("/proc/sys/kernel/seccomp/actions_avail")


def _rules() -> Check:
    generation = kernel_landlock.version()
    ok = generation >= kernel_landlock.VERSION_MIN
    detail = f"rules on files: Landlock {generation}" if ok else "no second wall (Landlock)"
    cure = "a kernel since 5.19 with CONFIG_SECURITY_LANDLOCK; landlock in its parameter lsm="
    return Check("landlock", ok, detail, cure, False)


def _layers() -> Check:
    missing = kernel_loop.missing()
    detail = f"writable layers are kept in memory: no {missing}" if missing else "loop devices"
    return Check("layers", missing is None, detail, "apt install e2fsprogs; modprobe loop", False)


def _ipv6() -> Check:
    lacking = kernel_netns6.lacking()
    detail = f"containers have no IPv6: {lacking}" if lacking else "IPv6"
    cure = "switch it on, or set ipv6 to off: sysctl net.ipv6.conf.all.forwarding=1"
    return Check("ipv6", not lacking, detail, cure, False)


def _lxc() -> Check:
    lacking = lxc.missing()
    detail = f"the back end lxc would be refused: {lacking}" if lacking else "LXC's tools"
    return Check("lxc", lacking is None, detail, "apt install lxc", False)


def _interpreter() -> Check:
    ok = os.path.exists("/usr/bin/python3")
    detail = "/usr/bin/python3" if ok else "base `host` has no python3 for components"
    return Check("python3", ok, detail, "apt install python3", False)


_CHECKS: tuple[Callable[[], Check], ...] = (
    _root,
    _namespaces,
    _overlay,
    _cgroups,
    _io,
    _packet_filter,
    _filters,
    _rules,
    _layers,
    _ipv6,
    _lxc,
    _interpreter,
)
