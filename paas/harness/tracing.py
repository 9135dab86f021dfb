"""Spans of the harness: what its component asks of others, and what others ask of it.

    component ──hub.call──> [ client ] ──> hub        the component's trace, or the one it was given
    hub ──invoke──> [ harness [ component ] ]         component: from the hand-over to its answer

Only requests whose trace is sampled come here.  The `trace` member of their params is replaced by
that of the span, so that the next hop is below it; all other members stay the bytes that they are.
A finished span is reported at once, before the answer leaves on the same connection: who has an
answer finds its spans at the hub.  Without a hub they are lost, as all that is only informative.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from paas.base.errors import PlatformError
from paas.harness.messages import SPANS, ReportSpans
from paas.rpc.connection import Answer
from paas.telemetry.spans import Kind, OpenSpan, Span, SpanIds
from paas.telemetry.traceparent import TraceContext, parse
from paas.wire import codec

_members = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


class _Wanted(msgspec.Struct):
    """What a request is about, for the name of its span."""

    target: str = ""
    operation: str = ""


_wanted = msgspec.msgpack.Decoder(_Wanted)


class Tracing:
    """`now_ns` is wall time; `notify` tells the hub."""

    def __init__(
        self, seed: bytes, now_ns: Callable[[], int], notify: Callable[[str, bytes], None]
    ) -> None:
        self.now_ns = now_ns
        self._ids = SpanIds(seed)
        self._notify = notify

    def asked(self, trace: str, method: str, params: bytes, answer: Answer) -> tuple[bytes, Answer]:
        """The component asks something of the hub."""
        context = parse(trace)
        if context is None or not context.sampled:
            return params, answer
        span = self._open(context, f"{method} {_about(params)}", "client")

        def ended(value: bytes | PlatformError) -> None:
            span.end(_code(value))
            self._report(finished)
            answer(value)

        finished = span.finished
        return _with_trace(params, span.context), ended

    def invoked(self, trace: str, params: bytes, answer: Answer | None) -> tuple[bytes, Answer]:
        """The component is asked something; without `answer` nobody waits for what it says."""
        context = parse(trace)
        if context is None or not context.sampled:
            return params, answer or _nobody
        about = _about(params)
        harness = self._open(context, f"component.invoke {about}", "harness")
        if answer is None:
            harness.end()
            self._report(harness.finished)
            return _with_trace(params, harness.context), _nobody
        component = self._open(harness.context, about, "component")
        waiting = answer

        def ended(value: bytes | PlatformError) -> None:
            code = _code(value)
            component.end(code)
            harness.end(code)
            self._report([*component.finished, *harness.finished])
            waiting(value)

        return _with_trace(params, component.context), ended

    def _open(self, context: TraceContext, name: str, kind: Kind) -> _Finished:
        return _Finished(context.child(self._ids.span()), context.span, name, kind, self.now_ns)

    def _report(self, spans: list[Span]) -> None:
        self._notify(SPANS.name, codec.pack(ReportSpans(spans=spans)))


class _Finished(OpenSpan):
    """A span that keeps itself."""

    __slots__ = ("finished",)

    def __init__(
        self,
        context: TraceContext,
        parent: str,
        name: str,
        kind: Kind,
        now_ns: Callable[[], int],
    ) -> None:
        self.finished: list[Span] = []
        super().__init__(context, parent, name, kind, now_ns=now_ns, record=self.finished.append)


def _nobody(_value: bytes | PlatformError) -> None:
    """Nobody waits."""


def _code(value: bytes | PlatformError) -> str:
    return value.code if isinstance(value, PlatformError) else ""


def _about(params: bytes) -> str:
    try:
        wanted = _wanted.decode(params)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f"{wanted.target} {wanted.operation}".strip()


def _with_trace(params: bytes, context: TraceContext) -> bytes:
    members = _members.decode(params)
    members["trace"] = msgspec.Raw(codec.pack(context.text()))
    return codec.pack(members)
