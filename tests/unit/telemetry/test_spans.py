"""Spans: measured, kept within bounds, and told in the form of OpenTelemetry."""

from __future__ import annotations

from typing import Any

from paas.telemetry.limits import SPAN_NAME_LENGTH_MAX
from paas.telemetry.spans import Kind, OpenSpan, Span, SpanIds, SpanRing, otlp
from paas.telemetry.traceparent import TraceContext

CONTEXT = TraceContext("ab" * 16, "cd" * 8, True)


def made(number: int = 1, kind: Kind = "hub", **more: Any) -> Span:
    fields: dict[str, Any] = {
        "trace": "ab" * 16,
        "span": f"{number:016x}",
        "parent": "",
        "name": "n",
        "kind": kind,
        "start_ns": 1_000 + number,
        "duration_ns": 5,
    }
    return Span(**{**fields, **more})


def test_a_span_lasts_from_its_beginning_to_its_first_end() -> None:
    now, done = [100], list[Span]()
    span = OpenSpan(CONTEXT, "", "n" * 500, "hub", now_ns=lambda: now[0], record=done.append)
    now[0] = 130
    span.end("timeout")
    now[0] = 190
    span.end()
    (kept,) = done
    assert (kept.start_ns, kept.duration_ns, kept.error) == (100, 30, "timeout")
    assert len(kept.name) == SPAN_NAME_LENGTH_MAX


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    now, done = [100], list[Span]()
    span = OpenSpan(CONTEXT, "", "n", "hub", now_ns=lambda: now[0], record=done.append)
    now[0] = 40
    span.end()
    assert done[0].duration_ns == 0


def test_the_ring_forgets_the_oldest() -> None:
    ring = SpanRing(3)
    for number in range(5):
        ring.add(made(number))
    ring.add(made(9, trace="ee" * 16))
    assert [span.span for span in ring.of("ab" * 16)] == [f"{n:016x}" for n in (3, 4)]
    assert (len(ring), ring.recorded) == (3, 6)


def test_identifiers_do_not_repeat_and_depend_on_the_seed() -> None:
    ids, others = SpanIds(b"a"), SpanIds(b"b")
    drawn = [ids.span() for _ in range(500)] + [others.span() for _ in range(500)]
    assert len(set(drawn)) == 1_000
    assert {len(one) for one in drawn} == {16}
    assert len(ids.trace()) == 32


def test_otlp_groups_by_node_and_kind_and_keeps_every_fact() -> None:
    spans = [
        made(1, "client", node="n1", component="aa" * 20),
        made(2, "hub", node="n1", parent=f"{1:016x}", error="timeout"),
        made(3, "hub", node="n2", parent=f"{2:016x}"),
    ]
    told = otlp(spans)["resourceSpans"]
    assert len(told) == 3
    names = [
        {a["key"]: a["value"]["stringValue"] for a in r["resource"]["attributes"]} for r in told
    ]
    assert names[1] == {"service.name": "paas.hub", "host.name": "n1"}
    first, second, third = (r["scopeSpans"][0]["spans"][0] for r in told)
    assert first["kind"] == 3
    assert "parentSpanId" not in first
    assert second["parentSpanId"] == first["spanId"]
    assert second["status"] == {"code": 2, "message": "timeout"}
    assert third["status"] == {}
    assert (third["startTimeUnixNano"], third["endTimeUnixNano"]) == ("1003", "1008")
