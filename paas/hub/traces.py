"""Traces at the hub: a span for every sampled call that passes, and all spans of a trace on demand.

    hub.call ──> hop() ──> router ──> onward() ──> hub of another node ──> hop() ──> …
                  │ span "hub"          │ span "forward"
                  └─────── ring <───────┴──────── harness.spans of this node's harnesses

A call without a trace begins one only when roots are sampled (`rate`, 0 by default); a call whose
`traceparent` cannot be read begins a trace of its own; one that is not sampled is passed on as it
is.  So whoever is not traced pays for two comparisons.  Whether a root is sampled is decided by its
identifier, so that every hub would decide alike.

`trace.query` asks every hub that can be reached until each has answered or is late.  Spans are
informative: they live in memory, and those of a node that is lost are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.harness.messages import SPANS as HARNESS_SPANS
from paas.harness.messages import ReportSpans
from paas.hub.messages import Forward
from paas.hub.routes import Answer, Far, Links, NoLinks, Route
from paas.rpc.dispatch import Context, Dispatcher
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer
from paas.telemetry import messages
from paas.telemetry.limits import (
    SPAN_NAME_LENGTH_MAX,
    SPANS_ANSWERED_MAX,
    SPANS_REPORTED_MAX,
)
from paas.telemetry.spans import OpenSpan, Span, SpanIds, SpanRing
from paas.telemetry.traceparent import TraceContext, parse
from paas.wire import codec
from paas.wire.registry import Message, Nothing, Params, decode

QUERY_TIMEOUT_S = 2.0
"""A hub that has not sent its spans by then is named as missing."""

_SAMPLE_DIGITS = 14
_SAMPLE_RANGE = float(16**_SAMPLE_DIGITS)

P = TypeVar("P", bound=Params)
Handler = Callable[[Peer, Request, P, float], None]


class Caller(Protocol):
    """What handlers of the router do with the peer that asked."""

    info: dict[str, Any]

    def reply(self, request: Request, result: Message | bytes | None = None) -> None: ...

    def fail(self, request: Request, error: PlatformError) -> None: ...


class _Traced:
    """A peer whose answer ends a span."""

    def __init__(self, peer: Peer, span: OpenSpan) -> None:
        self.info = peer.info
        self._peer = peer
        self._span = span

    def reply(self, request: Request, result: Message | bytes | None = None) -> None:
        self._span.end()
        self._peer.reply(request, result)

    def fail(self, request: Request, error: PlatformError) -> None:
        self._span.end(error.code)
        self._peer.fail(request, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peer, name)


class Traces:
    """See the module's text.  `now_ns` is wall time; `seed` is secret or at least unique."""

    def __init__(
        self,
        *,
        node: str,
        now_ns: Callable[[], int],
        seed: bytes,
        links: Links | None = None,
        rate: float = 0.0,
    ) -> None:
        if not 0 <= rate <= 1:
            raise invalid("trace_rate", "expected a number from 0 to 1")
        self.rate = rate
        self.ring = SpanRing()
        self._node = node
        self._now_ns = now_ns
        self._ids = SpanIds(seed)
        self._links = links or NoLinks()

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.raw(messages.QUERY, self.query)
        dispatcher.plain(messages.SPANS, self.own)
        dispatcher.plain(HARNESS_SPANS, self.report)

    # -- on the way of a call --------------------------------------------------------------------

    def hop(
        self, handler: Handler[P], peer: Peer, request: Request, params: P, timeout_s: float
    ) -> None:
        """Let `handler` do the request as a hop of its trace."""
        text, span = self.enter(params.trace, f"{request.method} {_wanted(params)}")
        if text != params.trace:
            params = msgspec.structs.replace(params, trace=text)
        if span is None:
            handler(peer, request, params, timeout_s)
            return
        try:
            # The router only looks at `info` and answers: Caller says what that is.
            handler(cast(Peer, _Traced(peer, span)), request, params, timeout_s)
        except PlatformError as exc:
            span.end(exc.code)
            raise
        if request.notification:
            span.end()

    def enter(self, text: str | None, name: str) -> tuple[str | None, OpenSpan | None]:
        """What to say to the next hop; and this hop's span, if there is one."""
        context = None if text is None else parse(text)
        if context is None:
            context = self._root()
            if text is None and not context.sampled:
                return None, None
        if not context.sampled:
            return context.text(), None
        span = self._open(context, name, "hub")
        return span.context.text(), span

    def _root(self) -> TraceContext:
        """A new trace.  Who comes after it is below a span that nobody has recorded."""
        trace = self._ids.trace()
        sampled = int(trace[-_SAMPLE_DIGITS:], 16) < self.rate * _SAMPLE_RANGE
        return TraceContext(trace, "" if sampled else self._ids.span(), sampled)

    def onward(self, route: Route, message: Forward, answer: Answer) -> tuple[Forward, Answer]:
        """The way to another node is a hop of its own."""
        context = None if message.trace is None else parse(message.trace)
        if context is None or not context.sampled or not isinstance(route, Far):
            return message, answer
        span = self._open(context, f"to {route.node}", "forward")

        def ended(value: bytes | PlatformError) -> None:
            span.end(value.code if isinstance(value, PlatformError) else "")
            answer(value)

        return msgspec.structs.replace(message, trace=span.context.text()), ended

    def _open(self, context: TraceContext, name: str, kind: Any) -> OpenSpan:
        return OpenSpan(
            context.child(self._ids.span()),
            context.span,
            name,
            kind,
            now_ns=self._now_ns,
            record=self.ring.add,
            node=self._node,
        )

    # -- what others say and ask -----------------------------------------------------------------

    def report(self, params: ReportSpans, context: Context) -> Nothing:
        """A harness tells its spans, and which component they are of is known here."""
        component = context.peer.info.get("component")
        if not isinstance(component, str):
            raise PlatformError("denied", "only a harness that has said hello reports spans")
        for span in params.spans[:SPANS_REPORTED_MAX]:
            if _plausible(span):
                self.ring.add(msgspec.structs.replace(span, node=self._node, component=component))
        return Nothing()

    def own(self, params: messages.OwnSpans, _context: Context) -> messages.Spans:
        return messages.Spans(spans=self.ring.of(params.id)[:SPANS_ANSWERED_MAX])

    def query(self, peer: Peer, request: Request) -> None:
        """Handler of `trace.query`."""
        params = decode(request.params, messages.QueryTrace)
        trace = _trace_id(params)
        found = self.ring.of(trace)
        missing: list[str] = []
        waiting = dict.fromkeys(self._links.connected())
        if not waiting:
            peer.reply(request, _told(found, missing))
            return

        def answer(value: bytes | PlatformError, node: str) -> None:
            del waiting[node]
            try:
                if isinstance(value, PlatformError):
                    raise value
                found.extend(decode(value, messages.Spans).spans)
            except PlatformError:
                missing.append(node)
            if not waiting:
                peer.reply(request, _told(found, missing))

        body = codec.pack(messages.OwnSpans(id=trace))
        for node in list(waiting):
            far, heard = self._links.peer(node), partial(answer, node=node)
            if far is None:
                heard(PlatformError("not-available"))
            else:
                name = messages.SPANS.name
                far.send_request(name, body, heard, timeout_s=QUERY_TIMEOUT_S)

    def statistics(self) -> dict[str, Any]:
        return {"spans": len(self.ring), "recorded": self.ring.recorded}


