"""At most once: results by identity, a window for each proposer, a bound over all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.raft.dedup import Results


def test_the_first_result_is_found_again() -> None:
    results = Results()
    assert results.find("a", 1) is None
    results.remember("a", 1, b"one")
    assert results.find("a", 1) == b"one"
    assert results.find("b", 1) is None


def test_what_fell_out_of_the_window_is_refused_not_repeated() -> None:
    results = Results(window=4)
    for sequence in range(20):
        results.remember("a", sequence, b"x")
    assert results.find("a", 19) == b"x"
    with pytest.raises(PlatformError) as caught:
        results.find("a", 0)
    assert caught.value.code == "unknown-outcome"


def test_numbers_inside_the_window_may_come_in_any_order() -> None:
    results = Results(window=8)
    for sequence in (5, 3, 7, 1, 6, 2):
        assert results.find("a", sequence) is None
        results.remember("a", sequence, b"x")
    assert len(results) == 6


def test_the_proposer_that_was_silent_longest_is_forgotten_first() -> None:
    results = Results(results_max=10)
    for sequence in range(4):
        for proposer in "abc":
            results.remember(proposer, sequence, b"x")
    assert len(results) <= 10
    assert results.find("c", 3) == b"x"
    assert results.find("c", 0) is None  # c was silent longest when there was no more room


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 60)), max_size=120))
def test_bounds_hold_and_a_snapshot_keeps_everything(calls: list[tuple[str, int]]) -> None:
    results = Results(window=4, results_max=12)
    for proposer, sequence in calls:
        try:
            if results.find(proposer, sequence) is None:
                results.remember(proposer, sequence, b"%d" % sequence)
        except PlatformError:
            continue
        assert len(results) <= 12 or len(results.snapshot()) == 1
    again = Results(window=4, results_max=12)
    again.restore(results.snapshot())
    assert again.snapshot() == results.snapshot()
    assert len(again) == len(results) == sum(len(row[2]) for row in results.snapshot())
