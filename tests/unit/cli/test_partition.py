"""Partitions by hand: from words to who does not hear whom, and to the packet filter."""

from __future__ import annotations

import json

import pytest

from paas.base.errors import PlatformError
from paas.cli.partition import deaf, filter_document

NAMES = ["n1", "n2", "n3", "n4"]


def test_groups_do_not_hear_each_other():
    assert deaf("n1|n2,n3", False, NAMES) == {
        "n1": ["n2", "n3"],
        "n2": ["n1"],
        "n3": ["n1"],
        "n4": [],
    }


def test_there_may_be_more_than_two_groups_and_blanks():
    found = deaf("n1 | n2 , n4 | n3", False, NAMES)
    assert found["n1"] == ["n2", "n3", "n4"]
    assert found["n2"] == found["n4"] == ["n1", "n3"]


def test_one_way_only_the_second_group_is_deaf():
    assert deaf("n1|n2,n3", True, NAMES) == {"n1": [], "n2": ["n1"], "n3": ["n1"], "n4": []}


@pytest.mark.parametrize(
    ("groups", "one_way", "said"),
    [
        ("n1", False, "groups of nodes"),
        ("", False, "groups of nodes"),
        ("n1|", False, "groups of nodes"),
        ("n1,,n2|n3", False, "groups of nodes"),
        ("n1|n9", False, "no node is called 'n9'"),
        ("n1|n2,n1", False, "one group only"),
        ("n1|n2|n3", True, "two groups"),
    ],
)
def test_what_makes_no_sense_is_refused(groups, one_way, said):
    with pytest.raises(PlatformError, match=said) as caught:
        deaf(groups, one_way, NAMES)
    assert caught.value.code == "invalid"


def test_the_filter_replaces_the_table_and_drops_each_network():
    commands = json.loads(filter_document(["10.130.0.1", "10.70.8.0/21"]))["nftables"]
    assert [next(iter(c)) for c in commands[:3]] == ["add", "delete", "add"]
    rules = [c["add"]["rule"] for c in commands if "rule" in c.get("add", {})]
    sources = [rule["expr"][0]["match"]["right"] for rule in rules]
    assert sources == ["10.130.0.1", {"prefix": {"addr": "10.70.8.0", "len": 21}}]
    assert all(rule["expr"][1] == {"drop": None} for rule in rules)


def test_without_networks_only_the_table_goes():
    commands = json.loads(filter_document([]))["nftables"]
    assert [next(iter(c)) for c in commands] == ["add", "delete"]
