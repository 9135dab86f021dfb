"""Counters, gauges, timings: their figures and their bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.telemetry.metrics import Metrics, Timing


def test_counters_grow_and_gauges_are_what_was_said_last() -> None:
    metrics = Metrics()
    metrics.count("calls")
    metrics.count("calls", 2)
    metrics.count("calls", node="n1")
    metrics.gauge("queue", 5)
    metrics.gauge("queue", 3)
    assert metrics.statistics() == {"calls": 3, "calls{node=n1}": 1, "queue": 3}


def test_timings_tell_count_sum_maximum_and_quantiles() -> None:
    metrics = Metrics()
    for milliseconds in range(1, 101):
        metrics.timing("call", milliseconds / 1000)
    figures = metrics.statistics()["call"]
    assert figures["count"] == 100
    assert figures["sum_s"] == pytest.approx(5.05)
    assert figures["max_s"] == 0.1
    assert 0.05 <= figures["p50_s"] <= 0.1
    assert 0.099 <= figures["p99_s"] <= 0.1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_never_too_small_nor_above_the_maximum(
    durations: list[float], share: float
) -> None:
    timing = Timing()
    for duration in durations:
        timing.add(duration)
    found = timing.quantile_s(share)
    at_most = sum(d <= found for d in durations)
    assert at_most >= share * len(durations) - 1e-9
    assert found <= max(durations)


def test_sources_are_asked_when_figures_are_wanted() -> None:
    metrics = Metrics()
    own = {"written": 1}
    metrics.source("log", lambda: dict(own))
    own["written"] = 2
    assert metrics.statistics()["log"] == {"written": 2}


def test_series_too_many_are_dropped_and_counted() -> None:
    metrics = Metrics(series_max=3)
    metrics.count("a", of="1")
    metrics.gauge("b", 1)
    metrics.timing("c", 1)
    metrics.count("a", of="2")
    metrics.gauge("d", 1)
    metrics.timing("e", 1)
    metrics.count("a", of="1")
    figures = metrics.statistics()
    assert figures.pop("telemetry.series_dropped") == 3
    assert set(figures) == {"a{of=1}", "b", "c"}
    assert figures["a{of=1}"] == 2