def _told(found: list[Span], missing: list[str]) -> messages.Spans:
    found.sort(key=lambda span: span.start_ns)
    return messages.Spans(spans=found[:SPANS_ANSWERED_MAX], missing=sorted(missing))


def _wanted(params: Params) -> str:
    """What was asked for, of whom: for people."""
    target = getattr(params, "target", "")
    return f"{target} {getattr(params, 'operation', '')}".strip()


def _trace_id(params: messages.QueryTrace) -> str:
    given = params.id or params.trace or ""
    context = parse(given)
    trace = given if context is None else context.trace
    if not _hex(trace, 32):
        raise invalid("id", "expected a trace: 32 hex digits, or a traceparent", param="id")
    return trace


def _plausible(span: Span) -> bool:
    """Is this of the size that spans have?  What comes from a container is not believed."""
    return (
        _hex(span.trace, 32)
        and _hex(span.span, 16)
        and (not span.parent or _hex(span.parent, 16))
        and len(span.name) <= SPAN_NAME_LENGTH_MAX
        and len(span.error) <= SPAN_NAME_LENGTH_MAX
        and 0 <= span.duration_ns < 1 << 63
        and 0 <= span.start_ns < 1 << 63
    )


def _hex(text: str, digits: int) -> bool:
    return len(text) == digits and all(c in "0123456789abcdef" for c in text)
