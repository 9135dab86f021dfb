"""Control groups whatever their version: the hierarchies there are, and one object over them.

    <mount>/<parent>/<container>/harness       pid 1 and what it keeps for itself
    <mount>/<parent>/<container>/component     the component; the limits of its specification

Memory, processor time and process numbers are needed.  Each controller is taken from its version 1
hierarchy where one is mounted, otherwise from version 2: so version 1 only, version 2 only and
mixed machines are all served.  The two drivers have one interface (`Hierarchy`).

Disk I/O is bounded for those containers only that ask for it: for the others its hierarchy is not
touched (on version 1 a mount of its own; on version 2 a controller that is not handed down).

A task whose I/O is held up cannot be killed before the kernel has let that I/O pass, at the speed
of the limit; one that is frozen on version 1 gets no signal at all: therefore `let_die` goes with
every kill.

Only the component is ever frozen: its harness goes on speaking for it.  On version 1 that takes a
hierarchy more, in which every component has a group from its start on, since moving a process into
one later would wait for the kernel each time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paas.base.errors import PlatformError

NEEDED = ("memory", "cpu", "pids")
LEAVES = ("harness", "component")
COMPONENT = LEAVES[1]

_JOIN_PASSES_MAX = 100
_JOIN_PAUSE_S = 0.01
"""How often to look for processes that come, or are forked while others are moved."""

_BUSY_S = 2.0
"""How long a group may stay busy after its last process was killed."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Bounds of one leaf; None: none."""

    memory_bytes: int | None = None
    cpu: float | None = None
    pids: int | None = None


WEIGHT = 100
"""The share of processor time that every container has unless it was given another one."""


class MemoryInUse(Exception):
    """The bound on memory cannot be lowered so far: the group holds `used_bytes`."""

    def __init__(self, used_bytes: int) -> None:
        super().__init__(f"{used_bytes} bytes are in use")
        self.used_bytes = used_bytes


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """What a leaf uses; a hierarchy fills in what it knows, the rest is zero."""

    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    cpu_ms: float = 0.0
    throttled_ms: float = 0.0
    pids: int = 0
    out_of_memory_kills: int = 0
    memory_limit_bytes: int = 0

    def plus(self, other: GroupUsage) -> GroupUsage:
        return GroupUsage(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))


class Hierarchy(Protocol):
    """One mounted tree of groups with some of the controllers."""

    root: Path
    controllers: frozenset[str]
    entrance: str
    """Name of the file into which a process with one thread writes "0" to enter a group."""

    def open_parent(self, parent: str) -> None:
        """Make the parent and let its children have the controllers."""
        ...

    def create(self, path: Path) -> None:
        """Make the group of one container below the parent; its leaves follow."""
        ...

    def limit(self, leaf: Path, limits: GroupLimits) -> None:
        """Also of a group that is in use; raises `MemoryInUse`, and has changed nothing then."""
        ...

    def weigh(self, group: Path, weight: int) -> None:
        """Its share of processor time among its neighbours; 100 is everybody's."""
        ...

    def set_frozen(self, leaf: Path, frozen: bool) -> None:
        """Begin to freeze, or thaw; thawing what is not frozen changes nothing."""
        ...

    def is_frozen(self, leaf: Path) -> bool:
        """Has everything in it come to a stop?"""
        ...

    def is_freezing(self, leaf: Path) -> bool:
        """Was it told to stop?"""
        ...

    def pressure(self, leaf: Path) -> dict[str, float] | None:
        """Per resource, in percent: for how much of the last ten seconds some task waited for it.
        None where the kernel does not tell it.
        """
        ...

    def limit_io(self, leaf: Path, device: str, bytes_per_s: int) -> None:
        """Bound reading and writing of the device (`major:minor`), each."""
        ...

    def lift_io(self, leaf: Path) -> None:
        """Take back every bound of I/O of this leaf; there being none is no error."""
        ...

    def usage(self, leaf: Path) -> GroupUsage: ...


@dataclass(frozen=True, slots=True)
class CgroupMounts:
    """Where the hierarchies are mounted, from /proc/self/mountinfo."""

    version1: Mapping[str, str]
    """Controller to mount point."""
    version2: str | None


def find_mounts(mountinfo: str) -> CgroupMounts:
    """Read the mounts of control groups out of a mountinfo text (proc_pid_mountinfo(5))."""
    version1: dict[str, str] = {}
    version2: str | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 5 or len(tail) < 3:
            continue
        if tail[0] == "cgroup2":
            version2 = version2 or fields[4]
        elif tail[0] == "cgroup":
            for option in tail[2].split(","):
                version1.setdefault(option, fields[4])
    return CgroupMounts(version1, version2)


