"""Applications in storms: they become what was wanted last, and nothing else is left."""

from __future__ import annotations

from typing import Any

import pytest

from paas.application.state import ApplicationsState
from paas.sim.platform.applications import applications
from paas.sim.platform.story import run_seed

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(1_800)]

TRIES_MAX = 10


@pytest.mark.parametrize("seed", range(2))
def test_in_a_storm_applications_become_what_was_wanted_last(seed: int) -> None:
    outcome = run_seed(seed, scenario=applications)
    assert not outcome.broken
    assert outcome.evaluated["application-settled"] == 1
    assert outcome.fired["application_deploy"]


def _unborn(patch: pytest.MonkeyPatch) -> None:
    """A component that is born does not belong to its application."""
    patch.setattr(ApplicationsState, "_born", lambda *_: None)


def _lost_end(patch: pytest.MonkeyPatch) -> None:
    """Nobody hears that a member was told to end."""
    react = ApplicationsState.react

    def deaf(state: ApplicationsState, event: Any, ctx: Any) -> None:
        if type(event).__name__ != "ComponentOrdered":
            react(state, event, ctx)

    patch.setattr(ApplicationsState, "react", deaf)


@pytest.mark.parametrize("mutant", [_unborn, _lost_end])
def test_a_rule_that_is_switched_off_is_noticed(mutant: Any) -> None:
    for seed in range(TRIES_MAX):
        with pytest.MonkeyPatch.context() as patch:
            mutant(patch)
            broken = run_seed(seed, scenario=applications).broken
        if broken:
            return
    pytest.fail(f"no seed below {TRIES_MAX} notices {mutant.__doc__}")
