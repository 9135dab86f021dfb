"""The fence: a small program that ends every component of a node when the node's lease has ended.

    container controller ── writes the deadline ──> lease file <── maps ── fence
                                                                   sleeps until the deadline,
                                                                   looks again, kills

A program of its own, run as `python -I -S kernel_fence.py LEASE-FILE`: it imports nothing of ours,
holds nothing of any agent, and goes on when all of them are dead, stopped or hanging.  The lease
file is one page in memory; the fence wakes once per lease, and while a lease has ended a few times
a second, so that nothing which was just being started survives.  Time is CLOCK_BOOTTIME: setting
the wall clock changes nothing, and a suspended machine finds its lease ended when it wakes.

The deadline stands in the file twice, one copy written after the other, and the earlier one counts.
So a writer that is killed between the two leaves a lease that was granted: the one before.  Between
the fence that begins to kill and the controller that extends there is an agreement without a lock:
the fence marks that it has begun and then reads the deadline once more; the controller writes the
deadline and then reads the mark.  Whoever is second sees the other.

What belongs to the node is told by its control groups and by nothing else.  Pid 1 of a container is
killed first: the kernel ends its PID namespace with it, faster than anything in there can fork.

Source: C. Gray, D. Cheriton, "Leases", SOSP 1989; cgroups(7), pidfd_open(2), clock_nanosleep(2).
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import signal
import struct
import sys
import time

_MAGIC = b"paaslse1"
_HEAD = struct.Struct("<8sdddQQ36sH")
_DEADLINE, _COPY, _FENCED, _WATCHDOG = 8, 16, 24, 32
_SIZE = mmap.PAGESIZE

_CLOCK_BOOTTIME = 7
_TIMER_ABSTIME = 1
_PR_SET_PDEATHSIG = 1

LOOK_AGAIN_S = 0.5
"""While the lease has ended: how long the fence waits before it looks for survivors again.  There
are none but forks that have not been told to go, and will not be."""

_PAUSE_S = 0.001
_PAUSE_S_MAX = 0.05

LEAVES = ("harness", "component")
"""In this order: pid 1 of the container is in the first."""


def boottime_s() -> float:
    """Seconds since the machine's boot, its sleep included."""
    return time.clock_gettime(_CLOCK_BOOTTIME)


class LeaseFile:
    """The page that the container controller writes and the fence reads."""

    def __init__(self, path: str) -> None:
        """Raises OSError when there is none, ValueError when it is no lease of ours."""
        self.path = path
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or found.st_size != _SIZE:
                raise ValueError(f"{path} is no lease of ours")
            self._page = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self._inode = (found.st_dev, found.st_ino)
        head = _HEAD.unpack_from(self._page)
        if head[0] != _MAGIC:
            self.close()
            raise ValueError(f"{path} is no lease of this version")
        self.boot = head[6].rstrip(b"\0").decode()
        text = self._page[_HEAD.size : _HEAD.size + head[7]].decode()
        self.groups = text.split("\n") if text else []

    @classmethod
    def create(cls, path: str, *, deadline_s: float, boot: str, groups: list[str]) -> LeaseFile:
        """Make a new one in place of whatever is there."""
        text = "\n".join(groups).encode()
        head = _HEAD.pack(_MAGIC, deadline_s, deadline_s, 0.0, 0, 0, boot.encode(), len(text))
        fresh = f"{path}.new"
        if os.path.lexists(fresh):  # of a writer that was killed
            os.unlink(fresh)
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, (head + text).ljust(_SIZE, b"\0"))
        finally:
            os.close(fd)
        os.rename(fresh, path)
        return cls(path)

    @property
    def deadline_s(self) -> float:
        first: float
        second: float
        first, second = struct.unpack_from("<dd", self._page, _DEADLINE)
        return min(first, second)

    @deadline_s.setter
    def deadline_s(self, value: float) -> None:
        struct.pack_into("<d", self._page, _DEADLINE, value)
        struct.pack_into("<d", self._page, _COPY, value)

    @property
    def fenced_s(self) -> float:
        """When the fence began to kill; 0: it did not."""
        found: float = struct.unpack_from("<d", self._page, _FENCED)[0]
        return found

    @fenced_s.setter
    def fenced_s(self, value: float) -> None:
        struct.pack_into("<d", self._page, _FENCED, value)

    @property
    def watchdog(self) -> tuple[int, int]:
        """Number and start time of the fence in charge."""
        pid, ticks = struct.unpack_from("<QQ", self._page, _WATCHDOG)
        return pid, ticks

    @watchdog.setter
    def watchdog(self, value: tuple[int, int]) -> None:
        struct.pack_into("<QQ", self._page, _WATCHDOG, *value)

    def replaced(self) -> bool:
        """Another file has this name now; False also when none has."""
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) != self._inode

    def removed(self) -> bool:
        return not os.path.exists(self.path)

    def close(self) -> None:
        self._page.close()


# -- killing ---------------------------------------------------------------------------------------


def stop_pass(parents: list[str], number: int = 0) -> bool:
    """Kill once what lives below these control groups; whether there may be more.

    `number` counts the passes: the first only kills, as quickly as can be, what the first hierarchy
    names; later ones look into all of them, and at what resists.
    """
    if number == 0:
        _lift_io(parents)
        for parent in parents:
            _write(f"{parent}/cgroup.kill", "1")  # version 2, since Linux 5.14
    pids = _processes(_leaves(parents if number else parents[:1]))
    if number > 0:
        pids = [pid for pid in pids if _lives(pid)]
    names = [f"/{os.path.basename(parent)}/" for parent in parents]
    for pid in pids:
        if number > 1:
            _thaw(pid)
        _kill(pid, names)
    return bool(pids) or number == 0


