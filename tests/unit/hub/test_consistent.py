"""The ring: one answer everywhere, even shares, and a change moves nothing but its own share."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.hub import consistent
from paas.hub.consistent import Ring, Rings

KEYS = [f"customer-{number}" for number in range(10_000)]
MEMBERS = [f"{number:040x}" for number in random.Random(7).sample(range(1 << 60), 12)]


def ring_of(members: list[str]) -> Ring:
    ring = Ring()
    ring.update(members)
    return ring


def owners(ring: Ring) -> dict[str, str]:
    return {key: next(ring.owners(key)) for key in KEYS}


def test_shares_are_roughly_even() -> None:
    shares = Counter(owners(ring_of(MEMBERS)).values())
    assert set(shares) == set(MEMBERS)
    fair = len(KEYS) / len(MEMBERS)
    assert all(0.6 * fair < count < 1.5 * fair for count in shares.values()), shares


@pytest.mark.parametrize("gone", [0, 5, 11])
def test_a_member_that_goes_moves_its_own_keys_only(gone: int) -> None:
    before = owners(ring_of(MEMBERS))
    left = [m for m in MEMBERS if m != MEMBERS[gone]]
    after = owners(ring_of(left))
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved == {key for key in KEYS if before[key] == MEMBERS[gone]}
    heirs = Counter(after[key] for key in moved)
    assert len(heirs) > len(left) // 2, "its share is spread over the others"


def test_a_member_that_comes_takes_its_share_and_nothing_else_moves() -> None:
    before, after = owners(ring_of(MEMBERS[:-1])), owners(ring_of(MEMBERS))
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {MEMBERS[-1]}
    assert 0.6 < len(moved) / (len(KEYS) / len(MEMBERS)) < 1.5


def test_the_walk_goes_on_to_the_owner_that_there_is_without_the_first() -> None:
    ring, smaller = ring_of(MEMBERS), {}
    for key in KEYS[:500]:
        first, second = islice(ring.owners(key), 2)
        if first not in smaller:
            smaller[first] = ring_of([m for m in MEMBERS if m != first])
        assert next(smaller[first].owners(key)) == second


def test_the_walk_meets_every_member_once() -> None:
    ring = ring_of(MEMBERS)
    for key in KEYS[:100]:
        assert sorted(ring.owners(key)) == sorted(MEMBERS)


_changes = st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60)


@given(_changes, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_answer_depends_on_the_members_and_not_on_how_they_came_about(
    changes: list[tuple[bool, int]], order: random.Random
) -> None:
    """Two hubs, one that saw every change and one that was started just now, agree."""
    seasoned, members = Ring(), ["x", "y"]
    seasoned.update(members)
    for comes, number in changes:
        name = f"m{number}"
        if comes and name not in members:
            members = [*members, name]
        elif not comes:
            members = [m for m in members if m != name]
        seasoned.update(members)
    shuffled = list(members)
    order.shuffle(shuffled)
    fresh = ring_of(shuffled)
    for key in KEYS[:40]:
        assert list(seasoned.owners(key)) == list(fresh.owners(key))
    assert len(seasoned._points) == 64 * len(members)


def test_members_on_the_same_place_are_ordered_by_their_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consistent, "_points_of", lambda member, slot: [5 << 14 | slot])
    assert list(ring_of(["b", "c", "a"]).owners("k")) == ["a", "b", "c"]
    ring = ring_of(["z", "b"])
    ring.update(["z", "b", "a"])
    assert list(ring.owners("k")) == ["a", "b", "z"]


def test_nobody_owns_anything_of_an_empty_group() -> None:
    assert list(Ring().owners("key")) == []


def test_rings_of_groups_are_apart_and_forgotten() -> None:
    rings = Rings()
    assert set(rings.owners("g", ["a", "b"], "k")) == {"a", "b"}
    assert list(rings.owners("h", ["c"], "k")) == ["c"]
    rings.forget("g")
    rings.forget("never heard of")
    assert rings.groups() == {"h"}
    assert list(rings.owners("g", ["b"], "k")) == ["b"]
