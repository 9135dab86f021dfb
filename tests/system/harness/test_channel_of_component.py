"""What a component says and hears on its channel, well-behaved and hostile, in both codecs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.base.limits import FRAME_BYTES_MAX
from paas.harness import limits
from paas.rpc.envelope import Form

FORMS = [Form.JSON, Form.MSGPACK]


@pytest.mark.parametrize("form", FORMS)
def test_ready_then_invoked_in_the_codec_of_the_first_byte(play: Any, hub: Any, form: Form) -> None:
    _, component = play(form)
    component.ready()
    answers = hub.ask(
        "component.invoke", {"operation": "sum", "inputs": {"a": [1, 2]}, "from": "x"}
    )
    asked = component.asked("component.invoke")
    assert asked["params"]["operation"] == "sum"
    assert asked["params"]["inputs"] == {"a": [1, 2]}
    assert asked["params"]["from"] == "x"
    component.send({"id": asked["id"], "result": {"outputs": {"sum": 3}}})
    hub.until(lambda: answers)
    assert answers == [{"outputs": {"sum": 3}}]


@pytest.mark.parametrize("form", FORMS)
def test_messages_may_arrive_byte_by_byte(play: Any, hub: Any, form: Form) -> None:
    _, component = play(form)
    message = {"jsonrpc": "2.0", "id": 1, "method": "component.ready", "params": {}}
    component.send_bytes(component.encode(message), piece=1)
    assert component.answer(1)["result"] == {}
    hub.phase("available")


@pytest.mark.parametrize("form", FORMS)
def test_configuration_comes_before_anything_else(play: Any, hub: Any, form: Form) -> None:
    _, component = play(form, configuration={"color": "red"})
    component.send({"id": 1, "method": "component.ready"})
    assert component.answer(1)["result"] == {}
    assert component.requests[0]["method"] == "component.configure"
    assert component.requests[0]["params"] == {"configuration": {"color": "red"}}


def test_an_empty_line_is_enough_to_be_configured(play: Any, hub: Any) -> None:
    _, component = play()
    component.send_bytes(b"\n")
    assert component.asked("component.configure")["params"] == {"configuration": {"word": "hello"}}


@pytest.mark.parametrize("form", FORMS)
def test_an_attachment_is_base64_in_json_and_bytes_in_msgpack(
    play: Any, hub: Any, form: Form
) -> None:
    _, component = play(form)
    component.ready()
    given = [{"name": "a", "type": "b", "data": b"\x00\xff"}]
    answers = hub.ask("component.invoke", {"operation": "o", "attachments": given})
    asked = component.asked("component.invoke")
    wanted = "AP8=" if form is Form.JSON else b"\x00\xff"
    assert asked["params"]["attachments"][0]["data"] == wanted
    component.send({"id": asked["id"], "result": {"attachments": asked["params"]["attachments"]}})
    hub.until(lambda: answers)
    assert answers[0]["attachments"] == given


def test_an_expired_invocation_never_reaches_the_component(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    with pytest.raises(PlatformError) as caught:
        hub.call("component.invoke", {"operation": "late", "deadline": time.time() - 1})
    assert caught.value.code == "timeout"
    hub.ask("component.invoke", {"operation": "next"})
    assert component.asked("component.invoke")["params"]["operation"] == "next"


def test_no_answer_before_the_deadline_is_timeout_and_a_late_one_is_dropped(
    play: Any, hub: Any
) -> None:
    _, component = play()
    component.ready()
    answers = hub.ask("component.invoke", {"operation": "slow", "timeout": 0.1})
    asked = component.asked("component.invoke")
    hub.until(lambda: answers)
    assert answers[0].code == "timeout"
    component.send({"id": asked["id"], "result": {"outputs": {}}})
    assert component.call("log.write", {"message": "still here"})["result"] == {}
    assert len(answers) == 1


def test_a_second_answer_to_the_same_request_is_dropped(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    answers = hub.ask("component.invoke", {"operation": "o"})
    identity = component.asked("component.invoke")["id"]
    component.send(
        {"id": identity, "result": {"outputs": 1}}, {"id": identity, "result": {"outputs": 2}}
    )
    component.call("log.write", {"message": "done"})
    hub.until(lambda: answers)
    assert answers == [{"outputs": 1}]


def test_an_answer_that_is_no_object_is_a_failure_of_the_component(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    answers = hub.ask("component.invoke", {"operation": "o"})
    component.send({"id": component.asked("component.invoke")["id"], "result": 5})
    hub.until(lambda: answers)
    assert answers[0].code == "failed"


def test_an_error_of_the_component_reaches_the_caller(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    answers = hub.ask("component.invoke", {"operation": "o"})
    error = {"code": -32000, "message": "no", "data": {"code": "refused", "hint": "ask later"}}
    component.send({"id": component.asked("component.invoke")["id"], "error": error})
    hub.until(lambda: answers)
    assert (answers[0].code, answers[0].message, answers[0].hint) == ("refused", "no", "ask later")


@pytest.mark.parametrize("garbage", [b"{nonsense\n", b"[]\n", b'{"method": 5}\n', b"[[[[[[[1\n"])
def test_garbage_in_json_is_answered_and_forgiven(play: Any, hub: Any, garbage: bytes) -> None:
    _, component = play()
    component.ready()
    component.send_bytes(garbage)
    assert component.answer(None)["error"]["code"] in (-32700, -32600)
    assert component.call("log.write", {"message": "still here"})["result"] == {}


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa1a", b"\x85"])
def test_garbage_in_msgpack_is_answered_and_forgiven(play: Any, hub: Any, garbage: bytes) -> None:
    _, component = play(Form.MSGPACK)
    component.ready()
    component.send_bytes(len(garbage).to_bytes(4, "big") + garbage)
    assert component.answer(None)["error"]["code"] in (-32700, -32600)
    assert component.call("log.write", {"message": "still here"})["result"] == {}


@pytest.mark.parametrize("form", FORMS)
def test_an_oversized_frame_ends_that_connection_with_a_word(
    play: Any, hub: Any, connect: Any, form: Form
) -> None:
    running, component = play(form)
    component.ready()
    other = connect(running)
    if form is Form.JSON:
        component.send_bytes(b'{"' + b"x" * (FRAME_BYTES_MAX + 10))
    else:
        component.send_bytes((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    error = component.answer(None)["error"]
    assert error["data"]["code"] == "limit-exceeded"
    component.wait_closed()
    assert other.call("log.write", {"message": "other connection"})["result"] == {}


def test_half_a_frame_harms_nobody(play: Any, hub: Any) -> None:
    running, component = play(Form.MSGPACK)
    component.ready()
    component.send_bytes(b"\x00\x00\x10\x00only the beginning")
    component.socket.close()
    assert hub.phase("unavailable").reason == "the component closed its connection"
    hub.call("harness.stop", {"grace_s": 1})
    assert running.wait()["reason"] == "destroyed"


def test_a_component_that_never_reads_is_refused_not_buffered(play: Any, hub: Any) -> None:
    running, component = play()
    component.ready()
    before_kb = running.resident_kb()
    large = {"operation": "o", "inputs": {"x": "y" * (1 << 20)}}
    answers: list[Any] = []
    for _ in range(3 * limits.CHANNEL_OUTBOX_BYTES_MAX // (1 << 20)):
        answers = hub.ask("component.invoke", large)
    hub.until(lambda: answers)
    assert answers[0].code == "limit-exceeded"
    assert running.resident_kb() - before_kb < 64 << 10


def test_requests_of_a_component_that_never_reads_are_not_read_for_ever(
    play: Any, hub: Any
) -> None:
    _, component = play()
    component.ready()
    component.socket.setblocking(False)
    line = component.encode({"jsonrpc": "2.0", "id": 1, "method": "no.such", "params": {}}) * 1_000
    sent = 0
    blocked = 0
    while blocked < 50 and sent < 64 << 20:
        try:
            sent += component.socket.send(line)
        except BlockingIOError:
            blocked += 1
            time.sleep(0.005)
    assert sent < 64 << 20


def test_relayed_requests_keep_their_ids_apart(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    component.send(
        {"id": "first", "method": "hub.members", "params": {"group": "a"}},
        {"id": 2.5, "method": "hub.members", "params": {"group": "b"}},
    )
    first, second = hub.request("hub.members"), hub.request("hub.members")
    hub.reply(second, {"members": []})
    hub.fail(first, "no-such-target", "no group a")
    assert component.answer(2.5)["result"] == {"members": []}
    assert component.answer("first")["error"]["data"]["code"] == "no-such-target"


def test_a_method_that_is_not_relayed_does_not_exist(play: Any, hub: Any) -> None:
    _, component = play()
    for method in ("harness.stop", "component.invoke", "cluster.status", "nonsense"):
        assert component.call(method)["error"]["code"] == -32601
    assert hub.requests == []


def test_more_outstanding_requests_than_allowed_are_refused(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    count = limits.REQUESTS_MAX + 5
    component.send(
        *({"id": n, "method": "hub.groups", "params": {}} for n in range(1_000, 1_000 + count))
    )
    error = component.answer(1_000 + count - 1)["error"]
    assert error["data"]["code"] == "limit-exceeded"
    hub.reply(hub.request("hub.groups"), {"groups": {}})
    assert component.answer(1_000)["result"] == {"groups": {}}


def test_more_connections_than_allowed_are_closed(play: Any, hub: Any, connect: Any) -> None:
    running, component = play()
    component.ready()
    # The component's descriptor 3 is one of them.
    others = [connect(running) for _ in range(limits.CHANNELS_MAX - 2)]
    for other in others:
        other.call("log.write", {"message": "hello"})
    connect(running).wait_closed()


def test_a_component_that_comes_back_on_another_connection_is_available_again(
    play: Any, hub: Any, connect: Any
) -> None:
    running, component = play()
    component.ready()
    answers = hub.ask("component.invoke", {"operation": "o"})
    component.asked("component.invoke")
    component.socket.close()
    hub.until(lambda: answers)
    assert answers[0].code == "unknown-outcome"
    hub.phase("unavailable")
    hub.phases.clear()
    again = connect(running, Form.MSGPACK)
    again.ready()
    answers = hub.ask("component.invoke", {"operation": "o"})
    again.send({"id": again.asked("component.invoke")["id"], "result": {"outputs": {}}})
    hub.until(lambda: answers)
    assert answers == [{"outputs": {}}]


def test_unavailable_components_are_not_asked(play: Any, hub: Any) -> None:
    _, component = play()
    error = component.call("component.unavailable", {"reason": "early"})["error"]
    assert error["data"]["code"] == "conflict"
    component.ready()
    component.call("component.unavailable", {"reason": "warming up"})
    assert hub.phase("unavailable").reason == "warming up"
    with pytest.raises(PlatformError) as caught:
        hub.call("component.invoke", {"operation": "o"})
    assert (caught.value.code, caught.value.data["reason"]) == ("not-available", "warming up")
    hub.phases.clear()
    component.call("component.available")
    hub.phase("available")


def test_a_cast_is_a_notification_to_the_component(play: Any, hub: Any) -> None:
    _, component = play()
    component.ready()
    hub.notify("component.invoke", {"operation": "note", "oneway": True, "inputs": {}})
    asked = component.asked("component.invoke")
    assert asked["params"]["oneway"] is True
    assert "id" not in asked


def test_log_write_becomes_a_record_of_stream_log(play: Any, hub: Any) -> None:
    _, component = play()
    params = {"message": "hello", "level": "error", "fields": {"a": 1}}
    component.send({"method": "log.write", "params": params})
    record = hub.message("hello")
    assert (record.stream, record.level, record.fields) == ("log", "error", {"a": 1})
