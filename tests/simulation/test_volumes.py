"""Volumes in storms: one writer, nothing lost; and rules that are switched off are noticed."""

from __future__ import annotations

from typing import Any

import pytest

from paas.sim.platform.story import run_seed
from paas.sim.platform.volume_files import NodeFiles
from paas.sim.platform.volumes import volumes
from paas.volume.state import Place, VolumeState

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(1_800)]

TRIES_MAX = 10


@pytest.mark.parametrize("seed", range(3))
def test_in_a_storm_volumes_have_one_writer_and_keep_what_was_written(seed: int) -> None:
    outcome = run_seed(seed, scenario=volumes)
    assert not outcome.broken
    for name in ("volume-one-writer", "volume-kept"):
        assert outcome.evaluated[name] > 10
    assert outcome.fired["volume_move"]


def _anywhere(patch: pytest.MonkeyPatch) -> None:
    """Components are placed whatever their volumes say."""
    patch.setattr(VolumeState, "place_of", lambda *_: Place())
    patch.setattr(VolumeState, "check_place", lambda *_: None)


def _unchecked(patch: pytest.MonkeyPatch) -> None:
    """A copy counts without having been compared; those under way are torn at a power cut."""

    def keep(files: NodeFiles, owner: str, epoch: int, _digests: Any) -> None:
        files.whole[owner, epoch] = files.incoming.pop((owner, epoch), {"data": b""})

    def begin(files: NodeFiles, owner: str, epoch: int, names: list[str]) -> None:
        files.incoming.setdefault((owner, epoch), dict.fromkeys(names, b"torn"))

    patch.setattr(NodeFiles, "keep", keep)
    patch.setattr(NodeFiles, "begin", begin)
    patch.setattr(NodeFiles, "write", lambda *_: None)


@pytest.mark.parametrize("mutant", [_anywhere, _unchecked])
def test_a_rule_that_is_switched_off_is_noticed(mutant: Any) -> None:
    for seed in range(TRIES_MAX):
        with pytest.MonkeyPatch.context() as patch:
            mutant(patch)
            broken = run_seed(seed, scenario=volumes).broken
        if broken:
            return
    pytest.fail(f"no seed below {TRIES_MAX} notices {mutant.__doc__}")
