"""Spans: which hop worked on a request, from when, for how long, with what end.

    trace ─┬─ client     who asked: the caller's harness, or a command
           └─ hub        the caller's hub, from the request to the answer
               └─ forward    the way to another node's hub
                   └─ hub        that hub
                       └─ harness    the called component's harness
                           └─ component    the component itself

A process measures with its own clock, wall time in nanoseconds; only spans of sampled traces are
made at all.  They are kept in a ring of bounded size, the oldest go first: a trace is something to
look at soon.  `otlp` gives them in the form that collectors of OpenTelemetry take (OTLP 1.x, JSON
encoding: identifiers in hex, times as decimal text).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

from paas.telemetry.limits import SPAN_NAME_LENGTH_MAX, SPANS_MAX
from paas.telemetry.traceparent import TraceContext
from paas.wire.registry import Message

Kind = Literal["client", "hub", "forward", "harness", "component"]


class Span(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One hop of a request.  `parent` is empty for the first; `error` for one that went well."""

    trace: str
    span: str
    parent: str
    name: str
    kind: Kind
    node: str = ""
    component: str = ""
    start_ns: int
    duration_ns: int
    error: str = ""


class SpanIds:
    """Identifiers that do not repeat: a hash of a seed, which nobody else has, and a count."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed[:64]
        self._count = 0

    def span(self) -> str:
        return self._draw(8)

    def trace(self) -> str:
        return self._draw(16)

    def _draw(self, size: int) -> str:
        self._count += 1
        count = self._count.to_bytes(8, "big")
        drawn = hashlib.blake2b(count, digest_size=size, key=self._seed).hexdigest()
        return drawn if drawn.strip("0") else self._draw(size)


class OpenSpan:
    """A span that goes on.  `record` gets it when it ends, once."""

    __slots__ = ("_ended", "_now_ns", "_record", "context", "span")

    def __init__(
        self,
        context: TraceContext,
        parent: str,
        name: str,
        kind: Kind,
        *,
        now_ns: Callable[[], int],
        record: Callable[[Span], None],
        node: str = "",
        component: str = "",
    ) -> None:
        self.context = context
        self._now_ns = now_ns
        self._record = record
        self._ended = False
        self.span = Span(
            trace=context.trace,
            span=context.span,
            parent=parent,
            name=name[:SPAN_NAME_LENGTH_MAX],
            kind=kind,
            node=node,
            component=component,
            start_ns=now_ns(),
            duration_ns=0,
        )

    def end(self, error: str = "") -> None:
        """It is over; `error` is a code of the catalogue.  Nothing the second time."""
        if self._ended:
            return
        self._ended = True
        begun = self.span
        self._record(
            Span(
                trace=begun.trace,
                span=begun.span,
                parent=begun.parent,
                name=begun.name,
                kind=begun.kind,
                node=begun.node,
                component=begun.component,
                start_ns=begun.start_ns,
                duration_ns=max(0, self._now_ns() - begun.start_ns),
                error=error,
            )
        )


class SpanRing:
    """The last spans of one process."""

    def __init__(self, spans_max: int = SPANS_MAX) -> None:
        self._spans: deque[Span] = deque(maxlen=spans_max)
        self.recorded = 0

    def add(self, span: Span) -> None:
        self.recorded += 1
        self._spans.append(span)

    def of(self, trace: str) -> list[Span]:
        """Those of a trace that are still there, in the order in which they ended."""
        return [span for span in self._spans if span.trace == trace]

    def __len__(self) -> int:
        return len(self._spans)


_OTLP_KINDS = {"client": 3, "forward": 3, "hub": 2, "component": 2, "harness": 1}
"""SPAN_KIND_CLIENT, _SERVER, _INTERNAL of opentelemetry/proto/trace/v1/trace.proto."""

_OTLP_ERROR = 2


def otlp(spans: Iterable[Span]) -> dict[str, Any]:
    """The spans as an OTLP `TracesData`: a resource a node and kind."""
    resources: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for span in spans:
        resources.setdefault((span.node, span.kind), []).append(_otlp_span(span))
    return {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [
                        _attribute("service.name", f"paas.{kind}"),
                        _attribute("host.name", node),
                    ]
                },
                "scopeSpans": [{"scope": {"name": "paas"}, "spans": told}],
            }
            for (node, kind), told in resources.items()
        ]
    }


def _otlp_span(span: Span) -> dict[str, Any]:
    told: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.span,
        "name": span.name,
        "kind": _OTLP_KINDS[span.kind],
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.start_ns + span.duration_ns),
        "attributes": [_attribute("paas.hop", span.kind)],
        "status": {},
    }
    if span.parent:
        told["parentSpanId"] = span.parent
    if span.component:
        told["attributes"].append(_attribute("paas.component", span.component))
    if span.error:
        told["status"] = {"code": _OTLP_ERROR, "message": span.error}
    return told


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}
