"""`paas trace`: where the time of a call went (io).

A command is the first hop of what it causes and knows its own times, which no hub does: `trace
call` puts them on top.  `trace show` shows what hubs have; spans whose parent is not among them
begin trees of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from paas.base.errors import PlatformError
from paas.cli import inputs as typed

if TYPE_CHECKING:
    from paas.cli.session import Session

NS_PER_MS = 1e6
Span = dict[str, Any]


def call(
    session: Session,
    *,
    target: str,
    operation: str,
    inputs: tuple[str, ...],
    selector: str,
    object_: str,
    timeout: float | None,
) -> None:
    """Print the tree; with -o json also what was answered."""
    params: dict[str, Any] = {
        "target": session.target(target),
        "operation": operation,
        "inputs": typed.read(inputs),
        "selector": selector,
    }
    if object_:
        params["object"] = object_
    session.connection()  # so that its time is not the call's
    start_ns = time.time_ns()
    answer: dict[str, Any] = {}
    failed: PlatformError | None = None
    try:
        answer = session.change("hub.call", params, timeout_s=timeout)
    except PlatformError as exc:
        failed = exc
    first = {
        "trace": session.trace,
        "span": session.traceparent.split("-")[2],
        "parent": "",
        "name": f"paas trace call {target} {operation}",
        "kind": "client",
        "node": "",
        "component": "",
        "start_ns": start_ns,
        "duration_ns": time.time_ns() - start_ns,
        "error": "" if failed is None else failed.code,
    }
    found = _query(session, session.trace)
    spans = [first, *found["spans"]]
    outputs = {k: v for k, v in answer.items() if k in ("outputs", "replies", "component")}
    value = {"trace": session.trace, "spans": spans, "missing": found["missing"], **outputs}
    session.output.value(value, tree(spans), [session.trace])
    _note_missing(session, found)
    if failed is not None:
        raise failed


def show(session: Session, *, id_: str, format_: str) -> None:
    """Print the tree, or the spans as OTLP JSON."""
    found = _query(session, id_)
    if not found["spans"]:
        raise PlatformError(
            "no-such-target",
            f"no hub has spans of trace {id_}",
            hint="record one: paas trace call TARGET OPERATION",
        )
    if format_ == "otlp":
        import msgspec

        from paas.telemetry import spans

        made = [msgspec.convert(span, spans.Span) for span in found["spans"]]
        session.output.value(spans.otlp(made))
    else:
        session.output.value(found, tree(found["spans"]), [found["spans"][0]["trace"]])
    _note_missing(session, found)


def _query(session: Session, trace: str) -> dict[str, Any]:
    found: dict[str, Any] = session.call("trace.query", {"id": trace})
    return found


def _note_missing(session: Session, found: dict[str, Any]) -> None:
    if found["missing"]:
        session.output.note(f"spans of {', '.join(found['missing'])} are missing: no answer")


def tree(spans: list[Span]) -> str:
    """The spans as an indented table for people."""
    begin = min(span["start_ns"] for span in spans)
    end = max(span["start_ns"] + span["duration_ns"] for span in spans)
    nodes = ", ".join(sorted({span["node"] for span in spans if span["node"]})) or "no node"
    lines = [
        f"trace {spans[0]['trace']}: {(end - begin) / NS_PER_MS:.3f} ms,"
        f" {len(spans)} spans on {nodes}",
        f"{'at ms':>9} {'took':>9} {'self':>9}",
    ]
    for depth, span, below in walk(spans):
        at, took = span["start_ns"] - begin, span["duration_ns"]
        times = " ".join(f"{ns / NS_PER_MS:9.3f}" for ns in (at, took, own_ns(span, below)))
        where = " ".join(word for word in (span["node"], span["component"][:8]) if word)
        error = f"  error: {span['error']}" if span["error"] else ""
        what = f"{'  ' * depth}{span['kind']}: {span['name']}"
        lines.append(f"{times}  {what}  {where}{error}".rstrip())
    return "\n".join(lines)


def walk(spans: list[Span]) -> Iterator[tuple[int, Span, list[Span]]]:
    """Depth, span, and what is below it; in the order of a tree, the earlier first."""
    known = {span["span"] for span in spans}
    below: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span["start_ns"]):
        parent = span["parent"] if span["parent"] in known else ""
        below.setdefault("" if span["span"] == parent else parent, []).append(span)
    first = ""
    while below:
        waiting = [(0, span) for span in reversed(below.pop(first, []))]
        while waiting:
            depth, span = waiting.pop()
            children = below.pop(span["span"], [])
            yield depth, span, children
            waiting += [(depth + 1, child) for child in reversed(children)]
        first = next(iter(below), "")  # spans that name each other as parents


def own_ns(span: Span, below: list[Span]) -> int:
    """The part of a span's time in which nothing below it went on."""
    own = int(span["duration_ns"])
    until = int(span["start_ns"])
    end = until + own
    for child in sorted(below, key=lambda child: child["start_ns"]):
        first = max(until, child["start_ns"])
        last = min(end, child["start_ns"] + child["duration_ns"])
        if last > first:
            own -= last - first
            until = last
    return own