def anything(parents: list[str]) -> bool:
    """Does anything live there?  A glance at one hierarchy; a fork enters all of them at once."""
    return bool(_processes(_leaves(parents[:1])))


def stop_all(parents: list[str], lease: LeaseFile) -> None:
    """Kill until nothing is left, or until there is a lease again."""
    number, pause_s = 0, _PAUSE_S
    while boottime_s() >= lease.deadline_s and not lease.replaced():
        if not stop_pass(parents, number):
            return
        time.sleep(pause_s)
        number, pause_s = number + 1, min(2 * pause_s, _PAUSE_S_MAX)


def _leaves(parents: list[str]) -> list[str]:
    """Every group below the parents, those of first processes before all others."""
    found: list[str] = []
    for parent in parents:
        for folder, _, _ in os.walk(parent):
            if folder != parent:
                found.append(folder)
    return sorted(found, key=lambda path: os.path.basename(path) != LEAVES[0])


def _processes(leaves: list[str]) -> list[int]:
    found: dict[int, None] = {}
    for leaf in leaves:
        try:
            fd = os.open(f"{leaf}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # removed meanwhile
        try:
            while data := os.read(fd, 65_536):
                # The kernel ends every piece with a whole line.
                found.update((int(word), None) for word in data.split())
        except OSError:
            continue
        finally:
            os.close(fd)
    found.pop(0, None)  # a process that this PID namespace cannot name
    return list(found)


def _kill(pid: int, names: list[str]) -> None:
    """SIGKILL, unless the number belongs to somebody else by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        groups = _read(f"/proc/{pid}/cgroup")
        if any(name in groups for name in names):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        return
    finally:
        os.close(pidfd)


def _lives(pid: int) -> bool:
    """Neither gone nor only waiting for its parent to look."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(fields) and fields[0] not in ("Z", "X")


def _thaw(pid: int) -> None:
    """A task in a frozen group of version 1 gets no signal: thaw the group and those above it."""
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "freezer" not in controllers.split(","):
            continue
        root = _freezer_root()
        while root and path.strip("/"):
            _write(f"{root}{path}/freezer.state", "THAWED")
            path = path.rpartition("/")[0]


def _freezer_root() -> str:
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup ") and "freezer" in right.split()[-1].split(","):
            return left.split()[4]
    return ""


def _lift_io(parents: list[str]) -> None:
    """What waits for its I/O under a bound cannot die before that I/O was let through."""
    for name, free in (
        ("blkio.throttle.read_bps_device", "0"),
        ("blkio.throttle.write_bps_device", "0"),
        ("io.max", "rbps=max wbps=max"),
    ):
        bounding = [parent for parent in parents if os.path.exists(f"{parent}/{name}")]
        for leaf in _leaves(bounding):
            for rule in _read(f"{leaf}/{name}").splitlines():
                _write(f"{leaf}/{name}", f"{rule.split()[0]} {free}")


def _read(path: str) -> str:
    """The text of a file of the kernel; empty when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        pieces = []
        while piece := os.read(fd, 65_536):
            pieces.append(piece)
        return b"".join(pieces).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    """Try to write; what the kernel does not have or refuses is left as it is."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, text.encode())
    except OSError:
        return
    finally:
        os.close(fd)


# -- the program -----------------------------------------------------------------------------------


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _sleep_until(deadline_s: float) -> None:
    whole = math.floor(deadline_s)
    until = _Timespec(whole, int((deadline_s - whole) * 1e9))
    ctypes.CDLL(None).clock_nanosleep(_CLOCK_BOOTTIME, _TIMER_ABSTIME, ctypes.byref(until), None)


def watch(lease: LeaseFile) -> None:
    """Guard the lease until another fence does, or no lease is needed any more."""
    me = os.getpid()
    while lease.watchdog[0] == me and not lease.replaced():
        deadline_s = lease.deadline_s
        if deadline_s == math.inf:
            return
        now_s = boottime_s()
        if now_s < deadline_s:
            _sleep_until(deadline_s)
            continue
        marked_before = bool(lease.fenced_s)
        if not marked_before:
            lease.fenced_s = now_s
        if boottime_s() < lease.deadline_s:  # extended while it was marked
            if not marked_before:
                lease.fenced_s = 0.0
            continue
        if not marked_before or anything(lease.groups):
            stop_all(lease.groups, lease)
        if lease.removed():
            return  # nobody can extend it any more, and nothing is left to kill
        time.sleep(LOOK_AGAIN_S)


def start_ticks() -> int:
    """When this process started, in clock ticks since boot (proc_pid_stat(5), field 22)."""
    return int(_read("/proc/self/stat").rpartition(")")[2].split()[19])


def main(path: str) -> int:
    """Be the fence of one node; tells one byte on standard output when it is in charge."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who ends the agents must not end it with them
    os.closerange(3, 1 << 20)
    os.chdir("/")
    lease = LeaseFile(path)
    lease.watchdog = (os.getpid(), start_ticks())
    os.write(1, b"r")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    watch(lease)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
