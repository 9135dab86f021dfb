"""Rates: of the last second and the last ten, and nothing for what does not grow."""

from __future__ import annotations

from paas.hub.rates import SLOTS, Rates


def test_a_rate_is_the_growth_by_the_time_it_took() -> None:
    rates = Rates(100.0)
    rates.sample(102.0, [("a", 10)])
    assert rates.of("a") == (5.0, 5.0)
    rates.sample(103.0, [("a", 2)])
    assert rates.of("a") == (2.0, 4.0)


def test_the_longer_rate_covers_ten_samples_and_begins_with_what_there_is() -> None:
    rates = Rates(0.0)
    for second in range(1, 31):
        rates.sample(float(second), [("a", 10 if second <= 25 else 0)])
    assert rates.of("a") == (0.0, 5.0)


def test_what_begins_later_counts_as_nothing_before() -> None:
    rates = Rates(0.0)
    for second in range(1, 10):
        rates.sample(float(second), [])
    rates.sample(10.0, [("new", 20)])
    assert rates.of("new") == (20.0, 2.0)


def test_what_rests_is_forgotten_after_ten_samples() -> None:
    rates = Rates(0.0)
    rates.sample(1.0, [("a", 1), ("b", 1)])
    for second in range(2, 2 + SLOTS):
        rates.sample(float(second), [("b", 1)])
    assert rates.of("a") == (0.0, 0.0)
    assert len(rates) == 1


def test_a_clock_that_stands_still_counts_nothing() -> None:
    rates = Rates(5.0)
    rates.sample(5.0, [("a", 3)])
    assert rates.of("a") == (0.0, 0.0)
