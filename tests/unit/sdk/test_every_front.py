"""One probe in every front end of the SDKs, in a process of its own, against the scripted harness.

What a component can do must not depend on how its program waits, nor on its language.
"""

from __future__ import annotations

import base64
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.sdk.paas_testing import Harness, HarnessError, Pending

ROOT = Path(__file__).parents[3]
SDK = ROOT / "paas" / "sdk"
PROBES = Path(__file__).parent / "probes"
NODE = shutil.which("node")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

PYTHONS = {
    "threads": (sys.executable, str(PROBES / "probe_threads.py")),
    "asyncio": (sys.executable, str(PROBES / "probe_tasks.py"), "asyncio"),
    "trio": (sys.executable, str(PROBES / "probe_tasks.py"), "trio"),
}
COMMANDS = {
    **PYTHONS,
    **{f"{front}, msgpack": command for front, command in PYTHONS.items()},
    **(
        {"node": (NODE, str(PROBES / "probe.mjs"), str(SDK / "node" / "paas-component.mjs"))}
        if NODE
        else {}
    ),
}


def played(front: str) -> Harness:
    codec = "msgpack" if "msgpack" in front else "json"
    environment = {"PYTHONPATH": str(SDK), "PROBE_CODEC": codec}
    return Harness(COMMANDS[front], configuration={"a": 1}, environment=environment)


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def front(request: pytest.FixtureRequest) -> Iterator[tuple[str, Harness]]:
    with played(request.param) as harness:
        yield request.param, harness


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


def test_something_is_said_to_a_browser(harness: Harness) -> None:
    pending = harness.begin("tell_browser")
    said = []
    for _ in range(3):
        asked = harness.expect("hub.call", operation="gateway.send")
        said.append(asked.params)
        asked.answer({"outputs": {"delivered": True}, "component": "x"})
    assert pending.result() == {"delivered": True}
    inputs = [params["inputs"] for params in said]
    assert inputs[0] == {"connection": "c1", "kind": "text", "text": "hi"}
    assert inputs[1] == {"connection": "c1", "kind": "binary"}
    assert inputs[2] == {"connection": "c1", "kind": "close", "code": 1001, "reason": "later"}
    (attachment,) = said[1]["attachments"]
    assert attachment["name"] == "data"


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
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
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
    harness.on("blob.read", read_of(b"abcdef", 4, binary=harness._binary))
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


def read_of(data: bytes, most: int, *, binary: bool) -> Any:
    def read(params: dict[str, Any]) -> dict[str, Any]:
        assert params["key"] == "k"
        offset = params["offset"]
        piece = data[offset : offset + most]
        said = piece if binary else base64.b64encode(piece).decode()
        return {"data": said, "eof": offset + most >= len(data)}

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


def test_who_is_cancelled_before_it_has_begun_is_answered(harness: Harness) -> None:
    for identity in range(900_000, 900_010):  # both in one write, so that they are read together
        params = {"operation": "wait", "inputs": {}, "from": ""}
        harness._send_many(
            {"id": identity, "method": "component.invoke", "params": params},
            {"method": "component.cancel", "params": {"id": identity}},
        )
        with pytest.raises(HarnessError, match="cancelled"):
            Pending(harness, identity).result()


def test_what_is_nested_too_deep_is_an_error_and_not_silence(harness: Harness) -> None:
    value: Any = 0
    for _ in range(30):  # in an answer, which is two levels more
        value = [value]
    assert harness.call("deep", {"depth": 30}) == value
    for depth in (31, 500):
        with pytest.raises(HarnessError, match="nested more than 32 deep"):
            harness.call("deep", {"depth": depth})


def test_half_a_character_is_an_error_and_not_silence(harness: Harness) -> None:
    with pytest.raises(HarnessError, match="failed"):
        harness.call("half_a_character")


def test_an_error_whose_data_cannot_be_said_keeps_its_code(harness: Harness) -> None:
    with pytest.raises(HarnessError, match="it is odd") as caught:
        harness.call("fail_oddly")
    assert caught.value.code == "odd"


def test_large_results_of_plain_operations_go_by_blob_too(harness: Harness) -> None:
    harness.on("blob.begin", {"upload": "u1"})
    harness.on("blob.append", {})
    harness.on("blob.commit", {"blob": "ee", "size": 2 << 20, "node": "n1", "key": "secret"})
    (item,) = harness.begin("send_plainly").whole()["attachments"]
    assert (item["name"], item["blob"], "data" in item) == ("b", "ee", False)


def test_who_does_not_keep_up_with_events_is_told_of_the_gap(harness: Harness) -> None:
    most = 10_000

    def flood(params: dict[str, Any]) -> dict[str, Any]:
        events = [{"watch": 88, "event": "joined", "index": n, "n": n} for n in range(most + 50)]
        harness._send_many(*({"method": "component.event", "params": e} for e in events))
        return {"watch": 88, "snapshot": [], "index": 0}

    harness.on("hub.watch", flood)
    assert harness.call("listen_late") == 88
    harness.call("open_gate")
    heard: list[Any] = []
    for _ in range(2_000):
        heard = harness.call("heard_late")
        if heard[0] > most:
            break
    gap = {"watch": 88, "event": "gap", "index": 0, "dropped": 50}
    assert heard == [most + 1, [gap]]


