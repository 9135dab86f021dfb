"""The file system of a container, as its first process builds it in its own mount namespace.

    writable layer (device or memory)
      └─ root: overlay of base and layer ── /app: overlay of bundle and layer
           /dev: six devices, read-only    /proc: the container's, with the host's facts hidden
           /tmp, /dev/shm: memory

No path from outside is followed inside: whatever the base brings under the names that are mounted
over must be a plain directory.  Everything ends with the namespace.  Called in the order of the
functions; `finish_proc` after the change of root.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from paas.container import limits
from paas.container.plan import APP, LaunchOrder
from paas.real import kernel_loop as loop
from paas.real import kernel_mounts as mounts

ROOT = "root"
_NO_EFFECT = mounts.NO_SUID | mounts.NO_DEV
DATA_ONLY = _NO_EFFECT | mounts.NO_EXEC
_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_PROC_READ_ONLY = ("bus", "fs", "irq", "sys")
_PROC_MASKED_FILES = (
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kallsyms",
    "kpagecount",
    "kpageflags",
    "kpagecgroup",
    "latency_stats",
    "modules",
    "mounts.all",
    "sched_debug",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "vmallocinfo",
    "interrupts",
)
_PROC_MASKED_DIRECTORIES = ("acpi", "asound", "scsi", "driver", "pressure")
_TERMINAL_GROUP = 5


def build_layer(order: LaunchOrder) -> None:
    """Mount the writable layer and make the directories of both overlays in it.

    It is mounted over the container's own host directory, which nobody needs to reach by path from
    here on except for the mount point of the root.
    """
    layer = order.directory
    flags = _NO_EFFECT | mounts.NO_ATIME
    if order.device:
        mounts.mount(order.device, layer, "ext4", flags, loop.MOUNT_OPTIONS)
    else:
        mounts.mount("paas", layer, "tmpfs", flags, f"size={order.disk_bytes},mode=755")
    for name in (ROOT, "upper", "work", "app-upper", "app-work"):
        os.mkdir(f"{layer}/{name}", 0o755)
    os.chown(f"{layer}/upper", order.uid_base, order.uid_base)
    user = order.uid_base + limits.COMPONENT_UID
    group = order.uid_base + limits.COMPONENT_GID
    os.chown(f"{layer}/app-upper", user, group)
    run = f"{layer}/upper/run"  # the harness makes the component's socket there
    os.mkdir(run, 0o755)
    os.chown(run, order.uid_base, order.uid_base)
    etc = f"{layer}/upper/etc"
    os.mkdir(etc, 0o755)
    Path(etc, "hostname").write_text(f"{order.host_name}\n")
    known = f"127.0.0.1 localhost\n{order.address} {order.host_name}\n"
    Path(etc, "hosts").write_text(known)
    for path in (etc, f"{etc}/hostname", f"{etc}/hosts"):
        os.chown(path, order.uid_base, order.uid_base)


def build_root(order: LaunchOrder) -> None:
    """The container's tree: base, /app, /dev, /proc, /tmp."""
    layer, root = order.directory, f"{order.directory}/{ROOT}"
    mounts.overlay(order.lower, f"{layer}/upper", f"{layer}/work", root, _NO_EFFECT)
    for name in ("app", "dev", "proc", "sys", "tmp", "run"):
        # A base may bring links of these names that lead elsewhere; then its container must fail,
        # not mount over whatever they point at.
        _plain_directory(f"{root}/{name}")
    for source, inside in order.binds:
        flags = mounts.READ_ONLY | _NO_EFFECT
        mounts.bind(source, f"{root}{inside}", flags, recursive=True)
    mounts.overlay(
        order.bundle_dir, f"{layer}/app-upper", f"{layer}/app-work", f"{root}{APP}", _NO_EFFECT
    )
    size = f"size={order.tmp_bytes}"
    mounts.mount("paas", f"{root}/tmp", "tmpfs", _NO_EFFECT, f"{size},mode=1777,nr_inodes=16384")
    build_devices(f"{root}/dev", order.uid_base, size)
    mounts.mount("paas", f"{root}/proc", "proc", DATA_ONLY, "hidepid=2")


def _plain_directory(path: str) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        if os.path.islink(path) or not os.path.isdir(path):
            raise OSError(errno.ENOTDIR, f"the base's {os.path.basename(path)}") from None


def build_devices(dev: str, uid_base: int, size: str) -> None:
    """A /dev of six harmless devices, read-only; the only mount on which devices mean anything."""
    how = mounts.NO_SUID | mounts.NO_EXEC
    mounts.mount("paas", dev, "tmpfs", how, "size=64k,mode=755,nr_inodes=64")
    for name, major, minor in _DEVICES:
        path = f"{dev}/{name}"
        os.mknod(path, 0o666 | 0o020000, os.makedev(major, minor))
        os.chmod(path, 0o666)
    for name, target in _DEVICE_LINKS:
        os.symlink(target, f"{dev}/{name}")
    os.mkdir(f"{dev}/shm", 0o1777)
    os.mkdir(f"{dev}/pts", 0o755)
    mounts.mount("paas", f"{dev}/shm", "tmpfs", DATA_ONLY, f"{size},mode=1777,nr_inodes=4096")
    group = uid_base + _TERMINAL_GROUP
    options = f"newinstance,ptmxmode=0666,mode=0620,gid={group},max=64"
    mounts.mount("paas", f"{dev}/pts", "devpts", mounts.NO_SUID | mounts.NO_EXEC, options)
    mounts.set_flags(dev, mounts.READ_ONLY | how)


def finish_proc() -> None:
    """Hide what /proc tells about the host, after the change of root: paths are the container's."""
    for name in _PROC_READ_ONLY:
        path = f"/proc/{name}"
        if os.path.isdir(path):
            mounts.bind(path, path, mounts.READ_ONLY | DATA_ONLY)
    for name in _PROC_MASKED_FILES:
        path = f"/proc/{name}"
        if os.path.exists(path):
            mounts.bind("/dev/null", path, 0)
    for name in _PROC_MASKED_DIRECTORIES:
        path = f"/proc/{name}"
        if os.path.isdir(path):
            mounts.bind("/sys", path, mounts.READ_ONLY | DATA_ONLY)
