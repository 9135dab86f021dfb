"""create, ps, show, terminate, destroy, link: what is sent, what is printed, how it ends."""

from __future__ import annotations

import io
import sys

import pytest

from paas.base.errors import Exit


def test_create_prints_the_new_ids_one_a_line(paas, hub):
    hub.add_type("hello")
    done = paas("create", "hello", "--count", "3", "-o", "name")
    assert done.status == 0
    assert done.out.split() == list(hub.components)


def test_create_sends_groups_configuration_and_an_idempotency_key(paas, hub):
    hub.add_type("hello")
    words = [
        "--group",
        "a",
        "--group",
        "b",
        "--set",
        "n=3",
        "--set",
        "who=Ada",
        "--restart",
        "transient",
    ]
    assert paas("create", "hello", *words).status == 0
    (sent,) = hub.sent("controller.create")
    assert sent["groups"] == ["a", "b"]
    assert sent["configuration"] == {"n": 3, "who": "Ada"}
    assert sent["restart"] == "transient"
    assert len(sent["request_id"]) == 32
    assert sent["trace"].startswith("00-")


def test_create_repeated_with_its_request_id_is_done_once(paas, hub):
    hub.add_type("hello")
    first = paas("create", "hello", "--request-id", "r1", "-o", "json").json()
    assert paas("create", "hello", "--request-id", "r1", "-o", "json").json() == first
    assert len(hub.components) == 1


def test_no_wait_returns_once_the_command_is_accepted(paas, hub):
    hub.add_type("hello")
    paas("create", "hello", "--no-wait")
    assert hub.sent("controller.create")[0]["wait"] == "accepted"


def test_a_misspelt_type_is_not_found_and_the_nearest_one_is_named(paas, hub):
    hub.add_type("feeds-fetcher")
    done = paas("create", "feeds-fetchr")
    assert done.status == Exit.NOT_FOUND
    assert done.out == ""
    assert "did you mean 'feeds-fetcher'?" in done.err
    assert "[no-such-type]" in done.err
    assert "trace " in done.err


def test_ps_json_is_the_list_of_the_api_and_empty_is_an_empty_list(paas, hub):
    assert paas("ps", "-o", "json").json() == {"components": []}
    hub.add_component("hello@1.0.0", "one")
    (found,) = paas("-o", "json", "ps").json()["components"]
    assert found["name"] == "one"
    assert found["since_time"] == "1970-01-01T00:16:40.000Z"


def test_ps_filters_and_shows_ended_ones_only_on_request(paas, hub):
    hub.add_component("hello@1.0.0", "one", ("g",))
    gone = hub.add_component("hello@1.0.0", "two", ("g",))
    hub.components[gone]["state"] = "destroyed"
    assert len(paas("ps", "-o", "name", "-l", "group=g").out.split()) == 1
    assert len(paas("ps", "-o", "name", "--all").out.split()) == 2
    assert paas("ps", "-l", "colour=red").status == Exit.USAGE


def test_ps_table_has_a_heading_and_wide_has_more(paas, hub):
    hub.add_component("hello@1.0.0", "one", ("g",))
    table = paas("ps").out.splitlines()
    assert table[0].split()[:3] == ["ID", "NAME", "TYPE"]
    assert "http=http://10.0.0.2:8000" in paas("ps", "-o", "wide").out


def test_query_picks_from_the_json_value(paas, hub):
    hub.add_component("hello@1.0.0", "one")
    assert paas("ps", "--query", "components[].name").out == "one\n"
    assert paas("ps", "-o", "json", "--query", "components[0].name").out == '"one"\n'
    assert paas("ps", "--query", "components[").status == Exit.USAGE


@pytest.mark.parametrize("length", [8, 12, 40])
def test_show_takes_id_prefixes(paas, hub, length):
    identity = hub.add_component("hello@1.0.0", "one")
    assert paas("show", identity[:length], "-o", "json").json()["id"] == identity
    assert identity in paas("show", "one").out


def test_destroy_says_what_it_would_do_and_then_does_it(paas, hub):
    identity = hub.add_component("hello@1.0.0", "one")
    assert "would destroy" in paas("destroy", "one", "--dry-run").out
    assert hub.components[identity]["state"] == "available"
    assert paas("destroy", identity[:8], "--grace", "2s", "--yes").status == 0
    assert hub.sent("controller.destroy")[0]["grace"] == 2.0
    assert hub.components[identity]["state"] == "destroyed"


def test_destroy_asks_a_person_for_the_name(paas, hub, monkeypatch):
    identity = hub.add_component("hello@1.0.0", "one")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("two\none\n"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert paas("destroy", "one").status == Exit.FAILED
    assert hub.components[identity]["state"] == "available"
    assert paas("destroy", "one").status == 0
    assert hub.components[identity]["state"] == "destroyed"


def test_terminate_refused_is_an_error_with_the_reason(paas, hub):
    hub.add_component("hello@1.0.0", "one")
    hub.refuses = "draining 14 items"
    done = paas("terminate", "one")
    assert done.status == Exit.FAILED
    assert "draining 14 items" in done.err
    hub.refuses = ""
    assert paas("terminate", "one", "reason=upgrade").status == 0
    assert hub.sent("controller.terminate")[-1]["inputs"] == {"reason": "upgrade"}


def test_link_and_unlink_resolve_names(paas, hub):
    a, b = hub.add_component("x@1", "a"), hub.add_component("x@1", "b")
    assert paas("link", "a", b[:8]).status == 0
    assert hub.sent("controller.link")[0]["a"] == a
    assert paas("unlink", "a", "b", "-o", "json").json() == {"a": a, "b": b}


def test_a_short_prefix_says_how_many_digits_are_needed(paas, hub):
    hub.add_component("hello@1.0.0", "one")
    done = paas("destroy", "abcd", "--dry-run")
    assert done.status == Exit.NOT_FOUND


def test_types_are_listed_described_and_removed(paas, hub):
    hub.add_type("hello")
    assert paas("types", "-o", "name").out == "hello@1.0.0\n"
    assert paas("types", "show", "hello", "-o", "json").json()["version"] == "1.0.0"
    assert paas("types", "remove", "hello", "--dry-run").status == 0
    assert paas("types", "remove", "hello@1.0.0", "--yes").status == 0
    assert hub.types == {}
