"""Selectors: turns are fair, unknown words are refused, groups that are gone are forgotten."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.hub import limits
from paas.hub.selection import SELECTORS, Selector, Turns, check, parse


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


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("cdefgh")), st.booleans()), min_size=20, max_size=120
    )
)
def test_members_that_stay_are_used_evenly_whoever_comes_and_goes(
    others: list[tuple[set[str], bool]],
) -> None:
    """Also when the others alternate, as when callers may talk to different members."""
    turns, used = Turns(), Counter[str]()
    for present, somebody_leaves in others:
        used[turns.any("g", ["a", *sorted(present), "b"])] += 1
        if present and somebody_leaves:
            turns.left("g", min(present))
        assert abs(used["a"] - used["b"]) <= 1


def test_a_member_that_comes_back_has_one_turn_first_and_no_more() -> None:
    turns = Turns()
    for _ in range(10):
        turns.any("g", "ab")
    assert [turns.any("g", "abc") for _ in range(4)] == ["c", "a", "b", "c"]


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


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("any", Selector("any")),
        ("least-loaded", Selector("least-loaded")),
        ("hash:a:b=c", Selector("hash", "a:b=c")),
        ("hash:ü", Selector("hash", "ü")),
        ('attribute:zone="east"', Selector("attribute", "zone", b"\xa4east")),
        ("attribute:n=1", Selector("attribute", "n", b"\x01")),
        ("attribute:ok=true", Selector("attribute", "ok", b"\xc3")),
        ('attribute:m={"b":1,"a":[]}', Selector("attribute", "m", b"\x82\xa1a\x90\xa1b\x01")),
        ('attribute:a="="', Selector("attribute", "a", b"\xa1=")),
    ],
)
def test_selectors_are_taken_apart(text: str, selector: Selector) -> None:
    assert parse(text) == selector


@pytest.mark.parametrize(
    "text",
    [
        *("", "Any", "hash", "hash:", "attribute:", "attribute:a", "attribute:=1", "any:x"),
        *("attribute:zone=east", "attribute:zone=", "attribute:n=1 2", "leader "),
        "attribute:n=" + "[" * 500,
        "hash:" + "x" * limits.SELECTOR_LENGTH_MAX,
    ],
)
def test_what_is_no_selector_is_invalid(text: str) -> None:
    with pytest.raises(PlatformError) as caught:
        parse(text)
    assert caught.value.code == "invalid"
    assert caught.value.data["field"] == "selector"


def test_the_error_names_all_selectors() -> None:
    with pytest.raises(PlatformError) as caught:
        parse("nearby")
    assert all(selector in caught.value.message for selector in SELECTORS)
