"""Selectors: turns are fair, unknown words are refused, groups that are gone are forgotten."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.hub.selection import Turns, check


@given(st.integers(1, 9), st.integers(1, 60))
def test_any_uses_members_evenly(members: int, rounds: int) -> None:
    turns, candidates = Turns(), [f"m{i}" for i in range(members)]
    used = Counter(turns.any("g", candidates) for _ in range(rounds))
    assert max(used.values()) - min(used[c] for c in candidates) <= 1


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_whoever_comes_and_goes_the_choice_is_a_candidate(sizes: list[int]) -> None:
    turns = Turns()
    for size in sizes:
        candidates = [f"m{i}" for i in range(size)]
        assert turns.any("g", candidates) in candidates


def test_groups_take_turns_apart() -> None:
    turns = Turns()
    assert [turns.any("g", "ab"), turns.any("h", "ab"), turns.any("g", "ab")] == ["a", "a", "b"]


def test_a_forgotten_group_begins_anew() -> None:
    turns = Turns()
    turns.any("g", "ab")
    turns.forget("g")
    turns.forget("never heard of")
    assert turns.any("g", "ab") == "a"


def test_unknown_selectors_are_refused_by_name() -> None:
    check("any")
    check("all")
    with pytest.raises(PlatformError) as caught:
        check("nearby")
    assert caught.value.code == "invalid"
    assert caught.value.data["field"] == "selector"
    assert "any, all" in caught.value.message
