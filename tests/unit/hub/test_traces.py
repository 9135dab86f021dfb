"""Traces at the hub: what is recorded on the way of a call, and gathered from all hubs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio.testing

from paas.base.errors import PlatformError
from paas.harness.messages import ReportSpans
from paas.hub.messages import CALL, CAST, Cast
from paas.hub.traces import Traces
from paas.rpc.dispatch import Context
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.telemetry.limits import SPANS_REPORTED_MAX
from paas.telemetry.messages import QUERY, SPANS, OwnSpans, QueryTrace
from paas.telemetry.spans import Span
from paas.telemetry.traceparent import parse
from paas.testing.pair import pairs
from paas.wire import codec
from paas.wire.registry import decode
from tests.unit.hub.test_routes import Node, Two, call

TRACE, PARENT = "ab" * 16, "cd" * 8
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
async def two(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    """Two nodes whose hubs also answer for their traces."""
    plain = Node.on_request

    def on_request(node: Node, peer: Peer, request: Request) -> None:
        traces = node.router.traces
        if request.method == QUERY.name:
            try:
                traces.query(peer, request)
            except PlatformError as exc:
                peer.fail(request, exc)
        elif request.method == SPANS.name:
            peer.reply(request, traces.own(decode(request.params, OwnSpans), _context(peer)))
        else:
            plain(node, peer, request)

    monkeypatch.setattr(Node, "on_request", on_request)
    monkeypatch.setattr(Node, "connected", lambda node: list(node.peers), raising=False)
    async with pairs() as maker:
        made = Two(maker)
        for node in (made.a, made.b):
            node.router.traces._now_ns = time.time_ns
        yield made


def _context(peer: Peer) -> Context:
    return Context(peer, Request(None, "", b""), 1.0)


def shape(spans: list[Span]) -> list[tuple[str, str]]:
    """Kind of each span, and the kind of its parent."""
    kinds: dict[str, str] = {span.span: span.kind for span in spans}
    return [(span.kind, kinds.get(span.parent, "")) for span in spans]


async def test_a_call_on_one_node_is_one_span_of_its_hub(two: Two) -> None:
    two.a.component("c")
    await two.a.caller().call(CALL, call("c", trace=SAMPLED))
    (span,) = two.a.router.traces.ring.of(TRACE)
    assert (span.kind, span.parent, span.name, span.node) == ("hub", PARENT, "hub.call c echo", "a")
    seen = parse(two.a.seen[0].trace or "")
    assert seen is not None
    assert (seen.trace, seen.span, seen.sampled) == (TRACE, span.span, True)


async def test_a_call_to_another_node_is_a_chain_over_both(two: Two) -> None:
    two.b.component("c")
    caller = two.a.caller()
    await caller.call(CALL, call("c", trace=SAMPLED))
    found = await caller.call(QUERY, QueryTrace(id=TRACE))
    assert shape(found.spans) == [("hub", ""), ("forward", "hub"), ("hub", "forward")]
    assert [span.node for span in found.spans] == ["a", "a", "b"]
    assert found.missing == []
    outer, way, inner = found.spans
    assert outer.duration_ns >= way.duration_ns >= inner.duration_ns > 0
    assert (await caller.call(QUERY, QueryTrace(trace=SAMPLED))).spans == found.spans


async def test_every_member_of_a_group_has_its_own_way(two: Two) -> None:
    two.a.component("here")
    two.b.component("there")
    two.cluster.groups["g"] = ["here", "there"]
    caller = two.a.caller()
    await caller.call(CALL, call("group:g", selector="all", trace=SAMPLED))
    found = await caller.call(QUERY, QueryTrace(id=TRACE))
    assert sorted(span.kind for span in found.spans) == ["forward", "hub", "hub"]


async def test_a_cast_is_recorded_where_it_passes(two: Two) -> None:
    two.b.component("c")
    await two.a.caller().call(CAST, Cast(target="c", operation="o", trace=SAMPLED))
    await trio.testing.wait_all_tasks_blocked()
    assert [len(node.router.traces.ring.of(TRACE)) for node in (two.a, two.b)] == [1, 1]


async def test_what_is_not_sampled_passes_unchanged_and_unrecorded(two: Two) -> None:
    two.b.component("c")
    await two.a.caller().call(CALL, call("c", trace=UNSAMPLED))
    await two.a.caller().call(CALL, call("c"))
    assert [seen.trace for seen in two.b.seen] == [UNSAMPLED, None]
    assert len(two.a.router.traces.ring) == len(two.b.router.traces.ring) == 0


@pytest.mark.parametrize("trace", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "x" * 10_000])
async def test_a_traceparent_that_cannot_be_read_begins_a_new_trace(two: Two, trace: str) -> None:
    two.a.component("c")
    await two.a.caller().call(CALL, call("c", trace=trace))
    seen = parse(two.a.seen[0].trace or "")
    assert seen is not None
    assert not seen.sampled
    assert seen.trace not in (TRACE, "0" * 32)


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.25, 10, 90), (1.0, 200, 200)])
async def test_roots_are_sampled_at_the_rate(two: Two, rate: float, low: int, high: int) -> None:
    two.a.component("c")
    two.a.router.traces.rate = rate
    caller = two.a.caller()
    for _ in range(200):
        await caller.call(CALL, call("c"))
    ring = two.a.router.traces.ring
    assert low <= len(ring) <= high
    assert all(span.parent == "" for span in ring._spans)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_part_of_one(rate: float) -> None:
    with pytest.raises(PlatformError, match="trace_rate"):
        Traces(node="a", now_ns=lambda: 0, seed=b"s", rate=rate)


@pytest.mark.parametrize(
    ("target", "error"), [("nobody", "no-such-target"), ("group:none", "no-such-target")]
)
async def test_a_span_says_what_kept_a_call_from_being_sent(
    two: Two, target: str, error: str
) -> None:
    with pytest.raises(PlatformError):
        await two.a.caller().call(CALL, call(target, trace=SAMPLED))
    (span,) = two.a.router.traces.ring.of(TRACE)
    assert span.error == error


async def test_a_cancelled_call_ends_its_spans_on_every_node(two: Two) -> None:
    two.b.component("c", silent=True)
    caller = two.a.caller()
    identity = caller.send_request(
        CALL.name, codec.pack(call("c", trace=SAMPLED)), lambda _: None, timeout_s=9.0
    )
    await trio.testing.wait_all_tasks_blocked()
    assert identity is not None
    caller.abandon(identity)
    await trio.testing.wait_all_tasks_blocked()
    spans = (await caller.call(QUERY, QueryTrace(id=TRACE))).spans
    assert [span.error for span in spans] == ["cancelled"] * 3


async def test_a_node_that_does_not_answer_is_named(two: Two) -> None:
    two.a.component("c")
    caller = two.a.caller()
    await caller.call(CALL, call("c", trace=SAMPLED))
    two.a.peers["b"].close()
    found = await caller.call(QUERY, QueryTrace(id=TRACE))
    assert (len(found.spans), found.missing) == (1, ["b"])


@pytest.mark.parametrize("wrong", ["", "abc", "AB" * 16, "zz" * 16, f"00-{TRACE}-01"])
async def test_only_a_trace_can_be_asked_for(two: Two, wrong: str) -> None:
    with pytest.raises(PlatformError) as caught:
        await two.a.caller().call(QUERY, QueryTrace(id=wrong))
    assert caught.value.code == "invalid"


# -- what harnesses report -------------------------------------------------------------------------


def span(number: int = 1, **more: Any) -> Span:
    fields: dict[str, Any] = {
        "trace": TRACE,
        "span": f"{number:016x}",
        "parent": PARENT,
        "name": "o",
        "kind": "harness",
        "start_ns": 5,
        "duration_ns": 5,
    }
    return Span(**{**fields, **more})


async def test_a_harness_reports_for_its_own_component_only(two: Two) -> None:
    traces = two.a.router.traces
    peer = two.a.caller()
    peer.info["component"] = "ee" * 20
    traces.report(ReportSpans(spans=[span(component="ff" * 20, node="b")]), _context(peer))
    (kept,) = traces.ring.of(TRACE)
    assert (kept.component, kept.node) == ("ee" * 20, "a")
    with pytest.raises(PlatformError) as caught:
        traces.report(ReportSpans(spans=[span()]), _context(two.b.caller("x")))
    assert caught.value.code == "denied"


@pytest.mark.parametrize(
    "wrong",
    [
        {"trace": "x"},
        {"span": ""},
        {"parent": "no"},
        {"name": "n" * 10_000},
        {"error": "e" * 10_000},
        {"duration_ns": -1},
        {"start_ns": 1 << 63},
    ],
)
async def test_what_is_no_span_is_dropped(two: Two, wrong: dict[str, Any]) -> None:
    peer = two.a.caller()
    peer.info["component"] = "ee" * 20
    two.a.router.traces.report(ReportSpans(spans=[span(**wrong)]), _context(peer))
    assert len(two.a.router.traces.ring) == 0


async def test_a_report_has_so_many_spans_and_no_more(two: Two) -> None:
    peer = two.a.caller()
    peer.info["component"] = "ee" * 20
    many = ReportSpans(spans=[span(n + 1) for n in range(3 * SPANS_REPORTED_MAX)])
    two.a.router.traces.report(many, _context(peer))
    assert len(two.a.router.traces.ring) == SPANS_REPORTED_MAX
