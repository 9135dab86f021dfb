"""What the hooks' ports are on a real machine: directories and control groups off the event loop.

Short file operations on control groups are done in place (some dozens of microseconds each); what
may block longer (removing trees, waiting for a group to become empty) is done in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import trio

from paas.base.errors import invalid
from paas.container import limits
from paas.container.filesystems.usage import disk_usage
from paas.container.journal import Record
from paas.container.messages import ContainerSpec
from paas.container.metrics import Beside, device_bytes
from paas.container.spec import NodeLimits
from paas.real.kernel_cgroup import WEIGHT, Cgroups, GroupLimits
from paas.real.kernel_store import remove_tree


class HostDirectories:
    """Directories of the host."""

    async def make(self, path: str) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)

    async def require(self, field: str, path: str) -> None:
        if not Path(path).is_dir():  # noqa: ASYNC240  (a look at a directory entry)
            raise invalid(field, f"an existing directory (not {path})")

    async def remove(self, path: str) -> None:
        await trio.to_thread.run_sync(remove_tree, path)


class ContainerGroups:
    """The two leaves of one container."""

    def __init__(self, groups: Cgroups) -> None:
        self._groups = groups

    async def create(self, spec: ContainerSpec) -> None:
        wanted = spec.limits
        component = GroupLimits(wanted.memory_bytes, wanted.cpu, wanted.pids)
        harness = GroupLimits(limits.HARNESS_MEMORY_BYTES, None, limits.HARNESS_PIDS)
        self._groups.create(spec.component, {"component": component, "harness": harness})
        if wanted.cpu_weight != WEIGHT:
            self._groups.weigh(spec.component, wanted.cpu_weight)

    async def limit_io(self, component: str, device: str, bytes_per_s: int) -> None:
        # The first rule for a device waits until its queue is empty: some dozens of milliseconds.
        await trio.to_thread.run_sync(self._groups.limit_io, component, device, bytes_per_s)

    async def remove(self, component: str) -> None:
        await trio.to_thread.run_sync(self._groups.remove, component)

    def entrances(self, component: str, leaf: str) -> Sequence[str]:
        return self._groups.entrances(component, leaf)


def read_beside(record: Record, pressure: dict[str, float] | None, frozen: bool) -> Beside:
    """What of a container's figures is not in its control groups; what is gone counts nothing."""
    device = record.device.rpartition("/")[2]
    counters = f"/sys/class/net/{record.link}/statistics"
    return Beside(
        smaps_rollup=_text(f"/proc/{record.pid}/smaps_rollup"),
        io=device_bytes(_text(f"/sys/class/block/{device}/stat")) if device else (0, 0),
        # What the host sends on its end of the link is what the container receives.
        network=(_number(f"{counters}/tx_bytes"), _number(f"{counters}/rx_bytes")),
        pressure=pressure,
        frozen=frozen,
        disk=_disk(record),
    )


def _disk(record: Record) -> tuple[int, int]:
    found = disk_usage(record.pid or 0, record)
    return found.used_bytes, found.inodes


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _number(path: str) -> int:
    return int(_text(path) or 0)


def node_limits(memory_bytes: int, cpu: float, disk_bytes: int, bases: Sequence[str]) -> NodeLimits:
    """What one component may ask for: the settings where given, else what the machine has."""
    page = os.sysconf("SC_PAGE_SIZE")
    return NodeLimits(
        memory_bytes=memory_bytes or os.sysconf("SC_PHYS_PAGES") * page,
        cpu=cpu or float(os.cpu_count() or 1),
        disk_bytes=min(disk_bytes, limits.DISK_BYTES_MAX),
        bases=bases,
    )
