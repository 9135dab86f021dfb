"""Detection: which control-group hierarchies of this machine serve what we need of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paas.base.errors import PlatformError
from paas.real.kernel_cgroup import NEEDED, CgroupMounts, Cgroups, Hierarchy, find_mounts
from paas.real.kernel_cgroup1 import Hierarchy1, hierarchies
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


def choose_io(mounts: CgroupMounts, chosen: Sequence[Hierarchy]) -> Hierarchy | None:
    """The hierarchy that bounds disk I/O: one of the chosen, or one more, or none there is."""
    if (root1 := mounts.version1.get("blkio")) is not None:
        found: Hierarchy = Hierarchy1(Path(root1), frozenset({"blkio"}))
    elif mounts.version2 is not None and "io" in available(mounts.version2):
        found = Hierarchy2(Path(mounts.version2), frozenset({"io"}))
    else:
        return None
    return next((h for h in chosen if h.root == found.root), found)


def choose_freezer(mounts: CgroupMounts, chosen: Sequence[Hierarchy]) -> Hierarchy | None:
    """The hierarchy that freezes; of version 2 every group can be frozen, without a controller."""
    if mounts.version2 is not None:
        own = next((h for h in chosen if str(h.root) == mounts.version2), None)
        if own is not None:
            return own
    if (root1 := mounts.version1.get("freezer")) is not None:
        return Hierarchy1(Path(root1), frozenset({"freezer"}))
    if mounts.version2 is not None:
        return Hierarchy2(Path(mounts.version2), frozenset())
    return None


def open_cgroups(parent: str) -> Cgroups:
    """The cluster's groups on this machine, or `unsupported` with what is missing."""
    mounts = read_mounts()
    chosen, missing = choose(mounts)
    if missing:
        raise PlatformError(
            "unsupported",
            f"no control-group hierarchy offers: {', '.join(missing)}",
            hint="mount cgroup2 at /sys/fs/cgroup (see: paas doctor)",
            missing=missing,
        )
    return Cgroups(chosen, parent, choose_io(mounts, chosen), choose_freezer(mounts, chosen))
