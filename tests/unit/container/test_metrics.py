"""Figures from the kernel's texts."""

from __future__ import annotations

from paas.container.metrics import Beside, combine, device_bytes, proportional_bytes
from paas.real.kernel_cgroup import GroupUsage

ROLLUP = "55d0-7ffd ---p 0 00:00 0 [rollup]\nRss:   9000 kB\nPss:   4321 kB\nPss_Anon: 100 kB\n"


def test_pss_is_read_in_bytes() -> None:
    assert proportional_bytes(ROLLUP) == 4321 << 10
    assert proportional_bytes("") == 0


def test_component_and_harness_are_kept_apart() -> None:
    beside = Beside(
        smaps_rollup=ROLLUP, io=(8, 9), network=(10, 11), disk=(12, 13), pressure={"cpu": 1.5}
    )
    found = combine(GroupUsage(1, 2, 3.0, 4.0, 5, 6, 14), GroupUsage(memory_bytes=7), beside)
    assert (found.memory_bytes, found.harness_memory_bytes) == (1, 7)
    assert (found.cpu_ms, found.throttled_ms) == (3.0, 4.0)
    assert (found.pids, found.out_of_memory_kills) == (5, 6)
    assert found.harness_pss_bytes == 4321 << 10
    assert (found.io_read_bytes, found.io_write_bytes) == (8, 9)
    assert (found.network_received_bytes, found.network_sent_bytes) == (10, 11)
    assert (found.disk_bytes, found.disk_inodes, found.memory_limit_bytes) == (12, 13, 14)
    assert (found.pressure, found.frozen) == ({"cpu": 1.5}, False)


def test_a_devices_figures_are_in_pieces_of_512_bytes() -> None:
    assert device_bytes(" 10 0 3 0 20 0 5 0 0 0 0\n") == (1536, 2560)
    assert device_bytes("") == (0, 0)
