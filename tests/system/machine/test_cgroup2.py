"""Version 2 of control groups, as Debian has it: in a machine that boots Debian's kernel.

The machine that runs these tests may have version 1 only, or both; inside it is 2 and nothing else,
and the kernel is one of an older generation (6.1) than others of the tests may see.
"""

from __future__ import annotations

import re

import pytest

from tests.system.machine.virtual_machine import VirtualMachine

pytestmark = [pytest.mark.system, pytest.mark.timeout(1_200)]

# What says most about control groups for its time: a test takes ten seconds on such a processor.
BOUNDS = (
    "test_eating_memory_ends_with_out_of_memory",
    "test_a_fork_bomb_is_bounded",
)
LIVING = (
    "test_a_frozen_component_stands_still_and_goes_on_after",
    "test_a_frozen_component_can_be_ended",
    "test_more_memory_lets_it_go_on_and_less_ends_its_growth",
    "test_processor_time_and_weight_follow_at_once",
    "test_a_bound_on_disk_io_can_come_and_go",
    "test_figures_of_network_and_disk",
)
CHOSEN = [
    *(f"tests/system/container/test_limits.py::{name}" for name in BOUNDS),
    *(f"tests/system/container/test_living.py::{name}" for name in LIVING),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> VirtualMachine:
    folder = tmp_path_factory.mktemp("machine", numbered=True)
    folder.chmod(0o755)
    return VirtualMachine(folder)


def test_bounds_hold_and_containers_live_with_version_2_alone(machine: VirtualMachine) -> None:
    said = machine.run_tests(*CHOSEN, timeout_s=900)
    (controllers,) = re.findall(r"controllers: (.*)", said)
    assert {"cpu", "io", "memory", "pids"} <= set(controllers.split())
    passed = re.search(r"(\d+) passed", said)
    assert "ended with 0" in said, said[-6_000:]
    assert passed is not None
    assert int(passed[1]) >= len(CHOSEN)
    (nothing,) = re.findall(r"without a test: (\d+)", said)
    assert int(nothing) != 0  # so "ended with 0" says that there were tests
