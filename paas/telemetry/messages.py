"""Messages about traces.  Numbers 610-619."""

from __future__ import annotations

from paas.telemetry.spans import Span
from paas.wire.registry import Message, Params, method


class QueryTrace(Params, frozen=True, kw_only=True):
    """The spans of a trace that hubs still have, in the order in which they began.

    `id` is 32 hex digits, or a whole traceparent; without it, the trace that this request says it
    belongs to is meant.
    """

    id: str = ""


class Spans(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Spans of a trace.  `missing`: nodes that did not answer."""

    spans: list[Span]
    missing: list[str] = []


class OwnSpans(Params, frozen=True, kw_only=True):
    """From hub to hub: the spans of a trace that this hub has."""

    id: str


QUERY = method(610, "trace.query", QueryTrace, Spans)
SPANS = method(611, "trace.spans", OwnSpans, Spans, public=False)
