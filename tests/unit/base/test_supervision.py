"""The decisions of supervision: restart kinds, groups of the strategies, the intensity window."""

from __future__ import annotations

import pytest

from paas.base.supervision import Intensity, Restart, Strategy


@pytest.mark.parametrize(
    ("restart", "after_crash", "after_end"),
    [
        (Restart.PERMANENT, True, True),
        (Restart.TRANSIENT, True, False),
        (Restart.TEMPORARY, False, False),
    ],
)
def test_restart_kinds(restart: Restart, after_crash: bool, after_end: bool) -> None:
    assert restart.again(crashed=True) is after_crash
    assert restart.again(crashed=False) is after_end


@pytest.mark.parametrize(
    ("strategy", "group"),
    [
        (Strategy.ONE_FOR_ONE, ["b"]),
        (Strategy.ONE_FOR_ALL, ["a", "b", "c"]),
        (Strategy.REST_FOR_ONE, ["b", "c"]),
    ],
)
def test_groups_of_the_strategies(strategy: Strategy, group: list[str]) -> None:
    assert strategy.group("b", ["a", "b", "c"]) == group


def test_intensity_admits_its_number_and_not_one_more() -> None:
    intensity = Intensity(2, 10)
    assert [intensity.admits(t) for t in (0, 1, 2)] == [True, True, False]


def test_a_restart_leaves_the_window_exactly_after_the_period() -> None:
    intensity = Intensity(1, 10)
    assert intensity.admits(0)
    assert not intensity.admits(9.999)
    assert intensity.admits(10)


def test_an_intensity_of_zero_admits_nothing() -> None:
    assert not Intensity(0, 1).admits(0)


@pytest.mark.parametrize(("max_restarts", "period_s"), [(-1, 1.0), (1, 0.0)])
def test_a_senseless_intensity_is_refused(max_restarts: int, period_s: float) -> None:
    with pytest.raises(ValueError, match="intensity"):
        Intensity(max_restarts, period_s)
