"""The file system of a container, as its first process builds it in its own mount namespace.

    writable layer (device, memory, or a clone on Btrfs)
      └─ root: base and layer, /app: bundle and layer, as `filesystems/views.py` combines them
           /dev: six devices, read-only    /proc: the container's, with the host's facts hidden
           /tmp, /run, /dev/shm: memory

No path from outside is followed inside: whatever the base brings under the names that are mounted
over must be a plain directory.  Everything ends with the namespace.  Called in the order of the
functions; `finish_proc` after the change of root.
"""

from __future__ import annotations

import os

from paas.container import limits
from paas.container.filesystems import views
from paas.container.plan import LaunchOrder
from paas.container.volume_mounts import mount_volumes
from paas.real import kernel_mounts as mounts

ROOT = views.ROOT
QUEUES = "/dev/mqueue"
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
    "timer_stats",
    "vmallocinfo",
    "interrupts",
    "iomem",
    "ioports",
    "mtrr",
    "cmdline",
)
_PROC_MASKED_DIRECTORIES = ("acpi", "asound", "scsi", "driver", "pressure")
_TERMINAL_GROUP = 5


def build_layer(order: LaunchOrder) -> None:
    """Mount what the container writes to; how depends on the file system (`filesystems/views.py`).

    It is mounted over the container's own host directory, which nobody needs to reach by path from
    here on except for the mount point of the root.
    """
    views.mount_layer(order)


def build_root(order: LaunchOrder) -> None:
    """The container's tree: base, /app, /dev, /proc, /tmp."""
    root = f"{order.directory}/{ROOT}"
    views.mount_root(order)
    for name in ("app", "dev", "proc", "sys", "tmp", "run"):
        # A base may bring links of these names that lead elsewhere; then its container must fail,
        # not mount over whatever they point at.
        views.plain_directory(f"{root}/{name}")
    for source, inside in order.binds:
        flags = mounts.READ_ONLY | _NO_EFFECT
        views.plain_directory(f"{root}{inside}")
        mounts.bind(source, f"{root}{inside}", flags, recursive=True)
    views.mount_app(order)
    size = f"size={order.tmp_bytes}"
    mounts.mount("paas", f"{root}/tmp", "tmpfs", _NO_EFFECT, f"{size},mode=1777,nr_inodes=16384")
    _build_run(f"{root}/run", order.uid_base)
    views.write_linked_names(order)
    build_devices(f"{root}/dev", order.uid_base, size)
    mounts.mount("paas", f"{root}/proc", "proc", DATA_ONLY, "hidepid=2")
    mount_volumes(order)


def _build_run(run: str, uid_base: int) -> None:
    """Memory: the harness makes the component's socket there, and nothing in it is worth keeping.

    Whatever is secret belongs here or in /tmp: neither is on a disk, nor in a snapshot.
    """
    options = f"size={limits.RUN_BYTES_MAX},nr_inodes=1024,mode=755,uid={uid_base},gid={uid_base}"
    mounts.mount("paas", run, "tmpfs", DATA_ONLY, options)


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
    for name in ("pts", "mqueue"):
        os.mkdir(f"{dev}/{name}", 0o755)
    mounts.mount("paas", f"{dev}/shm", "tmpfs", DATA_ONLY, f"{size},mode=1777,nr_inodes=4096")
    group = uid_base + _TERMINAL_GROUP
    options = f"newinstance,ptmxmode=0666,mode=0620,gid={group},max=64"
    mounts.mount("paas", f"{dev}/pts", "devpts", mounts.NO_SUID | mounts.NO_EXEC, options)
    mounts.set_flags(dev, mounts.READ_ONLY | how)


def mount_queues() -> None:
    """Message queues of the IPC namespace that the caller is in, after the change of root.

    Their files must have a path, or rules of Landlock could allow none of them (`walls.py`).
    """
    mounts.mount("paas", QUEUES, "mqueue", DATA_ONLY)


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
