"""The graph of links and who falls with whom."""

from __future__ import annotations

from paas.controller.links import Links


def linked(*pairs: str) -> Links:
    links = Links()
    for a, b in pairs:
        links.add(a, b)
    return links


def test_a_link_has_no_direction_and_is_made_once() -> None:
    links = linked("ab", "ba", "ab")
    assert (links.of("a"), links.of("b")) == (["b"], ["a"])
    assert links.has("b", "a")
    links.remove("b", "a")
    assert links.of("a") == links.of("b") == []


def test_the_nearest_fall_first() -> None:
    assert linked("ab", "bc", "cd", "ae").fallen("a", lambda _: True) == ["b", "e", "c", "d"]


def test_a_cycle_ends() -> None:
    assert linked("ab", "bc", "ca").fallen("a", lambda _: True) == ["b", "c"]


def test_nothing_passes_through_the_dead() -> None:
    assert linked("ab", "bc").fallen("a", lambda c: c != "b") == []


def test_dropping_one_unties_it_from_everybody() -> None:
    links = linked("ab", "ac", "bc")
    links.drop("a")
    assert links.of("a") == []
    assert links.of("b") == ["c"]


def test_a_snapshot_restores_the_order() -> None:
    links = linked("ab", "ca", "ad")
    other = Links()
    other.restore(links.snapshot())
    assert other.snapshot() == links.snapshot()
    assert other.of("a") == ["b", "c", "d"]
