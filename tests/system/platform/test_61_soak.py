"""Seconds of `python -m bench soak`: load, while hub, harnesses and components are killed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from paas.testing.soak import KINDS, Soak

COMPONENTS = 4
SECONDS = 12.0
RATE = 400.0
SEED = 5


@pytest.fixture
def soak(fresh: Any, request: pytest.FixtureRequest) -> Iterator[Soak]:
    source = request.config.rootpath / "bench" / "components" / "soaker"
    made = Soak(str(fresh.state), fresh.push(source), count=COMPONENTS, seed=SEED)
    yield made
    made.close()


@pytest.mark.system
def test_under_kills_nothing_is_lost_mixed_up_or_out_of_order(soak: Soak) -> None:
    report = soak.run(SECONDS, RATE)
    verdict = report.verdict
    assert verdict.wrong == {}, verdict.examples
    assert set(report.kills) == set(KINDS), "each kind was killed"
    assert report.incarnations > COMPONENTS
    assert verdict.answered > RATE
    assert verdict.accepted > RATE / 10
    assert verdict.pairs > COMPONENTS * (COMPONENTS - 1)