class Cgroups:
    """The groups of one cluster's containers in every hierarchy that is needed."""

    def __init__(
        self,
        hierarchies: Sequence[Hierarchy],
        parent: str,
        io: Hierarchy | None = None,
        freezer: Hierarchy | None = None,
    ) -> None:
        """`io` bounds disk I/O, `freezer` stops components: one of the hierarchies, or one more."""
        self.hierarchies = tuple(hierarchies)
        self._parent = parent
        self._io = io
        self._freezer = freezer
        extra = [h for h in (io, freezer) if h is not None and h not in self.hierarchies]
        self._all = (*self.hierarchies, *dict.fromkeys(extra))
        """With the one that only containers with a bound on I/O have a group in, and the one that
        only components have a group in."""

    def open(self) -> None:
        for hierarchy in self.hierarchies:
            hierarchy.open_parent(self._parent)
        if self._freezer is not None and self._freezer not in self.hierarchies:
            self._freezer.open_parent(self._parent)

    def create(self, name: str, limits: Mapping[str, GroupLimits]) -> None:
        """Make the leaves of one container with their limits; repeating it changes nothing."""
        for hierarchy in self.hierarchies:
            top = hierarchy.root / self._parent / name
            hierarchy.create(top)
            for leaf in LEAVES:
                (top / leaf).mkdir(exist_ok=True)
                hierarchy.limit(top / leaf, limits.get(leaf, GroupLimits()))
        if self._freezer is not None and self._freezer not in self.hierarchies:
            top = self._freezer.root / self._parent / name
            self._freezer.create(top)
            (top / COMPONENT).mkdir(exist_ok=True)

    def weigh(self, name: str, weight: int) -> None:
        """The container's share of processor time when there is not enough for all."""
        for hierarchy in self.hierarchies:
            hierarchy.weigh(hierarchy.root / self._parent / name, weight)

    def resize(self, name: str, limits: GroupLimits) -> None:
        """Other bounds for a component that runs; raises `MemoryInUse` before anything else."""
        for hierarchy in self.hierarchies:
            hierarchy.limit(hierarchy.root / self._parent / name / COMPONENT, limits)

    # -- freezing ------------------------------------------------------------------------------

    def freeze(self, name: str) -> None:
        """Begin to freeze the component; see `is_frozen`.  Raises `unsupported`."""
        self._need_freezer().set_frozen(self._frozen_leaf(name), True)

    def thaw(self, name: str) -> None:
        """Let the component go on; one that is not frozen, or gone, is no error."""
        if self._freezer is not None:
            with contextlib.suppress(FileNotFoundError, OSError):
                self._freezer.set_frozen(self._frozen_leaf(name), False)

    def is_frozen(self, name: str) -> bool:
        """Has everything of the component come to a stop?"""
        with contextlib.suppress(FileNotFoundError, OSError):
            return self._freezer is not None and self._freezer.is_frozen(self._frozen_leaf(name))
        return False

    def is_freezing(self, name: str) -> bool:
        """Was the component told to stop, and not to go on since?"""
        with contextlib.suppress(FileNotFoundError, OSError):
            return self._freezer is not None and self._freezer.is_freezing(self._frozen_leaf(name))
        return False

    def _frozen_leaf(self, name: str) -> Path:
        return self._need_freezer().root / self._parent / name / COMPONENT

    def _need_freezer(self) -> Hierarchy:
        if self._freezer is None:
            raise PlatformError(
                "unsupported",
                "no control-group hierarchy can freeze (version 1: freezer)",
                hint="mount cgroup2 at /sys/fs/cgroup (see: paas doctor)",
            )
        return self._freezer

    def let_die(self, name: str) -> None:
        """Nothing shall keep the container's processes from ending when they are killed."""
        self.lift_io(name)
        self.thaw(name)

    # -- disk I/O ------------------------------------------------------------------------------

    def limit_io(self, name: str, device: str, bytes_per_s: int) -> None:
        """Bound the component's I/O on a block device; raises `unsupported` with the reason."""
        if self._io is None:
            raise _no_io_limits("no control-group hierarchy offers io (version 1: blkio)")
        top = self._io.root / self._parent / name
        if self._io not in self.hierarchies:
            self._io.open_parent(self._parent)
            self._io.create(top)
            for leaf in LEAVES:
                (top / leaf).mkdir(exist_ok=True)
        number = os.stat(device).st_rdev
        try:
            self._io.limit_io(
                top / COMPONENT, f"{os.major(number)}:{os.minor(number)}", bytes_per_s
            )
        except OSError as exc:
            raise _no_io_limits(f"the kernel refuses a bound on {device}: {exc.strerror}") from exc

    def join_io(self, name: str) -> None:
        """Bring in what was there before the group for I/O was; blocks while its first process is
        on its way, and shortly for each one.
        """
        if self._io is None or self._io in self.hierarchies:
            return
        group = self._io.root / self._parent / name / COMPONENT / "cgroup.procs"
        main = self.hierarchies[0].root / self._parent / name / COMPONENT / "cgroup.procs"
        for _ in range(_JOIN_PASSES_MAX):
            inside = set(group.read_text().split())
            outside = set(main.read_text().split()) - inside
            if inside and not outside:
                return
            if not outside:
                time.sleep(_JOIN_PAUSE_S)
            for pid in outside:
                with contextlib.suppress(OSError):  # it has ended
                    group.write_text(pid)

    def lift_io(self, name: str) -> None:
        """Let the container's I/O pass without bound; for one that is about to be killed."""
        if self._io is not None:
            self._io.lift_io(self._io.root / self._parent / name / COMPONENT)

    def entrances(self, name: str, leaf: str) -> list[str]:
        """The files into which a process writes "0" to enter the leaf."""
        found = [h.root / self._parent / name / leaf / h.entrance for h in self.hierarchies]
        for extra in self._all[len(self.hierarchies) :]:
            group = extra.root / self._parent / name / leaf
            if group.is_dir():
                found.append(group / extra.entrance)
        return [str(path) for path in found]

    def usage(self, name: str, leaf: str) -> GroupUsage:
        total = GroupUsage()
        for hierarchy in self.hierarchies:
            with contextlib.suppress(FileNotFoundError):
                total = total.plus(hierarchy.usage(hierarchy.root / self._parent / name / leaf))
        return total

    def pressure(self, name: str) -> dict[str, float] | None:
        """What the component waits for (PSI); None where the kernel does not tell it."""
        found: dict[str, float] | None = None
        for hierarchy in self.hierarchies:
            with contextlib.suppress(OSError):
                leaf = hierarchy.root / self._parent / name / COMPONENT
                if (told := hierarchy.pressure(leaf)) is not None:
                    found = {**(found or {}), **told}
        return found

    def processes(self, name: str) -> set[int]:
        """Every process in the container's groups, as this process numbers them."""
        found: set[int] = set()
        for leaf in LEAVES:
            for hierarchy in self._all:
                listed = hierarchy.root / self._parent / name / leaf / "cgroup.procs"
                with contextlib.suppress(FileNotFoundError):
                    found.update(int(n) for n in listed.read_text().split())
        return found

    @property
    def parents(self) -> list[str]:
        """The groups below which all containers are, one per hierarchy."""
        return [str(h.root / self._parent) for h in self._all]

    def names(self) -> set[str]:
        """Containers that have a group in any hierarchy."""
        found: set[str] = set()
        for hierarchy in self._all:
            with contextlib.suppress(FileNotFoundError):
                found.update(
                    e.name for e in os.scandir(hierarchy.root / self._parent) if e.is_dir()
                )
        return found

    def remove(self, name: str) -> None:
        """Remove the container's groups; blocks shortly while their last processes go."""
        deadline = time.monotonic() + _BUSY_S
        for hierarchy in self._all:
            top = hierarchy.root / self._parent / name
            for path in (*(top / leaf for leaf in LEAVES), top):
                _remove_group(path, deadline)

    def close(self) -> None:
        """Remove the parent; every container's group must be gone."""
        deadline = time.monotonic() + _BUSY_S
        for hierarchy in self._all:
            _remove_group(hierarchy.root / self._parent, deadline)


def _no_io_limits(reason: str) -> PlatformError:
    return PlatformError(
        "unsupported",
        f"limits.io: {reason}",
        hint="a kernel with CONFIG_BLK_DEV_THROTTLING (see: paas doctor), or leave out limits.io",
        field="limits.io_bytes_per_s",
    )


def _remove_group(path: Path, deadline: float) -> None:
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            # EBUSY: a killed process is still on its way out of the group.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return


def read_fields(path: Path) -> dict[str, int]:
    """A flat keyed file: one `name value` a line."""
    pairs = (line.split() for line in path.read_text().splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit()}


def write_rule(path: Path, rule: str) -> None:
    """One rule into a file that the kernel offers; where it does not, FileNotFoundError."""
    with path.open("r+") as file:  # "w" would try to create it, which is told as forbidden
        file.write(rule)
