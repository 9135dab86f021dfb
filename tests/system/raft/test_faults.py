"""Disks that lose, damage or refuse what is written, and processes that are killed: a little of
what `python -m bench.faults` does for hours, and the bare library under the same power cuts.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from paas.testing import replica_faults as faults
from paas.testing.replica_stock import Stock, lost_by
from paas.testing.replicas import Shim

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SEED = 20_260


async def test_power_cuts_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    found = await faults.power(tmp_path, 12, SEED)
    assert found["wrong"] == []
    assert found["processes_cut"] == 20
    assert found["acknowledged"] > 600
    lost = found["changes"]
    assert lost["torn"] > 0
    assert lost["dropped"] > 0  # else the shim is blind


async def test_a_damaged_disk_is_noticed_and_the_node_comes_back_by_itself(tmp_path: Path) -> None:
    found = await faults.damage(tmp_path, 12, SEED)
    assert found["wrong"] == []
    assert found["times"] == 12
    assert all(found["files"][name] >= 2 for name in faults.HARMED)
    assert all(found["kinds"][kind] == 4 for kind in faults.HARMS)


async def test_a_process_whose_sync_failed_ends_before_it_acknowledges(tmp_path: Path) -> None:
    found = await faults.eio(tmp_path, 5, SEED)
    assert found["wrong"] == []


async def test_a_leader_with_a_full_disk_yields_and_follows_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    found = await faults.full(tmp_path, 3, SEED)
    assert found["wrong"] == []


async def test_killed_replicas_lose_nothing_and_what_clients_saw_is_linearizable(
    tmp_path: Path,
) -> None:
    found = await faults.kill(tmp_path, 10, SEED)
    assert found["wrong"] == []
    assert found["kills"] >= 5
    assert found["history"]["operations"] > 100


async def test_a_replica_with_many_entries_is_back_soon(tmp_path: Path) -> None:
    found = await faults.restart(tmp_path, 3_000, snapshot=False)
    assert found["wrong"] == []
    assert found["entries"] >= 3_000


# -- the bare library under the same power cuts ----------------------------------------------------


def test_the_bare_library_loses_acknowledged_words_in_the_same_cuts(tmp_path: Path) -> None:
    shim = Shim(tmp_path, SEED)
    killed = lost_by(Stock.kill, tmp_path / "killed", shim)
    assert killed == 0  # what follows is the disk's doing
    assert any(lost_by(Stock.cut, tmp_path / f"cut-{attempt}", shim) for attempt in range(5))
