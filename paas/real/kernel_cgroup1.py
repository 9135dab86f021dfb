"""Control groups, version 1: one hierarchy per controller (or per group of controllers)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping
from pathlib import Path

from paas.real.kernel_cgroup import (
    WEIGHT,
    GroupLimits,
    GroupUsage,
    MemoryInUse,
    read_fields,
    write_rule,
)

_PERIOD_US = 100_000
"""Length of the window in which a quota of processor time is counted (kernel's default)."""

WANTED = ("memory", "cpu", "cpuacct", "pids")
_SHARES = 1_024
"""What `cpu.shares` is for everybody."""

_IO_RULES = ("blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device")


class Hierarchy1:
    """One version 1 mount with the controllers of ours that it carries."""

    # A thread that moves itself needs no lock over all forks of the machine; moving a process by
    # cgroup.procs waits for an RCU grace period, 14 ms at the median.
    entrance = "tasks"

    def __init__(self, root: Path, controllers: frozenset[str]) -> None:
        self.root = root
        self.controllers = controllers

    def open_parent(self, parent: str) -> None:
        (self.root / parent).mkdir(exist_ok=True)

    def create(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def limit(self, leaf: Path, limits: GroupLimits) -> None:
        if "memory" in self.controllers and limits.memory_bytes is not None:
            self._limit_memory(leaf, limits.memory_bytes)
        if "cpu" in self.controllers and limits.cpu is not None:
            quota = max(1_000, round(limits.cpu * _PERIOD_US))
            (leaf / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (leaf / "cpu.cfs_quota_us").write_text(str(quota))
        if "pids" in self.controllers and limits.pids is not None:
            (leaf / "pids.max").write_text(str(limits.pids))

    def _limit_memory(self, leaf: Path, memory_bytes: int) -> None:
        # Memory and swap together may not exceed the memory: no swap.  The file is missing where
        # the kernel does not account swap; then swappiness does what can be done.
        alone, together = leaf / "memory.limit_in_bytes", leaf / "memory.memsw.limit_in_bytes"
        order = [alone, together]
        if not together.exists():
            with contextlib.suppress(OSError):
                (leaf / "memory.swappiness").write_text("0")
            order = [alone]
        elif memory_bytes > int(together.read_text()):
            order.reverse()  # the one may never be above the other
        try:
            for path in order:
                path.write_text(str(memory_bytes))
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
            raise MemoryInUse(int((leaf / "memory.usage_in_bytes").read_text())) from None

    def weigh(self, group: Path, weight: int) -> None:
        if "cpu" in self.controllers:
            (group / "cpu.shares").write_text(str(max(2, weight * _SHARES // WEIGHT)))

    def set_frozen(self, leaf: Path, frozen: bool) -> None:
        write_rule(leaf / "freezer.state", "FROZEN" if frozen else "THAWED")

    def is_frozen(self, leaf: Path) -> bool:
        return (leaf / "freezer.state").read_text().strip() == "FROZEN"

    def is_freezing(self, leaf: Path) -> bool:
        return (leaf / "freezer.self_freezing").read_text().strip() == "1"

    def pressure(self, leaf: Path) -> dict[str, float] | None:
        return None  # the kernel counts it for groups of version 2 only

    def limit_io(self, leaf: Path, device: str, bytes_per_s: int) -> None:
        for name in _IO_RULES:
            write_rule(leaf / name, f"{device} {bytes_per_s}")

    def lift_io(self, leaf: Path) -> None:
        for name in _IO_RULES:
            try:
                rules = (leaf / name).read_text()
            except FileNotFoundError:
                return
            for rule in rules.splitlines():
                write_rule(leaf / name, f"{rule.split()[0]} 0")

    def usage(self, leaf: Path) -> GroupUsage:
        memory = peak = kills = pids = bound = 0
        cpu_ms = throttled_ms = 0.0
        if "memory" in self.controllers:
            memory = int((leaf / "memory.usage_in_bytes").read_text())
            peak = int((leaf / "memory.max_usage_in_bytes").read_text())
            kills = read_fields(leaf / "memory.oom_control").get("oom_kill", 0)
            bound = int((leaf / "memory.limit_in_bytes").read_text())
        if "cpuacct" in self.controllers:
            cpu_ms = int((leaf / "cpuacct.usage").read_text()) / 1e6
        if "cpu" in self.controllers:
            throttled_ms = read_fields(leaf / "cpu.stat").get("throttled_time", 0) / 1e6
        if "pids" in self.controllers:
            pids = int((leaf / "pids.current").read_text())
        return GroupUsage(memory, peak, cpu_ms, throttled_ms, pids, kills, bound)


def hierarchies(mounts: Mapping[str, str]) -> list[Hierarchy1]:
    """The version 1 mounts that carry a controller we want, each once."""
    by_mount: dict[str, set[str]] = {}
    for controller in WANTED:
        if controller in mounts:
            by_mount.setdefault(mounts[controller], set()).add(controller)
    return [Hierarchy1(Path(root), frozenset(names)) for root, names in by_mount.items()]
