"""Components in several languages and protocols; calls, casts, groups and watches."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError

pytestmark = pytest.mark.system


@pytest.mark.parametrize("example", ["hello", "hello-node", "hello-shell"])
def test_a_component_in_python_node_and_shell_greets(
    platform: Any, examples: Path, example: str
) -> None:
    kind = platform.push(examples / example)
    component = platform.create(kind)
    assert platform.call(component, "greet", name="Ada")["text"] == "Hello, Ada!"
    with pytest.raises(PlatformError) as caught:
        platform.call(component, "dance")
    assert caught.value.code == "no-such-operation"


def test_a_component_that_speaks_msgpack_by_hand(platform: Any) -> None:
    component = platform.create(platform.push("packed"))
    inputs = {"text": "grüße", "number": -7, "list": [1, None, True, 2.5], "map": {"a": {}}}
    answer = platform.api(
        "hub.call",
        target=component,
        operation="echo",
        inputs=inputs,
        attachments=[{"name": "b", "type": "x", "data": base64.b64encode(b"\x01" * 9).decode()}],
    )
    assert answer["outputs"] == {"inputs": inputs, "sizes": [9]}
    assert answer["component"] == component
    (back,) = answer["attachments"]
    assert base64.b64decode(back["data"]) == b"\x00\xff"


def test_json_and_msgpack_components_understand_each_other(platform: Any) -> None:
    packed = platform.create(platform.push("packed"))
    probe = platform.create("probe")
    inner = {"deep": [{"er": "ä"}]}
    said = platform.call(probe, "ask", target=packed, operation="echo", inputs=inner)
    assert said == {"inputs": inner, "sizes": []}


def test_a_program_that_knows_nothing_of_us_is_available_once_started(platform: Any) -> None:
    source = platform.source("plain", ["sh", "-c", "echo here; exec sleep 1000"])
    component = platform.create(platform.push(source))
    assert platform.component(component)["state"] == "available"
    with pytest.raises(PlatformError) as caught:
        platform.call(component, "anything")
    assert caught.value.code == "no-such-operation"


def test_a_component_sees_its_container_and_not_the_host(platform: Any) -> None:
    component = platform.create("probe", name="my-probe", configuration={"colour": "red"})
    facts = platform.call(component, "facts", path=str(platform.state))
    assert facts["host"] == "my-probe"
    assert facts["configuration"] == {"colour": "red"}
    assert facts["uid"] != 0
    assert facts["state"] == [], "the host's directories are not there"
    assert facts["environment"]["PAAS_COMPONENT"] == component
    assert "PAAS_STATE" not in facts["environment"]


def test_a_call_to_any_goes_to_one_member_and_to_all_to_each(platform: Any) -> None:
    made = platform.api("controller.create", type="probe", count=3, groups=["crowd"])
    members = set(made["components"])
    asked = {platform.call("group:crowd", "echo")["from"] for _ in range(12)}
    assert asked == members
    answer = platform.api("hub.call", target="group:crowd", operation="echo", selector="all")
    assert {reply["component"] for reply in answer["replies"]} == members
    assert {reply["outputs"]["from"] for reply in answer["replies"]} == members
    wrong = platform.api("hub.call", target="group:crowd", operation="dance", selector="all")
    codes = {reply["error"]["data"]["code"] for reply in wrong["replies"]}
    assert codes == {"no-such-operation"}


def test_a_cast_reaches_one_or_all_and_nobody_waits(platform: Any, wait_until: Any) -> None:
    made = platform.api("controller.create", type="probe", count=2, groups=["crowd"])
    said = platform.api("hub.cast", target="group:crowd", operation="note", inputs={"n": 1})
    assert said == {"accepted": 1}
    said = platform.api(
        "hub.cast", target="group:crowd", operation="note", inputs={"n": 2}, selector="all"
    )
    assert said == {"accepted": 2}

    def heard() -> list[Any]:
        return [n for c in made["components"] for n in platform.call(c, "notes")]

    wait_until(lambda: len(heard()) == 3)
    assert all(note["oneway"] for note in heard())


def test_who_calls_is_known_to_the_called(platform: Any) -> None:
    a, b = platform.create("probe"), platform.create("probe")
    said = platform.call(a, "ask", target=b, operation="echo", inputs={})
    assert (said["from"], said["sender"]) == (b, a)
    assert platform.call(a, "echo")["sender"] == ""


def test_joining_counts_the_caller_and_gives_position_and_token(platform: Any) -> None:
    a, b = platform.create("probe"), platform.create("probe")
    join = {"method": "hub.join", "params": {"groups": ["club"]}}
    first, second = platform.call(a, "request", **join), platform.call(b, "request", **join)
    assert (first["members"], second["members"]) == ({"club": 1}, {"club": 2})
    assert first["positions"]["club"] < second["positions"]["club"]
    assert first["token"]["club"] < second["token"]["club"]
    members = platform.call(a, "request", method="hub.members", params={"group": "club"})
    assert [m["component"] for m in members["members"]] == [a, b]
    platform.call(a, "request", method="hub.leave", params={"groups": ["club"]})
    members = platform.call(b, "request", method="hub.members", params={"group": "club"})
    assert [m["component"] for m in members["members"]] == [b]


def test_a_unique_member_is_alone(platform: Any) -> None:
    a, b = platform.create("probe"), platform.create("probe")
    join = {"method": "hub.join", "params": {"groups": ["throne"], "unique": True}}
    token = platform.call(a, "request", **join)["token"]["throne"]
    with pytest.raises(PlatformError) as caught:
        platform.call(b, "request", **join)
    assert caught.value.code == "conflict"
    platform.destroy(a)
    assert platform.call(b, "request", **join)["token"]["throne"] > token


def test_a_component_that_watches_a_group_hears_of_every_change(
    platform: Any, wait_until: Any
) -> None:
    watcher = platform.create("probe")
    first = platform.create("probe", groups=["club"])
    opened = platform.call(watcher, "watch", group="club")
    assert [m["component"] for m in opened["snapshot"]] == [first]
    second = platform.create("probe", groups=["club"])
    platform.destroy(first)

    def heard() -> list[tuple[str, str]]:
        events = platform.call(watcher, "events")
        return [(e["event"], e["component"]) for e in events if e["event"] != "changed"]

    wait_until(lambda: len(heard()) >= 2, lambda: str(heard()))
    assert heard() == [("joined", second), ("left", first)]


def test_a_component_that_ended_is_in_no_group(platform: Any) -> None:
    component = platform.create("probe", groups=["club"])
    platform.destroy(component)
    assert "club" not in platform.api("hub.groups")["groups"]
    with pytest.raises(PlatformError) as caught:
        platform.call("group:club", "echo")
    assert caught.value.code == "no-such-target"


def test_one_that_is_unavailable_is_not_asked_until_it_is_back(
    platform: Any, wait_until: Any
) -> None:
    component = platform.create("probe")
    platform.call(component, "pause", reason="tidying up", seconds=2.0)
    with pytest.raises(PlatformError) as caught:
        platform.call(component, "echo")
    assert caught.value.code == "not-available"
    platform.in_state(component, "available")
    wait_until(lambda: platform.run("call", component, "echo", status=None).status == 0)


def test_waiting_for_members_ends_when_they_are_there(platform: Any) -> None:
    waiting = platform.connect()
    platform.api("controller.create", type="probe", count=2, groups=["club"], wait="accepted")
    found = waiting.call("hub.await", {"group": "club", "count": 2}, timeout_s=45)
    assert len(found["members"]) == 2
    waiting.close()


def test_the_deadline_of_a_call_reaches_the_called_and_ends_the_wait(platform: Any) -> None:
    component = platform.create("probe")
    facts = platform.call(component, "facts", timeout_s=20.0)
    assert facts["deadline"] > 0
    with pytest.raises(PlatformError) as caught:
        platform.call(component, "sleep", timeout_s=0.5, seconds=20)
    assert caught.value.code == "timeout"
    assert platform.call(component, "echo")["from"] == component