def test_a_stream_of_casts_is_confirmed_now_and_then(harness: Harness) -> None:
    notes: list[int] = []

    def cast(params: dict[str, Any]) -> dict[str, int]:
        notes.append(params["inputs"]["n"])
        return {"accepted": 1}

    harness.on("hub.cast", cast)
    harness.call("tell_many")
    assert notes == list(range(300))


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


def test_an_inline_operation_cannot_wait_for_others() -> None:
    with played("threads") as harness:
        with pytest.raises(HarnessError, match="cannot wait"):
            harness.call("ask_inline")
        assert harness.call("echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_it_may_refuse_to_end_and_ends_when_it_agrees(name: str) -> None:
    with played(name) as harness:
        assert harness.terminate("no") == {"accepted": False, "reason": "not yet"}
        assert harness.call("echo", {"a": 1}) == {"a": 1}
        assert harness.terminate("now")["accepted"] is True
        assert harness.wait() == 0, harness.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_it_ends_with_its_harness_also_when_it_waits(name: str) -> None:
    with played(name) as harness:
        harness.begin("ask", timeout=60)
        harness.expect("hub.call")
        assert harness._channel is not None
        harness._channel.shutdown(2)
        assert harness.wait(20) == 0, harness.output


@pytest.mark.parametrize("name", sorted(PYTHONS))
def test_numbers_that_json_does_not_have_are_a_failure(name: str) -> None:
    with played(name) as harness, pytest.raises(HarnessError, match="failed"):
        harness.call("nonsense")


@pytest.mark.parametrize("operation", ["exit_here", "exit_inline"])
@pytest.mark.parametrize("name", sorted(PYTHONS))
def test_an_operation_that_would_end_the_program_has_failed(name: str, operation: str) -> None:
    with played(name) as harness:
        for _ in range(10):  # more than there are workers
            with pytest.raises(HarnessError, match="failed: SystemExit: 3"):
                harness.call(operation)
        assert harness.call("echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"threads", "threads, msgpack"}))
def test_what_is_awaited_only_in_the_end_is_cancelled_too(name: str) -> None:
    with played(name) as harness:
        pending = harness.begin("wait_wrapped", timeout=60)
        waits = lambda: any(r["message"] == "waiting" for r in harness.logs)  # noqa: E731
        harness._until(waits, 10, "it does not wait")
        pending.cancel()
        with pytest.raises(HarnessError, match="cancelled"):
            pending.result()


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_task_that_cannot_be_begun_is_a_failure(name: str) -> None:
    with played(name) as harness, pytest.raises(HarnessError, match="failed: TypeError"):
        harness.call("one_word")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_operations_that_wait_are_bounded_by_their_bytes(name: str) -> None:
    with played(name) as harness:
        text = "x" * (1 << 20)
        pending = [harness.begin("wait", {"n": n, "text": text}, timeout=60) for n in range(36)]
        with pytest.raises(HarnessError) as caught:
            pending[-1].result()
        assert caught.value.code == "limit-exceeded"
        refused = [one.identity for one in pending if one.identity in harness._answers]
        assert len(refused) <= 5
        assert harness.call("echo", {"a": 1}) == {"a": 1}
        for one in pending[:31]:
            one.cancel()
            with pytest.raises(HarnessError, match="cancelled"):
                one.result()
        assert len(harness.call("echo", {"text": text})["text"]) == len(text)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_it_ends_also_when_operations_wait_for_all_there_is(name: str) -> None:
    with played(name) as harness:
        pending = [harness.begin("wait", timeout=60) for _ in range(20)]
        assert harness.terminate("now")["accepted"] is True
        for one in pending:
            one.cancel()
        assert harness.wait(20) == 0, harness.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_signal_to_end_lets_calls_finish(name: str) -> None:
    with played(name) as harness:
        pending = [harness.begin("ask", {"n": n}, timeout=60) for n in range(3)]
        asked = [harness.expect("hub.call") for _ in pending]
        assert harness._process is not None
        harness._process.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # it knows
        for one in asked:
            one.answer({"outputs": one.params["inputs"], "component": "x"})
        assert [one.result() for one in pending] == [{"got": {"n": n}} for n in range(3)]
        assert harness.wait(20) == 0, harness.output


@pytest.mark.parametrize("name", sorted(name for name in PYTHONS if name != "threads"))
def test_a_task_that_is_cancelled_leaves_its_watch(name: str) -> None:
    with played(name) as harness:
        pending = harness.begin("follow", timeout=60)
        watch = harness.await_watch(group="g")
        harness.event(watch, "joined", n=1)
        pending.cancel()
        with pytest.raises(HarnessError, match="cancelled"):
            pending.result()
        harness.call("echo")
        assert watch not in harness.watches
