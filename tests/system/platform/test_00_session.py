"""The console session of the main job: every command that a new user types, as it is typed."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

FIELDS_OF_A_COMPONENT = {
    "id": str,
    "name": str,
    "type": str,
    "state": str,
    "since": float,
    "node": str,
    "restarts": int,
    "reason": str,
    "endpoints": dict,
    "groups": list,
}


def read_until(process: Any, word: str, patience_s: float = 45.0) -> str:
    """What a running command prints, until a word is in it."""
    said, end_s = b"", time.monotonic() + patience_s
    while word.encode() not in said:
        left_s = end_s - time.monotonic()
        assert left_s > 0, said
        if select.select([process.stdout], [], [], left_s)[0]:
            data = os.read(process.stdout.fileno(), 65536)
            assert data, (said, process.stderr.read())
            said += data
    return said.decode()


def test_the_session_that_a_new_user_types(make: Any, examples: Path) -> None:
    one = make()
    assert one.start().out == "ready\n"
    pushed = one.run("push", str(examples / "hello"))
    assert "hello@1.0.0" in pushed.out
    created = one.run("create", "hello", "--count", "3", "--group", "greeters")
    assert created.out.count("available") == 3
    table = one.run("ps").out
    assert table.splitlines()[0].split() == [
        *("ID", "NAME", "TYPE", "NODE", "STATE", "SINCE", "RESTARTS", "MEMORY", "REASON")
    ]
    assert len(table.splitlines()) == 4
    said = one.run("call", "group:greeters", "greet", '{"name": "Ada"}').json
    assert said["text"] == "Hello, Ada!"
    following = one.spawn("logs", "-f", "greeters")
    try:
        read_until(following, "greeting Ada")
        one.run("call", "group:greeters", "greet", "name=Grace")
        read_until(following, "greeting Grace")
    finally:
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=30)
    components = one.run("ps", "-o", "json").json["components"]
    assert {said["from"]} <= {c["id"] for c in components}
    one.run("destroy", components[0]["id"], "--yes")
    assert len(one.run("ps", "-o", "json").json["components"]) == 2
    assert one.run("down", "--purge", "--yes").out == "down\n"
    assert not one.state.exists()


def test_ps_as_json_has_the_fields_of_the_component_api(platform: Any) -> None:
    component = platform.create("probe", name="one", groups=["some"])
    (found,) = platform.run("ps", "-o", "json").json["components"]
    for field, kind in FIELDS_OF_A_COMPONENT.items():
        assert isinstance(found[field], kind), field
    assert found["id"] == component
    assert re.fullmatch(r"[0-9a-f]{40}", found["id"])
    assert (found["name"], found["groups"], found["state"]) == ("one", ["some"], "available")
    assert (found["type"], found["restarts"], found["reason"]) == ("probe@1.0.0", 0, "")
    assert set(found["endpoints"]["http"]) == {"protocol", "host", "port"}
    assert found["memory"] > 1 << 20
    assert platform.run("show", "one", "-o", "json").json["id"] == component
    assert platform.run("ps", "-o", "name").out.split() == [component]


def test_every_everyday_command_answers_as_json(platform: Any) -> None:
    component = platform.create("probe", groups=["some"])
    (kind,) = [t for t in platform.run("types", "-o", "json").json["types"] if t["name"] == "probe"]
    assert (kind["type"], kind["running"]) == ("probe@1.0.0", 1)
    assert kind["manifest"]["component"]["command"] == ["python3", "probe.py"]
    status = platform.run("status", "-o", "json").json
    assert status["components"]["available"] == 1
    assert status["nodes"][0]["state"] == "available"
    assert platform.run("groups", "-o", "name").out.split() == ["some"]
    assert platform.run("api", "hub.groups").json == {"groups": {"some": 1}}
    (member,) = platform.run("groups", "some", "-o", "json").json["members"]
    assert set(member) >= {"component", "name", "node", "state"}
    assert member["component"] == component
    (bundle,) = [
        b
        for b in platform.run("bundles", "-o", "json").json["bundles"]
        if b["digest"] == kind["bundle"]
    ]
    assert bundle["types"] == ["probe@1.0.0"]
    answer = platform.run("cast", component, "note", "of=casting", "-o", "json").json
    assert answer["accepted"] == 1
    records = platform.run("logs", component, "-o", "jsonl").out
    assert all(json.loads(line)["component"] == component for line in records.splitlines())
    described = platform.run("api", "rpc.discover").json
    names = {method["name"] for method in described["methods"]}
    assert {"hub.call", "controller.create", "resource.resolve", "log.follow"} <= names
    assert platform.run("terminate", component, "-o", "json").json["accepted"] is True


def test_a_wrong_name_is_not_found_with_a_hint_and_a_status_of_its_own(platform: Any) -> None:
    for words in (
        ("call", "nobody", "greet"),
        ("show", "nobody"),
        ("destroy", "nobody", "--yes"),
        ("create", "no-such-type"),
    ):
        done = platform.run(*words, status=3)
        assert done.err.startswith("error: "), done
        assert "hint" in done.err or "list" in done.err, done
