"""The whole platform under many seeds: everything held, and everything was tried."""

from __future__ import annotations

import sys

import pytest

from paas.sim.platform import runner

SEEDS = 200
SECONDS = 300.0


@pytest.mark.simulation
@pytest.mark.timeout(3_600)
def test_two_hundred_seeds_hold() -> None:
    report = runner.run(0, SEEDS - 1, jobs=2, seconds=SECONDS)
    report.write(sys.stdout)
    assert report.broken == {}
    assert report.never() == []
    assert report.compared >= SEEDS // runner.TWICE_EVERY
    assert report.simulated_s >= SEEDS * SECONDS * 0.99
