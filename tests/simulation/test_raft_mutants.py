"""Every rule switched off in turn is noticed: the simulation is not blind.

For most mutants the seed is named that caught it last; when the code has changed so much that this
seed tells another story, others are tried, up to five hundred.  Five rules guard against what is
too rare for random search at this size: their scenarios catch them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from paas.sim.consensus.mutants import MUTANTS, switched_off
from paas.sim.consensus.story import run_seed
from paas.sim.replicas import Cluster

TRIES_MAX = 500

CAUGHT_BY = {
    "T4": 3,
    "T5": 4,
    "K1": 11,
    "K2": 7,
    "K4": 8,
    "K5": 2,
    "K7": 7,
    "K8": 0,
}
SCENARIOS = {
    "T1": ("committed_without_majority", "ABCDE", 0),
    "T2": ("follower_starves", "ABC", 20),
    "T3": ("long_stale_tail", "ABC", 0),
    "T6": ("old_snapshot_installed", "ABC", 0),
    "T7": ("elected_by_one_vote", "ABCDE", 0),
}
"""The story, its members, its seed."""


def stories() -> ModuleType:
    path = Path(__file__).parents[1] / "unit" / "raft" / "test_scenarios.py"
    spec = importlib.util.spec_from_file_location("scenarios_for_mutants", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mutant_has_somebody_who_must_catch_it() -> None:
    assert len(MUTANTS) >= 12
    assert {*CAUGHT_BY, *SCENARIOS} == set(MUTANTS)


@pytest.mark.simulation
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", sorted(CAUGHT_BY))
def test_the_simulation_catches_the_mutant(name: str) -> None:
    likely = CAUGHT_BY[name]
    for seed in (likely, *range(TRIES_MAX)):
        with switched_off(name):
            broken = run_seed(seed).broken
        if broken:
            break
    assert broken, f"{MUTANTS[name][0]}: {TRIES_MAX} seeds noticed nothing"
    assert run_seed(seed).broken == ""  # and it is the mutant that was caught


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_scenario_catches_the_mutant(name: str) -> None:
    module = stories()
    story, members, seed = SCENARIOS[name]
    tell = getattr(module, story)
    with switched_off(name):
        assert module.harm(tell, Cluster(members, seed=seed))
    assert not tell(Cluster(members, seed=seed))


def test_a_mutant_is_healed_behind_its_block() -> None:
    before = {
        (owner, attribute): owner.__dict__[attribute]
        for _, patches in MUTANTS.values()
        for owner, attribute, _ in patches
    }
    for name in MUTANTS:
        with pytest.raises(KeyError), switched_off(name):
            raise KeyError
    for (owner, attribute), function in before.items():
        assert owner.__dict__[attribute] is function
