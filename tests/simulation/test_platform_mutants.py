"""Every rule of the platform that is switched off is noticed: the simulation is not blind.

For each mutant the seed is named that caught it last; when the code has changed so much that this
seed tells another story, others are tried, up to five hundred.
"""

from __future__ import annotations

import json

import pytest

from paas.sim.platform.mutants import MUTANTS, switched_off
from paas.sim.platform.runner import Worker

TRIES_MAX = 500
AT_ONCE = 10
SECONDS = 300.0

CAUGHT_BY = {
    "lease-not-waited-for": 0,
    "new-leader-at-once": 0,
    "lease-too-long": 0,
    "stale-leader-grants": 1,
    "fence-ignored": 0,
    "ring-epoch-ignored": 5,
    "capacity-off": 1,
    "names-not-unique": 0,
    "join-position-wrong": 0,
    "claims-shared": 0,
    "monitor-twice": 0,
    "orphan-not-removed": 7,
    "dedup-off": 1,
    "restarts-unbounded": 0,
    "node-loss-forgotten": 5,
    "cast-sent-twice": 0,
}


def broken(seeds: list[int], mutant: str) -> str:
    """What was found first; empty: nothing."""
    lines = Worker(seeds, 0, SECONDS, mutant=mutant).lines()
    return next((text for line in lines if (text := json.loads(line)["broken"])), "")


def test_every_mutant_has_a_seed() -> None:
    assert len(MUTANTS) >= 12
    assert set(CAUGHT_BY) == set(MUTANTS)


@pytest.mark.simulation
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", sorted(CAUGHT_BY))
def test_the_simulation_catches_the_mutant(name: str) -> None:
    found = broken([CAUGHT_BY[name]], name)
    for first in range(0, TRIES_MAX, AT_ONCE):
        if found:
            break
        found = broken(list(range(first, first + AT_ONCE)), name)
    assert found, f"{MUTANTS[name][0]}: {TRIES_MAX} seeds noticed nothing"


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_healed_behind_its_block(name: str) -> None:
    patches = MUTANTS[name][1]
    before = [owner.__dict__[attribute] for owner, attribute, _ in patches]
    with switched_off(name):
        inside = [owner.__dict__[attribute] for owner, attribute, _ in patches]
    assert [owner.__dict__[attribute] for owner, attribute, _ in patches] == before
    assert all(one is not other for one, other in zip(inside, before, strict=True))
