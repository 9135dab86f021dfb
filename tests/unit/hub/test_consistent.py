"""The ring: one answer everywhere, even shares, and a change moves nothing but its own share."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.hub import consistent, sorted_words
from paas.hub.consistent import Ring, Rings
from paas.hub.sorted_words import SortedWords

KEYS = [f"customer-{number}" for number in range(10_000)]
MEMBERS = [f"{number:040x}" for number in random.Random(7).sample(range(1 << 60), 12)]


def finish(ring: Ring, members: list[str]) -> Ring:
    ring.update(members)
    while ring.unfinished:
        ring.advance()
    return ring


def ring_of(members: list[str]) -> Ring:
    return finish(Ring(), members)


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
    members = ["x", "y"]
    seasoned = ring_of(members)
    for comes, number in changes:
        name = f"m{number}"
        if comes and name not in members:
            members = [*members, name]
        elif not comes:
            members = [m for m in members if m != name]
        finish(seasoned, members)
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
    ring = finish(ring_of(["z", "b"]), ["z", "b", "a"])
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


# -- large groups ----

MANY = [f"{number:040x}" for number in random.Random(8).sample(range(1 << 60), 10_000)]


def whole(ring: Ring) -> list[tuple[int, str]]:
    """All points, as places and members."""
    return sorted((word >> 14, ring._names[word % (1 << 14)]) for word in ring._points)


def test_a_ring_that_is_built_in_slices_is_the_one_that_is_built_at_once() -> None:
    """Members come and go meanwhile; no slice does more than its share."""
    members, ring, rng = list(MANY[:9_000]), Ring(), random.Random(3)
    ring.update(members)
    slices = 0
    while ring.unfinished:
        before = ring.unfinished
        ring.advance()
        slices += 1
        assert before - ring.unfinished <= consistent.SLICE_GATHERED
        if slices % 7 == 0 and slices < 250:
            members.remove(rng.choice(members))
            members += [MANY[9_000 + slices]]
            ring.update(list(members))
    assert slices > 150
    points = sorted(
        (word >> 14, member) for member in members for word in consistent._points_of(member, 0)
    )
    assert whole(ring) == points
    fresh = ring_of(members[::-1])
    for key in KEYS[:300]:
        assert list(islice(ring.owners(key), 5)) == list(islice(fresh.owners(key), 5))


def test_more_members_than_numbers_come_and_go_while_the_ring_is_being_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consistent, "_SLOTS", 300)
    monkeypatch.setattr(
        consistent, "_points_of", lambda m, slot: [int(m, 16) << 4 & -1 << 14 | slot]
    )
    ring = Ring()
    ring.update(MANY[:200])
    ring.advance()
    for at in range(0, 600, 40):
        ring.update(MANY[at : at + 200])
        ring.advance()
    finish(ring, MANY[1_000:1_200])
    assert sorted(ring._slots) == sorted(MANY[1_000:1_200])
    assert len(ring._points) == 200


def test_a_large_group_is_asked_again_when_its_ring_is_finished() -> None:
    rings = Rings()
    with pytest.raises(consistent.RingUnfinished):
        rings.owners("g", MANY[:500], "k")
    while rings.advance("g"):
        pass
    first = next(rings.owners("g", MANY[:500], "k"))
    assert first == next(ring_of(MANY[:500]).owners("k"))
    few = MANY[1:505]  # a few have changed: at once
    assert next(rings.owners("g", few, "k")) == next(ring_of(few).owners("k"))
    rings.forget("g")
    assert not rings.advance("g")


_words = st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=200)


@given(_words, st.integers(0, 61))
@settings(max_examples=100, deadline=None)
def test_sorted_words_are_a_sorted_list(steps: list[tuple[bool, int]], start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_words, "CHUNK_WORDS_MAX", 4)
        words, model = SortedWords(), []
        words.extend(behind := list(range(0, 60, 7)))
        model += behind
        for add, word in steps:
            if add:
                words.add(word)
                insort(model, word)
            elif word in model:
                words.remove(word)
                model.remove(word)
        assert list(words) == model
        assert len(words) == len(model)
        at = bisect_left(model, start)
        assert list(words.around(start)) == model[at:] + model[:at]
        assert all(0 < len(chunk) <= 4 for chunk in words._chunks)
