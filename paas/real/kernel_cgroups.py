"""Detection: which control-group hierarchies of this machine serve our three needs."""

from __future__ import annotations

from pathlib import Path

from paas.base.errors import PlatformError
from paas.real.kernel_cgroup import NEEDED, CgroupMounts, Cgroups, Hierarchy, find_mounts
from paas.real.kernel_cgroup1 import hierarchies
from paas.real.kernel_cgroup2 import Hierarchy2, available


def read_mounts() -> CgroupMounts:
    return find_mounts(Path("/proc/self/mountinfo").read_text())


def choose(mounts: CgroupMounts) -> tuple[list[Hierarchy], list[str]]:
    """(hierarchies to use, needed controllers that none of them has)."""
    chosen: list[Hierarchy] = list(hierarchies(mounts.version1))
    have = set().union(*(h.controllers for h in chosen)) if chosen else set()
    if mounts.version2 is not None:
        rest = (available(mounts.version2) & set(NEEDED)) - have
        if rest:
            chosen.append(Hierarchy2(Path(mounts.version2), frozenset(rest)))
            have |= rest
    return chosen, [name for name in NEEDED if name not in have]


def open_cgroups(parent: str) -> Cgroups:
    """The cluster's groups on this machine, or `unsupported` with what is missing."""
    chosen, missing = choose(read_mounts())
    if missing:
        raise PlatformError(
            "unsupported",
            f"no control-group hierarchy offers: {', '.join(missing)}",
            hint="mount cgroup2 at /sys/fs/cgroup (see: paas doctor)",
            missing=missing,
        )
    return Cgroups(chosen, parent)
