"""Control groups, version 2: one hierarchy, controllers handed down level by level.

A group whose children have controllers may hold no process itself, therefore processes are only in
the leaves.  Our parent is a child of the mount's root, or of a group that was delegated to us.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from paas.real.kernel_cgroup import GroupLimits, GroupUsage, read_fields, write_rule

_PERIOD_US = 100_000


class Hierarchy2:
    """The version 2 mount with the controllers of ours that version 1 has not taken."""

    entrance = "cgroup.procs"

    def __init__(self, root: Path, controllers: frozenset[str]) -> None:
        self.root = root
        self.controllers = controllers

    def open_parent(self, parent: str) -> None:
        self._hand_down(self.root)
        (self.root / parent).mkdir(exist_ok=True)
        self._hand_down(self.root / parent)

    def create(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self._hand_down(path)

    def _hand_down(self, path: Path) -> None:
        words = " ".join(f"+{name}" for name in sorted(self.controllers))
        (path / "cgroup.subtree_control").write_text(words)

    def limit(self, leaf: Path, limits: GroupLimits) -> None:
        if "memory" in self.controllers and limits.memory_bytes is not None:
            (leaf / "memory.max").write_text(str(limits.memory_bytes))
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                (leaf / "memory.swap.max").write_text("0")
        if "cpu" in self.controllers and limits.cpu is not None:
            quota = max(1_000, round(limits.cpu * _PERIOD_US))
            (leaf / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        if "pids" in self.controllers and limits.pids is not None:
            (leaf / "pids.max").write_text(str(limits.pids))

    def limit_io(self, leaf: Path, device: str, bytes_per_s: int) -> None:
        # Handed down here and not to every container: it has a price for all below.
        for path in (self.root, leaf.parent.parent, leaf.parent):
            (path / "cgroup.subtree_control").write_text("+io")
        write_rule(leaf / "io.max", f"{device} rbps={bytes_per_s} wbps={bytes_per_s}")

    def lift_io(self, leaf: Path) -> None:
        try:
            rules = (leaf / "io.max").read_text()
        except FileNotFoundError:
            return
        for rule in rules.splitlines():
            write_rule(leaf / "io.max", f"{rule.split()[0]} rbps=max wbps=max")

    def usage(self, leaf: Path) -> GroupUsage:
        memory = peak = kills = pids = 0
        cpu_ms = throttled_ms = 0.0
        if "memory" in self.controllers:
            memory = int((leaf / "memory.current").read_text())
            with contextlib.suppress(FileNotFoundError):  # since Linux 5.19
                peak = int((leaf / "memory.peak").read_text())
            kills = read_fields(leaf / "memory.events").get("oom_kill", 0)
        if "cpu" in self.controllers:
            figures = read_fields(leaf / "cpu.stat")
            cpu_ms = figures.get("usage_usec", 0) / 1e3
            throttled_ms = figures.get("throttled_usec", 0) / 1e3
        if "pids" in self.controllers:
            pids = int((leaf / "pids.current").read_text())
        return GroupUsage(memory, peak, cpu_ms, throttled_ms, pids, kills)


def available(root: str) -> frozenset[str]:
    """Controllers that version 2 offers here."""
    try:
        return frozenset((Path(root) / "cgroup.controllers").read_text().split())
    except FileNotFoundError:
        return frozenset()
