"""Power fails before each single operation of the disk in turn, over a run with everything in it.

The run: a single voter begins, commits, is elected again, takes snapshots, shortens its journal.
Whatever the moment, and whatever part of the unsynced writes got through, the next start finds
every acknowledged word, and its state is a beginning of the same history.
"""

from __future__ import annotations

import contextlib

import pytest

from paas.raft.journal import Journal
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Cluster, PowerCut

ROUNDS = 6


def workload(cluster: Cluster) -> None:
    for number in range(ROUNDS):
        cluster.propose("A", f"w{number}")
        cluster.run(0.1)
        if number % 2:
            cluster.compact("A")
            cluster.run(0.1)


def operations() -> int:
    """How many operations the whole run makes on the disk."""
    counted = 0

    def count(_kind: str) -> None:
        nonlocal counted
        counted += 1

    cluster = Cluster("A")
    cluster.disks["A"].on_operation = count
    workload(cluster)
    return counted


@pytest.mark.simulation
@pytest.mark.parametrize("luck", ["nothing unsynced survives", "all of it", "some of it"])
def test_a_power_cut_before_every_single_operation_loses_nothing(luck: str) -> None:
    total = operations()
    assert total > 30
    for point in range(total):
        cluster = Cluster("A")
        disk, left = cluster.disks["A"], point

        def operation(_kind: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut

        disk.on_operation = operation
        with pytest.raises(PowerCut):
            workload(cluster)
        disk.on_operation = None
        choose = {
            "nothing unsynced survives": lambda below: 0,
            "all of it": lambda below: below - 1,
            "some of it": SimEntropy(point).choose,
        }[luck]
        cluster.kill("A")
        disk.power_cut(choose)
        cluster.boot("A")
        cluster.run(0.2)
        words = cluster.words["A"].words
        assert cluster.acknowledged <= set(words)
        assert words == [f"w{number}" for number in range(len(words))]


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_while_the_journal_begins_leaves_a_journal_that_can_begin(seed: int) -> None:
    for point in range(12):
        disk, left = SimDisk(), point

        def operation(_kind: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut

        disk.on_operation = operation
        with contextlib.suppress(PowerCut):
            Journal.open(disk, salt=bytes(16))
        disk.on_operation = None
        disk.power_cut(SimEntropy(seed).choose)
        assert Journal.open(disk, salt=bytes(16)).entries == []
