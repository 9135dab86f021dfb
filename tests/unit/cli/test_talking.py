"""call, cast, groups, logs, events, monitor, wait, status, api."""

from __future__ import annotations

import io
import json
import sys
import threading
import time

import pytest

from paas.base.errors import Exit


def test_call_prints_the_outputs_as_one_json_value(paas, hub):
    hub.add_component("hello@1.0.0", "one")
    assert paas("call", "one", "greet", '{"name": "Ada"}').json() == {"echo": {"name": "Ada"}}
    assert paas("call", "one", "greet", "name=Ada", "n=2").json() == {
        "echo": {"name": "Ada", "n": 2}
    }


def test_call_to_all_members_prints_their_replies(paas, hub):
    for name in ("a", "b"):
        hub.add_component("hello@1.0.0", name, ("g",))
    replies = paas("call", "group:g", "greet", "--selector", "all").json()["replies"]
    assert len(replies) == 2


def test_call_completes_an_id_prefix(paas, hub):
    identity = hub.add_component("hello@1.0.0", "one")
    assert paas("call", identity[:8], "greet").status == 0
    assert hub.sent("hub.call")[0]["target"] == identity


def test_call_passes_timeout_object_and_attachments(paas, hub, tmp_path):
    hub.add_component("hello@1.0.0", "one")
    file = tmp_path / "note.txt"
    file.write_text("hi")
    words = ["--timeout", "1500ms", "--object", "door", "--attach", str(file)]
    assert paas("call", "one", "open", *words).status == 0
    (sent,) = hub.sent("hub.call")
    assert (sent["timeout"], sent["object"]) == (1.5, "door")
    assert sent["attachments"] == [{"name": "note.txt", "type": "text/plain", "data": "aGk="}]


def test_an_error_of_the_component_is_the_end_and_its_last_lines_are_shown(paas, hub):
    hub.add_component("hello@1.0.0", "one")
    done = paas("call", "one", "fail")
    assert (done.status, done.out) == (Exit.FAILED, "")
    assert "ValueError: no" in done.err
    assert "| two" in done.err


def test_errors_in_json_mode_are_one_object_on_standard_error(paas, hub):
    done = paas("call", "nobody", "greet", "-o", "json")
    error = json.loads(done.err)["error"]
    assert done.status == Exit.NOT_FOUND
    assert error["code"] == "no-such-target"
    assert set(error) >= {"code", "message", "hint", "trace_id", "retryable"}
    assert len(error["trace_id"]) == 32


@pytest.mark.parametrize("words", [["{"], ["[1]"], ["name"], ["=x"], ["a=1", "b"]])
def test_inputs_that_are_none_are_a_usage_error(paas, hub, words):
    hub.add_component("hello@1.0.0", "one")
    assert paas("call", "one", "greet", *words).status == Exit.USAGE


def test_cast_says_to_how_many_it_went(paas, hub):
    for name in ("a", "b"):
        hub.add_component("hello@1.0.0", name, ("g",))
    assert "2 members" in paas("cast", "group:g", "greet", "--selector", "all").out
    assert paas("cast", "a", "greet", "-o", "json").json() == {"accepted": 1}


def test_groups_and_members(paas, hub):
    identity = hub.add_component("hello@1.0.0", "a", ("g", "h"))
    assert paas("groups", "-o", "name").out.split() == ["g", "h"]
    assert paas("groups", "g", "-o", "name").out.split() == [identity]
    assert paas("groups", "nobody").status == Exit.NOT_FOUND


@pytest.mark.parametrize("target", ["one", "g", "group:g", "hello", ""])
def test_logs_look_for_component_then_group_then_type(paas, hub, target):
    hub.add_type("hello")
    identity = hub.add_component("hello@1.0.0", "one", ("g",))
    hub.add_record(identity, "fetched url=x")
    done = paas("logs", *([target] if target else []))
    assert f"{identity[:8]} info fetched url=x n=0" in done.out


def test_logs_of_an_unknown_target_are_not_found(paas, hub):
    done = paas("logs", "nobody")
    assert done.status == Exit.NOT_FOUND
    assert "component, group or type" in done.err


def test_logs_pass_level_grep_since_and_tail(paas, hub):
    words = ["--level", "warning", "--grep", "x", "--since", "2m", "--tail", "5", "-o", "json"]
    assert paas("logs", *words).json() == {"records": []}
    (sent,) = hub.sent("log.query")
    assert (sent["level"], sent["grep"], sent["limit"]) == ("warning", "x", 5)
    assert sent["since"] > 1_600_000_000


def test_logs_follow_shows_old_then_new_records_until_the_hub_goes(paas, hub):
    identity = hub.add_component("hello@1.0.0", "one")
    hub.add_record(identity, "first")

    def end() -> None:
        time.sleep(0.3)
        for sock in hub.sockets:
            sock.shutdown(2)

    threading.Thread(target=end).start()
    done = paas("logs", "-f", "one", "-o", "jsonl")
    assert [json.loads(line)["message"] for line in done.out.splitlines()] == ["first", "new first"]
    assert done.status == Exit.UNREACHABLE


def test_events_end_after_a_count(paas, hub):
    done = paas("events", "--count", "2", "-o", "jsonl")
    states = [json.loads(line)["state"] for line in done.out.splitlines()]
    assert states == ["initializing", "available"]


def test_monitor_waits_for_the_one_down_event(paas, hub):
    identity = hub.add_component("hello@1.0.0", "one")
    found = paas("monitor", "one", "-o", "json").json()
    assert found == {"component": identity, "reason": "normal", "index": 2}


def test_wait_for_components_and_groups(paas, hub):
    identity = hub.add_component("hello@1.0.0", "one", ("g",))
    assert paas("wait", "one", "--for", "ready").status == 0
    assert paas("wait", "component/one", "-o", "name").out.strip() == identity
    assert paas("wait", "group:g", "-o", "name").out.strip() == identity
    assert paas("wait", "group/g", "--count", "2").status == Exit.DEADLINE
    assert paas("wait", "one", "--for", "ended", "--timeout", "0.2").status == Exit.DEADLINE
    assert paas("wait", "nobody", "--for", "ended").status == 0


def test_status_and_nodes(paas, hub):
    assert paas("status", "-o", "json").json()["cluster"] == "test"
    assert "n1" in paas("status").out
    nodes = paas("nodes", "-o", "json").json()["nodes"]
    assert (nodes[0]["name"], nodes[0]["state"]) == ("n1", "available")


def test_api_makes_any_call_and_takes_parameters_from_standard_input(paas, hub, monkeypatch):
    hub.add_component("hello@1.0.0", "one", ("g",))
    assert paas("api", "hub.groups", '{"prefix": "g"}').json() == {"groups": {"g": 1}}
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"prefix": "x"}'))
    assert paas("api", "hub.groups", "-").json() == {"groups": {}}
    done = paas("api", "hub.gruops")
    assert done.status == Exit.USAGE
    assert "did you mean 'hub.groups'?" in done.err


def test_a_change_whose_connection_is_lost_has_an_unknown_outcome(paas, hub):
    hub.add_type("hello")
    hub.hang_up = True
    done = paas("create", "hello")
    assert done.status == Exit.PENDING
    assert "--request-id" in done.err


def test_a_read_whose_connection_is_lost_is_unreachable(paas, hub):
    hub.hang_up = True
    assert paas("ps").status == Exit.UNREACHABLE
