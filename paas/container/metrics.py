"""Figures of one container from what the kernel counts.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from paas.container.messages import Stats

_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


class Usage(Protocol):
    """What a control-group leaf counts."""

    @property
    def memory_bytes(self) -> int: ...
    @property
    def memory_peak_bytes(self) -> int: ...
    @property
    def cpu_ms(self) -> float: ...
    @property
    def throttled_ms(self) -> float: ...
    @property
    def pids(self) -> int: ...
    @property
    def out_of_memory_kills(self) -> int: ...
    @property
    def memory_limit_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Figures that control groups do not count."""

    smaps_rollup: str = ""
    io: tuple[int, int] = (0, 0)
    """Bytes read from and written to its block device."""
    network: tuple[int, int] = (0, 0)
    """Bytes received and sent by it."""
    disk: tuple[int, int] = (0, 0)
    """Bytes and inodes in use of its writable layer."""
    pressure: dict[str, float] | None = None
    frozen: bool = False


def proportional_bytes(smaps_rollup: str) -> int:
    """PSS from the text of /proc/PID/smaps_rollup; 0 when the process has no memory any more."""
    found = _PSS.search(smaps_rollup)
    return int(found[1]) << 10 if found else 0


def device_bytes(stat: str) -> tuple[int, int]:
    """(read, written) from the text of /sys/class/block/DEVICE/stat; it counts pieces of 512."""
    words = stat.split()
    return (int(words[2]) * 512, int(words[6]) * 512) if len(words) > 6 else (0, 0)


def combine(component: Usage, harness: Usage, beside: Beside) -> Stats:
    """The component's own figures, and what its harness costs beside it."""
    return Stats(
        memory_bytes=component.memory_bytes,
        memory_peak_bytes=component.memory_peak_bytes,
        cpu_ms=component.cpu_ms,
        throttled_ms=component.throttled_ms,
        pids=component.pids,
        out_of_memory_kills=component.out_of_memory_kills,
        harness_memory_bytes=harness.memory_bytes,
        harness_pss_bytes=proportional_bytes(beside.smaps_rollup),
        memory_limit_bytes=component.memory_limit_bytes,
        io_read_bytes=beside.io[0],
        io_write_bytes=beside.io[1],
        network_received_bytes=beside.network[0],
        network_sent_bytes=beside.network[1],
        disk_bytes=beside.disk[0],
        disk_inodes=beside.disk[1],
        pressure=beside.pressure,
        frozen=beside.frozen,
    )
