"""Figures of one container from what the kernel counts.  Pure."""

from __future__ import annotations

import re
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


def proportional_bytes(smaps_rollup: str) -> int:
    """PSS from the text of /proc/PID/smaps_rollup; 0 when the process has no memory any more."""
    found = _PSS.search(smaps_rollup)
    return int(found[1]) << 10 if found else 0


def combine(component: Usage, harness: Usage, smaps_rollup: str) -> Stats:
    """The component's own figures, and what its harness costs beside it."""
    return Stats(
        memory_bytes=component.memory_bytes,
        memory_peak_bytes=component.memory_peak_bytes,
        cpu_ms=component.cpu_ms,
        throttled_ms=component.throttled_ms,
        pids=component.pids,
        out_of_memory_kills=component.out_of_memory_kills,
        harness_memory_bytes=harness.memory_bytes,
        harness_pss_bytes=proportional_bytes(smaps_rollup),
    )
