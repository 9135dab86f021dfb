"""Control groups whatever their version: the hierarchies there are, and one object over them.

    <mount>/<parent>/<container>/harness       pid 1 and what it keeps for itself
    <mount>/<parent>/<container>/component     the component; the limits of its specification

Memory, processor time and process numbers are needed.  Each controller is taken from its version 1
hierarchy where one is mounted, otherwise from version 2: so version 1 only, version 2 only and
mixed machines are all served.  The two drivers have one interface (`Hierarchy`).

Disk I/O is bounded for those containers only that ask for it: for the others its hierarchy is not
touched (on version 1 a mount of its own; on version 2 a controller that is not handed down).

A task whose I/O is held up cannot be killed before the kernel has let that I/O pass, at the speed
of the limit: therefore `lift_io` comes before a kill.
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

_BUSY_S = 2.0
"""How long a group may stay busy after its last process was killed."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Bounds of one leaf; None: none."""

    memory_bytes: int | None = None
    cpu: float | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """What a leaf uses; a hierarchy fills in what it knows, the rest is zero."""

    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    cpu_ms: float = 0.0
    throttled_ms: float = 0.0
    pids: int = 0
    out_of_memory_kills: int = 0

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

    def limit(self, leaf: Path, limits: GroupLimits) -> None: ...

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
        self, hierarchies: Sequence[Hierarchy], parent: str, io: Hierarchy | None = None
    ) -> None:
        """`io` bounds disk I/O: one of the hierarchies, or one more."""
        self.hierarchies = tuple(hierarchies)
        self._parent = parent
        self._io = io
        extra = () if io is None or io in self.hierarchies else (io,)
        self._all = (*self.hierarchies, *extra)
        """With the one that only containers with a bound on I/O have a group in."""

    def open(self) -> None:
        for hierarchy in self.hierarchies:
            hierarchy.open_parent(self._parent)

    def create(self, name: str, limits: Mapping[str, GroupLimits]) -> None:
        """Make the leaves of one container with their limits; repeating it changes nothing."""
        for hierarchy in self.hierarchies:
            top = hierarchy.root / self._parent / name
            hierarchy.create(top)
            for leaf in LEAVES:
                (top / leaf).mkdir(exist_ok=True)
                hierarchy.limit(top / leaf, limits.get(leaf, GroupLimits()))

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
                top / "component", f"{os.major(number)}:{os.minor(number)}", bytes_per_s
            )
        except OSError as exc:
            raise _no_io_limits(f"the kernel refuses a bound on {device}: {exc.strerror}") from exc

    def lift_io(self, name: str) -> None:
        """Let the container's I/O pass without bound; for one that is about to be killed."""
        if self._io is not None:
            self._io.lift_io(self._io.root / self._parent / name / "component")

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
