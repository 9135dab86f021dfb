"""The ring: balance, least movement, alternatives, whatever nodes come and go."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.ids import VIRTUAL_NODES
from paas.hub.ring import EMPTY, Primaries, alternatives_of, deal

NAMES = [f"n{i}" for i in range(1, 10)]

histories = st.lists(st.sets(st.sampled_from(NAMES)).map(sorted), min_size=1, max_size=6)


def dealt(history: list[list[str]]) -> list[Primaries]:
    rings = [EMPTY]
    for present in history:
        rings.append(deal(rings[-1], present))
    return rings


def counts(ring: Primaries, present: list[str]) -> dict[str, int]:
    found = Counter(ring)
    return {node: found[node] for node in present}


@settings(max_examples=60, deadline=None)
@given(histories)
def test_every_virtual_node_has_a_primary_that_is_there_and_all_hold_the_same(
    history: list[list[str]],
) -> None:
    for present, ring in zip(history, dealt(history)[1:], strict=True):
        held = counts(ring, present)
        assert len(ring) == VIRTUAL_NODES
        assert sum(held.values()) == (VIRTUAL_NODES if present else 0)
        if present:
            assert max(held.values()) - min(held.values()) <= 1


@settings(max_examples=60, deadline=None)
@given(histories)
def test_no_more_is_moved_than_balance_asks_for(history: list[list[str]]) -> None:
    """Counted anew: who is there keeps min(what it has, its share), best shares first."""
    for (before, after), present in zip(pairwise(dealt(history)), history, strict=True):
        if not present:
            continue
        floor, more = divmod(VIRTUAL_NODES, len(present))
        had = sorted(counts(before, present).values(), reverse=True)
        kept = sum(min(count, floor + (place < more)) for place, count in enumerate(had))
        moved = sum(old != new for old, new in zip(before, after, strict=True))
        assert moved == VIRTUAL_NODES - kept


@settings(max_examples=60, deadline=None)
@given(histories)
def test_alternatives_are_others_distinct_and_as_many_as_there_are(
    history: list[list[str]],
) -> None:
    for present, ring in zip(history, dealt(history)[1:], strict=True):
        for primary, others in zip(ring, alternatives_of(ring), strict=True):
            if primary is None:
                assert others == ()
                continue
            assert len({primary, *others}) == 1 + len(others) == min(len(present), 3)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(NAMES), min_size=3).map(sorted), st.data())
def test_the_parts_of_a_lost_node_go_to_its_first_alternatives(
    present: list[str], data: st.DataObject
) -> None:
    ring = deal(EMPTY, present)
    lost = data.draw(st.sampled_from(present))
    heirs = alternatives_of(ring)
    after = deal(ring, [node for node in present if node != lost])
    parts = [number for number, primary in enumerate(ring) if primary == lost]
    first = sum(after[number] == heirs[number][0] for number in parts)
    assert first >= len(parts) - len(present), "only what balance forbids goes elsewhere"


@settings(max_examples=30, deadline=None)
@given(histories)
def test_the_same_history_gives_the_same_ring_in_whatever_order_nodes_are_named(
    history: list[list[str]],
) -> None:
    assert dealt(history)[-1] == dealt([list(reversed(p)) for p in history])[-1]


def test_the_first_alternatives_of_a_node_are_even_and_so_are_the_second() -> None:
    ring = deal(EMPTY, NAMES)
    others = alternatives_of(ring)
    for node in NAMES:
        for place in (0, 1):
            spread = Counter(o[place] for o, p in zip(others, ring, strict=True) if p == node)
            assert set(spread) == set(NAMES) - {node}
            assert max(spread.values()) - min(spread.values()) <= len(NAMES)


def test_the_parts_of_one_type_are_spread_over_the_nodes() -> None:
    """A type lives on 64 neighbouring virtual nodes; they are not all of one node."""
    ring = EMPTY
    for count in (1, 2, 3):
        ring = deal(ring, NAMES[:count])
    for begin in range(0, VIRTUAL_NODES, 64):
        assert len(set(ring[begin : begin + 64])) == 3


@pytest.mark.parametrize("count", [255, 256, 1_000])
def test_many_nodes_share_as_evenly(count: int) -> None:
    present = [f"n{i:04d}" for i in range(count)]
    ring = deal(deal(EMPTY, present[: count // 2]), present)
    held = counts(ring, present)
    assert max(held.values()) - min(held.values()) == 1 if VIRTUAL_NODES % count else True
    assert sum(held.values()) == VIRTUAL_NODES
    assert all(len(others) == 2 for others in alternatives_of(ring))
