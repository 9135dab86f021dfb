"""Control groups, version 2: one hierarchy, controllers handed down level by level.

A group whose children have controllers may hold no process itself, therefore processes are only in
the leaves.  Our parent is a child of the mount's root, or of a group that was delegated to us.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from paas.real.kernel_cgroup import (
    GroupLimits,
    GroupUsage,
    MemoryInUse,
    read_fields,
    write_rule,
)

_PERIOD_US = 100_000
_NO_LIMIT = "max"
_PRESSURES = ("cpu", "memory", "io")


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
        if not self.controllers:
            return
        words = " ".join(f"+{name}" for name in sorted(self.controllers))
        (path / "cgroup.subtree_control").write_text(words)

    def limit(self, leaf: Path, limits: GroupLimits) -> None:
        if "memory" in self.controllers and limits.memory_bytes is not None:
            self._limit_memory(leaf, limits.memory_bytes)
        if "cpu" in self.controllers and limits.cpu is not None:
            quota = max(1_000, round(limits.cpu * _PERIOD_US))
            (leaf / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        if "pids" in self.controllers and limits.pids is not None:
            (leaf / "pids.max").write_text(str(limits.pids))

    def _limit_memory(self, leaf: Path, memory_bytes: int) -> None:
        """A bound below what is in use would have the kernel kill at once: then it is refused."""
        with contextlib.suppress(FileNotFoundError):
            used = int((leaf / "memory.current").read_text())
            if used > memory_bytes:
                with contextlib.suppress(OSError):  # since Linux 5.19; less than wanted is EAGAIN
                    write_rule(leaf / "memory.reclaim", str(used - memory_bytes))
                used = int((leaf / "memory.current").read_text())
                if used > memory_bytes:
                    raise MemoryInUse(used)
        (leaf / "memory.max").write_text(str(memory_bytes))
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap
            (leaf / "memory.swap.max").write_text("0")

    def weigh(self, group: Path, weight: int) -> None:
        if "cpu" in self.controllers:
            (group / "cpu.weight").write_text(str(weight))

    def set_frozen(self, leaf: Path, frozen: bool) -> None:
        write_rule(leaf / "cgroup.freeze", "1" if frozen else "0")

    def is_frozen(self, leaf: Path) -> bool:
        return read_fields(leaf / "cgroup.events").get("frozen", 0) == 1

    def is_freezing(self, leaf: Path) -> bool:
        return (leaf / "cgroup.freeze").read_text().strip() == "1"

    def pressure(self, leaf: Path) -> dict[str, float] | None:
        found = {}
        for name in _PRESSURES:
            with contextlib.suppress(OSError):  # a kernel without PSI
                found[name] = some_10s((leaf / f"{name}.pressure").read_text())
        return found or None

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
        memory = peak = kills = pids = bound = 0
        cpu_ms = throttled_ms = 0.0
        if "memory" in self.controllers:
            memory = int((leaf / "memory.current").read_text())
            with contextlib.suppress(FileNotFoundError):  # since Linux 5.19
                peak = int((leaf / "memory.peak").read_text())
            kills = read_fields(leaf / "memory.events").get("oom_kill", 0)
            text = (leaf / "memory.max").read_text().strip()
            bound = 0 if text == _NO_LIMIT else int(text)
        if "cpu" in self.controllers:
            figures = read_fields(leaf / "cpu.stat")
            cpu_ms = figures.get("usage_usec", 0) / 1e3
            throttled_ms = figures.get("throttled_usec", 0) / 1e3
        if "pids" in self.controllers:
            pids = int((leaf / "pids.current").read_text())
        return GroupUsage(memory, peak, cpu_ms, throttled_ms, pids, kills, bound)


def some_10s(pressure: str) -> float:
    """The average over ten seconds out of a file of pressure (Documentation/accounting/psi.rst)."""
    for line in pressure.splitlines():
        if line.startswith("some "):
            for word in line.split()[1:]:
                name, _, value = word.partition("=")
                if name == "avg10":
                    return float(value)
    return 0.0


def available(root: str) -> frozenset[str]:
    """Controllers that version 2 offers here."""
    try:
        return frozenset((Path(root) / "cgroup.controllers").read_text().split())
    except FileNotFoundError:
        return frozenset()
