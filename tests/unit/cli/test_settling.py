"""When a cluster of several nodes is as it should be."""

from __future__ import annotations

import pytest

from paas.cli.settling import missing, voters_expected


@pytest.mark.parametrize(
    ("nodes", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (7, 5), (9, 5)]
)
def test_an_odd_number_votes_at_most_as_many_as_wanted(nodes, voters):
    assert voters_expected(nodes, 5) == voters


def _nodes(*states: tuple[str, str, str]) -> list[dict[str, object]]:
    return [{"name": n, "state": s, "role": r, "since": 10.0} for n, s, r in states]


ALL = _nodes(
    ("n1", "available", "leader"), ("n2", "available", "voter"), ("n3", "available", "voter")
)


def test_nothing_is_missing_when_all_are_available_and_enough_vote():
    assert missing(ALL, ["n1", "n2", "n3"], 9.0, 5) == ""


def test_what_is_missing_is_named():
    found = _nodes(("n1", "available", "leader"), ("n2", "initializing", "observer"))
    said = missing(found, ["n1", "n2", "n3"], 9.0, 5)
    assert "n2 is initializing" in said
    assert "n3 is unknown" in said
    assert "1 of 3 nodes vote" in said


def test_a_node_that_was_available_before_has_not_reported_yet():
    said = missing([*ALL[:2], {**ALL[2], "since": 8.0}], ["n1", "n2", "n3"], 9.0, 5)
    assert said == "n3 has not reported yet"
