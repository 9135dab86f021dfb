"""Identifiers: their parts, their text, where types put their components on the ring."""

from __future__ import annotations

import pytest

from paas.base import ids
from paas.base.ids import Category

UNIQUE = bytes(range(12))


def test_an_identifier_is_40_digits_with_its_parts_in_place() -> None:
    made = ids.make(Category.NODE, 0xABC, UNIQUE, sub_entity=7)
    assert made == "0abc" + "0002" + "00000007" + UNIQUE.hex()
    assert len(made) == 40
    assert ids.virtual_node(made) == 0xABC
    assert ids.category(made) is Category.NODE
    assert ids.parse(made) == made


@pytest.mark.parametrize(
    ("virtual_node", "unique", "sub_entity"),
    [(-1, UNIQUE, 0), (ids.VIRTUAL_NODES, UNIQUE, 0), (0, UNIQUE[1:], 0), (0, UNIQUE, 1 << 32)],
)
def test_parts_that_do_not_fit_are_refused(
    virtual_node: int, unique: bytes, sub_entity: int
) -> None:
    with pytest.raises(ValueError, match=r"virtual node|unique|sub-entity"):
        ids.make(Category.NODE, virtual_node, unique, sub_entity)


@pytest.mark.parametrize("text", ["", "0" * 39, "0" * 41, "A" * 40, "g" * 40, "0" * 40 + "\n"])
def test_text_that_is_no_identifier_is_refused(text: str) -> None:
    assert not ids.is_id(text)
    with pytest.raises(ValueError, match="40 lower-case"):
        ids.parse(text)


def test_a_prefix_has_8_digits_or_more() -> None:
    assert ids.is_prefix("0123abcd")
    assert not ids.is_prefix("0123abc")
    assert not ids.is_prefix("0123abcx")


def test_components_of_one_type_share_a_fraction_of_the_ring() -> None:
    places = {
        ids.virtual_node(ids.component_id("feeds", bytes([a, b] + [0] * 10)))
        for a in range(4)
        for b in range(256)
    }
    free = ids.VIRTUAL_NODE_BITS - ids.TYPE_PREFIX_BITS
    assert len({place >> free for place in places}) == 1
    assert len(places) == 1 << free
