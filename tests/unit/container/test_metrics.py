"""Figures from the kernel's texts."""

from __future__ import annotations

from paas.container.metrics import combine, proportional_bytes
from paas.real.kernel_cgroup import GroupUsage

ROLLUP = "55d0-7ffd ---p 0 00:00 0 [rollup]\nRss:   9000 kB\nPss:   4321 kB\nPss_Anon: 100 kB\n"


def test_pss_is_read_in_bytes() -> None:
    assert proportional_bytes(ROLLUP) == 4321 << 10
    assert proportional_bytes("") == 0


def test_component_and_harness_are_kept_apart() -> None:
    found = combine(GroupUsage(1, 2, 3.0, 4.0, 5, 6), GroupUsage(memory_bytes=7), ROLLUP)
    assert (found.memory_bytes, found.harness_memory_bytes) == (1, 7)
    assert (found.cpu_ms, found.throttled_ms) == (3.0, 4.0)
    assert (found.pids, found.out_of_memory_kills) == (5, 6)
    assert found.harness_pss_bytes == 4321 << 10
