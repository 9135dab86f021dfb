"""Every rule of the platform that is switched off is noticed: the simulation is not blind.

For each mutant the seed is named that caught it last; when the code has changed so much that this
seed tells another story, others are tried, up to five hundred.  What seeds notice too seldom for
that has a scenario.  All in one go: `python -m paas.sim.platform --mutants all --seeds 0-499`.
"""

from __future__ import annotations

import pytest

from paas.sim.platform.hunting import hunt
from paas.sim.platform.mutants import MUTANTS, switched_off
from paas.sim.platform.scenarios import SCENARIOS
from paas.sim.platform.story import run_seed

TRIES_MAX = 500
SECONDS = 300.0
PLOT_S = 140.0
PLOT_SEEDS = (0, 1, 2)

CAUGHT_BY = {
    "lease-not-waited-for": 0,
    "new-leader-at-once": 0,
    "lease-too-long": 1,
    "stale-leader-grants": 0,
    "fence-ignored": 3,
    "capacity-off": 1,
    "names-not-unique": 0,
    "join-position-wrong": 0,
    "claims-shared": 3,
    "monitor-twice": 0,
    "dedup-off": 0,
    "restarts-unbounded": 0,
    "node-loss-forgotten": 3,
    "cast-sent-twice": 0,
    "mailbox-unordered": 0,
    "mailbox-failure-is-done": 0,
    "mailbox-dead-forgotten": 0,
}

SHOWN_BY = {
    "ring-epoch-ignored": ("past-primary", "primary-decides"),
    "orphan-not-removed": ("hub-away", "converged"),
}
"""Mutant -> scenario, and the invariant that it breaks."""


def test_every_mutant_has_a_seed_or_a_scenario() -> None:
    assert len(MUTANTS) >= 12
    assert sorted([*CAUGHT_BY, *SHOWN_BY]) == sorted(MUTANTS)
    assert {scenario for scenario, _ in SHOWN_BY.values()} == set(SCENARIOS)


@pytest.mark.simulation
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", sorted(CAUGHT_BY))
def test_the_simulation_catches_the_mutant(name: str) -> None:
    first = CAUGHT_BY[name]
    others = [seed for seed in range(TRIES_MAX) if seed != first]
    catch = hunt(name, [first, *others[: TRIES_MAX - 1]], seconds=SECONDS)
    assert catch.seed is not None, f"{MUTANTS[name][0]}: {catch.line}"


@pytest.mark.simulation
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(SHOWN_BY))
def test_a_scenario_shows_the_mutant_and_holds_without_it(name: str) -> None:
    scenario, invariant = SHOWN_BY[name]

    def broken(seed: int) -> str:
        told = run_seed(seed, nodes=3, seconds=PLOT_S, peace=True, scenario=SCENARIOS[scenario])
        return told.broken

    assert [broken(seed) for seed in PLOT_SEEDS] == [""] * len(PLOT_SEEDS)
    with switched_off(name):
        found = next(filter(None, map(broken, PLOT_SEEDS)), "")
    assert found.startswith(f"{invariant}: ")


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_healed_behind_its_block(name: str) -> None:
    patches = MUTANTS[name][1]
    before = [owner.__dict__[attribute] for owner, attribute, _ in patches]
    with switched_off(name):
        inside = [owner.__dict__[attribute] for owner, attribute, _ in patches]
    assert [owner.__dict__[attribute] for owner, attribute, _ in patches] == before
    assert all(one is not other for one, other in zip(inside, before, strict=True))
