"""`paas trace`: the tree that people read, and what programs get."""

from __future__ import annotations

from typing import Any

import pytest

from paas.cli.trace import own_ns, tree, walk

MS = 1_000_000


def span(name: str, parent: str, at: float, took: float, **more: Any) -> dict[str, Any]:
    fields = {
        "trace": "ab" * 16,
        "span": name,
        "parent": parent,
        "name": name,
        "kind": "hub",
        "node": "n1",
        "component": "",
        "start_ns": int(1_000_000_000 * MS + at * MS),
        "duration_ns": int(took * MS),
        "error": "",
    }
    return {**fields, **more}


TREE = [
    span("root", "", 0, 10, kind="client", node=""),
    span("hub", "root", 1, 8),
    span("second", "hub", 5, 3, node="n2", component="ee" * 20, error="timeout"),
    span("first", "hub", 2, 2, component="cd" * 20),
]


def test_the_tree_has_the_earlier_first_and_the_deeper_below() -> None:
    assert [(depth, s["name"]) for depth, s, _ in walk(TREE)] == [
        (0, "root"),
        (1, "hub"),
        (2, "first"),
        (2, "second"),
    ]


def test_the_own_times_of_all_hops_add_up_to_the_whole() -> None:
    own = {s["name"]: own_ns(s, below) / MS for _, s, below in walk(TREE)}
    assert own == {"root": 2, "hub": 3, "first": 2, "second": 3}
    assert sum(own.values()) == 10


@pytest.mark.parametrize(
    ("below", "own"),
    [
        ([], 10),
        ([(0, 10)], 0),
        ([(2, 4), (3, 5)], 4),  # at the same time: counted once
        ([(-5, 7), (9, 50)], 7),  # clocks differ: what is outside does not count
        ([(2, 6), (3, 1)], 4),
        ([(20, 5)], 10),
    ],
)
def test_time_below_is_counted_once_and_only_inside(
    below: list[tuple[float, float]], own: float
) -> None:
    parent = span("p", "", 0, 10)
    children = [span(str(i), "p", at, took) for i, (at, took) in enumerate(below)]
    assert own_ns(parent, children) / MS == own


def test_spans_whose_parent_is_missing_begin_trees_of_their_own() -> None:
    spans = [span("a", "lost", 1, 2), span("b", "a", 2, 1), span("c", "lost", 0, 1)]
    assert [(depth, s["name"]) for depth, s, _ in walk(spans)] == [(0, "c"), (0, "a"), (1, "b")]


def test_every_span_is_shown_once_whatever_parents_are_named() -> None:
    spans = [span("a", "a", 0, 1), span("b", "a", 0, 1), span("c", "d", 2, 1), span("d", "c", 3, 1)]
    assert sorted(s["name"] for _, s, _ in walk(spans)) == ["a", "b", "c", "d"]


def test_the_text_names_hops_nodes_components_and_errors() -> None:
    lines = tree(TREE).splitlines()
    assert lines[0] == f"trace {'ab' * 16}: 10.000 ms, 4 spans on n1, n2"
    assert lines[1].split() == ["at", "ms", "took", "self"]
    assert lines[2].split() == ["0.000", "10.000", "2.000", "client:", "root"]
    words = ["5.000", "3.000", "3.000", "hub:", "second", "n2", "eeeeeeee", "error:", "timeout"]
    assert lines[5].split() == words
