"""paas attribute get, set."""

from __future__ import annotations

import json

from paas.base.errors import Exit


def test_what_is_set_can_be_read(paas, hub):
    hub.add_component("lamp@1.0.0", "lamp")
    done = paas("attribute", "set", "lamp", "colour=red", "level=3", "--object", "left")
    assert (done.status, done.out) == (0, "set colour, level of lamp\n")
    (sent,) = hub.sent("hub.set_attributes")
    assert sent["attributes"] == {"colour": "red", "level": 3}
    assert sent["kind"] == "durable"
    assert paas("attribute", "get", "lamp", "--object", "left").json() == {
        "colour": "red",
        "level": 3,
    }
    assert paas("attribute", "get", "lamp", "level", "--object", "left").json() == {"level": 3}
    assert paas("attribute", "get", "lamp").json() == {}


def test_a_check_of_the_present_value(paas, hub):
    hub.add_component("lamp@1.0.0", "lamp")
    assert paas("attribute", "set", "lamp", "level=3").status == 0
    refused = paas("attribute", "set", "lamp", "level=5", "--expect", "level=4")
    assert refused.status == Exit.CONFLICT
    assert paas("attribute", "set", "lamp", "level=5", "--expect", "level=3").status == 0


def test_volatile_attributes_with_a_time_to_live(paas, hub):
    hub.add_component("lamp@1.0.0", "lamp")
    words = ["load=0.5", "--kind", "volatile", "--ttl", "10s", "-o", "json"]
    assert paas("attribute", "set", "lamp", *words).json() == {"index": 7}
    (sent,) = hub.sent("hub.set_attributes")
    assert (sent["kind"], sent["ttl"]) == ("volatile", 10.0)


def test_members_of_a_group_their_sums_and_who_is_missing(paas, hub):
    for name, load in (("a", 1), ("b", 2)):
        identity = hub.add_component("lamp@1.0.0", name, ("g",))
        hub.attributes[identity, ""] = {"load": load}
    done = paas("attribute", "get", "group:g")
    assert sorted(m["load"] for m in done.json().values()) == [1, 2]
    assert "abababab are missing: not-available" in done.err
    assert paas("attribute", "get", "group:g", "--aggregate", "sum").json() == {"load": 3}


def test_attributes_of_a_whole_group_cannot_be_set(paas):
    done = paas("attribute", "set", "group:g", "x=1")
    assert done.status == Exit.USAGE


def test_changes_are_printed_as_they_come(paas, hub):
    hub.add_component("lamp@1.0.0", "lamp")
    done = paas("attribute", "get", "lamp", "--watch", "--count", "1")
    assert done.out.splitlines() == ['{"level": 3}', 'changed abababab durable {"level": 4}']
    done = paas("attribute", "get", "lamp", "--watch", "--count", "1", "-o", "jsonl")
    assert json.loads(done.out.splitlines()[1])["attributes"] == {"level": 4}
