"""Spans that a harness measures, and what it does to the trace of what passes."""

from __future__ import annotations

from typing import Any

import pytest

from paas.harness.messages import ReportSpans
from paas.telemetry.spans import Span
from paas.telemetry.traceparent import parse
from paas.wire import codec
from paas.wire.registry import decode
from tests.unit.harness.test_session import WALL_S, Stage

TRACE, PARENT = "ab" * 16, "cd" * 8
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.ready()
    return made


def reported(stage: Stage) -> list[Span]:
    spans: list[Span] = []
    for request in stage.requests:
        if request.method == "harness.spans":
            assert request.notification
            spans += decode(request.params, ReportSpans).spans
    return spans


def test_an_invocation_is_a_span_of_the_harness_and_one_of_the_component(stage: Stage) -> None:
    answers = stage.ask("component.invoke", operation="o", trace=SAMPLED, inputs={"a": [1, "ü"]})
    asked = stage.asked("component.invoke")
    assert asked["params"]["inputs"] == {"a": [1, "ü"]}
    stage.at(0.5)
    stage.speak({"id": asked["id"], "result": {"outputs": {}}})
    component, harness = reported(stage)
    assert len(answers) == 1
    assert (harness.kind, harness.parent, harness.trace) == ("harness", PARENT, TRACE)
    assert (component.kind, component.parent, component.name) == ("component", harness.span, "o")
    inner = parse(asked["params"]["trace"])
    assert inner is not None
    assert (inner.span, inner.sampled) == (component.span, True)
    assert component.duration_ns == pytest.approx(5e8, rel=1e-3)
    assert harness.start_ns == pytest.approx(WALL_S * 1e9)


def test_what_the_component_asks_is_a_client_span_above_the_hubs(stage: Stage) -> None:
    params = {"target": "x", "operation": "get", "inputs": {"k": 1}, "trace": SAMPLED}
    stage.speak({"id": 7, "method": "hub.call", "params": params})
    (request,) = stage.requests
    sent = codec.unpack(request.params)
    onward = parse(sent.pop("trace"))
    assert onward is not None
    assert sent == {key: value for key, value in params.items() if key != "trace"}
    stage.at(0.25)
    stage.say(stage.hub.reply(request, codec.pack({})))
    (client,) = reported(stage)
    assert (client.kind, client.parent, client.span) == ("client", PARENT, onward.span)
    assert client.name == "hub.call x get"
    assert client.duration_ns == pytest.approx(2.5e8, rel=1e-3)


@pytest.mark.parametrize("trace", [UNSAMPLED, "nonsense", ""])
def test_what_is_not_sampled_passes_unchanged_and_unrecorded(stage: Stage, trace: str) -> None:
    stage.ask("component.invoke", operation="o", trace=trace)
    asked = stage.asked("component.invoke")
    assert asked["params"]["trace"] == trace
    stage.speak({"id": asked["id"], "result": {"outputs": {}}})
    assert reported(stage) == []


@pytest.mark.parametrize(
    ("end", "error"),
    [("fails", "conflict"), ("times out", "timeout"), ("is cancelled", "cancelled")],
)
def test_a_span_says_how_it_ended(stage: Stage, end: str, error: str) -> None:
    body = codec.pack({"operation": "o", "trace": SAMPLED, "deadline": WALL_S + 1})
    identity, data = stage.hub.request("component.invoke", body, lambda _: None, 1e9)
    stage.say(data)
    asked = stage.asked("component.invoke")["id"]
    if end == "fails":
        refusal = {"code": -32000, "message": "no", "data": {"code": "conflict"}}
        stage.speak({"id": asked, "error": refusal})
    elif end == "times out":
        stage.at(1.0)
    else:
        stage.say(stage.hub.abandon(identity))
    assert [span.error for span in reported(stage)] == [error, error]


def test_a_cast_is_a_span_of_the_harness_alone(stage: Stage) -> None:
    params: dict[str, Any] = {"operation": "o", "trace": SAMPLED, "oneway": True}
    stage.say(stage.hub.notify("component.invoke", codec.pack(params)))
    (harness,) = reported(stage)
    assert harness.kind == "harness"
    inner = parse(stage.asked("component.invoke")["params"]["trace"])
    assert inner is not None
    assert inner.span == harness.span


def test_spans_arrive_before_the_answer_that_they_are_about(stage: Stage) -> None:
    order: list[str] = []
    body = codec.pack({"operation": "o", "trace": SAMPLED})
    _, data = stage.hub.request("component.invoke", body, lambda _: order.append("answer"), 1e9)
    stage.say(data)
    asked = stage.asked("component.invoke")["id"]
    line = codec.to_json({"jsonrpc": "2.0", "id": asked, "result": {"outputs": {}}}) + b"\n"
    stage.session.receive_component(stage.channel, line)
    sent = stage.session.uplink.outbox.take()
    for end in range(1, len(sent) + 1):
        order += [r.method for r in stage.hub.receive(sent[end - 1 : end])]
    assert order == ["harness.spans", "answer"]
