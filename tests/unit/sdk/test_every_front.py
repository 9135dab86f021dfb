"""One probe in every front end of the SDKs, in a process of its own, against the scripted harness.

What a component can do must not depend on how its program waits, nor on its language.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.sdk.paas_testing import Harness, HarnessError

ROOT = Path(__file__).parents[3]
SDK = ROOT / "paas" / "sdk"
PROBES = Path(__file__).parent / "probes"
NODE = shutil.which("node")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

COMMANDS = {
    "threads": (sys.executable, str(PROBES / "probe_threads.py")),
    "asyncio": (sys.executable, str(PROBES / "probe_tasks.py"), "asyncio"),
    "trio": (sys.executable, str(PROBES / "probe_tasks.py"), "trio"),
    **(
        {"node": (NODE, str(PROBES / "probe.mjs"), str(SDK / "node" / "paas-component.mjs"))}
        if NODE
        else {}
    ),
}


def started(front: str) -> Harness:
    harness = Harness(COMMANDS[front], configuration={"a": 1}, environment={"PYTHONPATH": str(SDK)})
    harness.start()
    return harness


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def front(request: pytest.FixtureRequest) -> Iterator[tuple[str, Harness]]:
    harness = started(request.param)
    yield request.param, harness
    harness.close()


@pytest.fixture
def harness(front: tuple[str, Harness]) -> Harness:
    found = front[1]
    for forget in (found.attributes, found.watches, found._scripts, found._requests):
        forget.clear()
    return found


def test_it_joined_before_it_was_ready_and_answers(harness: Harness) -> None:
    assert harness.groups == ["probes"]
    said = {"text": "grüß \U0001f600", "n": [1, 2.5, None, True, -3]}
    assert harness.call("echo", said) == said


def test_operations_of_objects_are_apart(harness: Harness) -> None:
    assert harness.call("add", object="cart") == {"object": "cart", "sender": "cdcd"}
    with pytest.raises(HarnessError, match="no-such-operation"):
        harness.call("add")


def test_many_calls_at_once_get_their_own_answers(harness: Harness) -> None:
    pending = [harness.begin("echo", {"n": n}) for n in range(500)]
    assert [one.result()["n"] for one in pending] == list(range(500))


def test_an_operation_asks_another_component(harness: Harness) -> None:
    pending = harness.begin("ask", {"k": 1}, trace=TRACE)
    asked = harness.expect("hub.call", target="group:b", operation="get")
    assert asked.params["inputs"] == {"k": 1}
    assert asked.params["timeout"] == 5
    assert asked.params["trace"] == TRACE
    asked.answer({"outputs": {"v": 2}, "component": "x"})
    assert pending.result() == {"got": {"v": 2}}


def test_errors_of_others_keep_code_and_data(harness: Harness) -> None:
    pending = harness.begin("ask")
    harness.expect("hub.call").fail("no-such-target", "nobody", target="group:b")
    with pytest.raises(HarnessError) as caught:
        pending.result()
    assert (caught.value.code, caught.value.data) == ("no-such-target", {"target": "group:b"})


def test_many_operations_wait_for_others_at_once(front: Any, harness: Harness) -> None:
    harness.on("hub.call", lambda params: {"outputs": params["inputs"], "component": "x"})
    pending = [harness.begin("ask", {"n": n}) for n in range(200)]
    assert [one.result() for one in pending] == [{"got": {"n": n}} for n in range(200)]


def test_who_is_not_wanted_any_more_stops(harness: Harness) -> None:
    pending = harness.begin("wait", timeout=60)
    harness._until(
        lambda: any(r["message"] == "waiting" for r in harness.logs), 10, "it does not wait"
    )
    pending.cancel()
    with pytest.raises(HarnessError, match="cancelled"):
        pending.result()


def test_a_cancellation_of_nothing_does_no_harm(harness: Harness) -> None:
    harness._send({"method": "component.cancel", "params": {"id": 987654}})
    assert harness.call("echo", {"a": 1}) == {"a": 1}


def test_who_loses_patience_says_so(harness: Harness) -> None:
    pending = harness.begin("impatient")
    asked = harness.expect("hub.call", target="group:slow")
    assert pending.result() == {"code": "cancelled"}
    assert asked.cancelled.wait(10)
    asked.answer({"outputs": {}, "component": "x"})  # too late, and no harm
    assert harness.call("echo", {"a": 1}) == {"a": 1}


def test_events_of_a_watch_are_iterated_over(harness: Harness) -> None:
    pending = harness.begin("follow")
    watch = harness.await_watch(group="g", since=7)
    for n in range(3):
        harness.event(watch, "joined", n=n)
    assert pending.result() == {"snapshot": [], "events": [0, 1, 2]}
    assert watch not in harness.watches


def test_callbacks_get_events_in_order_also_early_ones(harness: Harness) -> None:
    def open_with_events(params: dict[str, Any]) -> dict[str, Any]:
        for n in range(25):
            harness.event(77, "changed", n=n)
        return {"watch": 77, "snapshot": [], "index": 0}

    harness.on("hub.watch", open_with_events)
    assert harness.call("listen") == 77
    for n in range(25, 50):
        harness.event(77, "changed", n=n)
    heard: list[int] = []
    for _ in range(1_000):
        heard = harness.call("hearing")
        if len(heard) == 50:
            break
    assert heard == list(range(50))


def test_attributes_and_signals(harness: Harness) -> None:
    kinds: list[tuple[Any, ...]] = []

    def set_attributes(params: dict[str, Any]) -> dict[str, int]:
        kinds.append((params.get("kind"), params["attributes"], params.get("expect")))
        return {"index": 5}

    harness.on("hub.set_attributes", set_attributes)
    harness.on("hub.get_attributes", {"attributes": {"colour": "blue"}, "index": 5})
    harness.on("hub.signal", lambda params: {"watchers": params["payload"]["n"] + 2})
    assert harness.call("paint") == {"colour": "blue", "signal": 3}
    assert sorted(kinds, key=str) == sorted(
        [
            ("durable", {"colour": "blue"}, None),
            ("volatile", {"wet": True}, None),
            ("volatile", {"wet": None}, None),
            (None, {"layers": 2}, {"layers": None}),
        ],
        key=str,
    )


def test_large_attachments_go_by_blob_and_come_back(harness: Harness) -> None:
    pieces: dict[int, int] = {}

    def append(params: dict[str, Any]) -> dict[str, Any]:
        pieces[params["offset"]] = len(params["data"])
        return {}

    back = {"name": "b", "type": "t", "blob": "ff", "size": 6, "node": "n", "key": "k"}
    harness.on("blob.begin", {"upload": "u1"})
    harness.on("blob.append", append)
    harness.on("blob.commit", {"blob": "ee", "size": 3 << 20, "node": "n1", "key": "secret"})
    harness.on("blob.read", read_of(b"abcdef", 4))
    pending = harness.begin("send_large")
    asked = harness.expect("hub.call", operation="take")
    (item,) = asked.params["attachments"]
    assert item == {
        "name": "big",
        "type": "text/plain",
        "blob": "ee",
        "size": 3 << 20,
        "node": "n1",
        "key": "secret",
    }
    asked.answer({"outputs": {}, "component": "x", "attachments": [back]})
    result = pending.result()
    assert result == {"item": item, "back": "abcdef"}
    assert sorted(pieces) == [0, 1 << 20, 2 << 20]


def read_of(data: bytes, most: int) -> Any:
    import base64

    def read(params: dict[str, Any]) -> dict[str, Any]:
        assert params["key"] == "k"
        offset = params["offset"]
        piece = data[offset : offset + most]
        return {"data": base64.b64encode(piece).decode(), "eof": offset + most >= len(data)}

    return read


def test_small_attachments_come_with_the_message(harness: Harness) -> None:
    sent = [{"name": "a", "type": "t", "data": b"abc"}, {"name": "b", "type": "t", "data": b""}]
    assert harness.call("measure", attachments=sent) == {"sizes": [3, 0]}
    (item,) = harness.begin("copy", attachments=sent).whole()["attachments"]
    assert item["data"] == b"cba"


def test_large_results_go_with_the_message_where_there_is_no_blob_store(harness: Harness) -> None:
    sent = [{"name": "a", "type": "t", "data": b"abc" * 500_000}]
    pending = harness.begin("copy", attachments=sent)
    harness.expect("blob.begin").fail("no-such-method", "no blobs")
    (item,) = pending.whole()["attachments"]
    assert item["data"] == b"cba" * 500_000


def test_a_message_of_a_mailbox_is_known_and_can_be_rejected(harness: Harness) -> None:
    mark = {"id": "m1", "attempt": 2}
    assert harness.call("take", {"n": 1}, message=mark) == mark
    with pytest.raises(HarnessError) as caught:
        harness.call("take", {"bad": True}, message=mark)
    assert caught.value.code == "reject"


def test_exceptions_are_failed_with_their_message(harness: Harness) -> None:
    with pytest.raises(HarnessError) as caught:
        harness.call("break_down")
    assert (caught.value.code, caught.value.message) == ("failed", "ValueError: it broke")


def test_configuration_is_known_and_changes_are_told(harness: Harness) -> None:
    before = harness.call("configured_as")
    harness.configure({"a": before["now"]["a"] + 1})
    after = harness.call("configured_as")
    assert after["now"] == {"a": before["now"]["a"] + 1}
    for _ in range(1_000):
        if after["changes"][-1:] == [after["now"]]:
            break
        after = harness.call("configured_as")
    assert after["changes"][-1:] == [after["now"]]


def test_numbers_that_json_does_not_have_are_a_failure() -> None:
    harness = started("threads")
    try:
        with pytest.raises(HarnessError, match="failed"):
            harness.call("nonsense")
    finally:
        harness.close()


def test_an_inline_operation_cannot_wait_for_others() -> None:
    harness = started("threads")
    try:
        with pytest.raises(HarnessError, match="cannot wait"):
            harness.call("ask_inline")
        assert harness.call("echo", {"a": 1}) == {"a": 1}
    finally:
        harness.close()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_it_may_refuse_to_end_and_ends_when_it_agrees(name: str) -> None:
    harness = started(name)
    try:
        assert harness.terminate("no") == {"accepted": False, "reason": "not yet"}
        assert harness.call("echo", {"a": 1}) == {"a": 1}
        assert harness.terminate("now")["accepted"] is True
        assert harness.wait() == 0, harness.output
    finally:
        harness.close()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_it_ends_with_its_harness_also_when_it_waits(name: str) -> None:
    harness = started(name)
    try:
        harness.begin("ask", timeout=60)
        harness.expect("hub.call")
        assert harness._channel is not None
        harness._channel.shutdown(2)
        assert harness.wait(20) == 0, harness.output
    finally:
        harness.close()
