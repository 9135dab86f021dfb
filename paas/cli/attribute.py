"""`paas attribute get` and `paas attribute set` (io)."""

from __future__ import annotations

from typing import Any

from paas.base.errors import PlatformError
from paas.cli import inputs as typed
from paas.cli.session import Session


def get(
    session: Session,
    *,
    target: str,
    names: tuple[str, ...],
    object_: str,
    kind: str | None,
    aggregate: str | None,
    watch: bool,
    count: int,
    timeout: float | None,
) -> None:
    """Print them; with `watch`, also every change that follows."""
    wanted: dict[str, Any] = {"target": session.target(target)}
    if names:
        wanted["names"] = list(names)
    if object_:
        wanted["object"] = object_
    if kind:
        wanted["kind"] = kind
    if watch:
        _watch(session, wanted, count, timeout)
        return
    if aggregate:
        wanted["aggregate"] = aggregate
    found = session.call("hub.get_attributes", wanted, timeout_s=timeout)
    for component, reason in found.get("missing", {}).items():
        session.output.note(f"volatile attributes of {component[:8]} are missing: {reason}")
    shown = found.get("aggregates", found.get("members", found.get("attributes", {})))
    session.output.value(shown, None, list(shown))


def _watch(session: Session, wanted: dict[str, Any], count: int, timeout: float | None) -> None:
    found = session.call("hub.watch", {"attributes": wanted})
    session.output.record(found["snapshot"], session.output.json(found["snapshot"]))
    seen = 0
    for event in session.connection().notifications(timeout):
        if event.get("watch") != found["watch"]:
            continue
        session.output.record(event, _line(session, event))
        seen += 1
        if count and seen == count:
            return


def _line(session: Session, event: dict[str, Any]) -> str:
    words = [event["event"], str(event.get("component", ""))[:8], event.get("kind", "")]
    if "attributes" in event:
        words.append(session.output.json(event["attributes"]))
    elif "data" in event:
        words.append(session.output.json(event["data"].get("snapshot")))
    return " ".join(word for word in words if word)


def set_(
    session: Session,
    *,
    target: str,
    attributes: tuple[str, ...],
    object_: str,
    kind: str,
    expect: tuple[str, ...],
    ttl: float | None,
    request_id: str | None,
    timeout: float | None,
) -> None:
    """Print the log index of the change."""
    if target.startswith("group:"):
        raise PlatformError("invalid", "target: attributes are set of one component at a time")
    params: dict[str, Any] = {
        "target": session.target(target),
        "attributes": typed.read(attributes),
        "kind": kind,
    }
    if object_:
        params["object"] = object_
    if expect:
        params["expect"] = typed.read_pairs(expect, "expect")
    if ttl is not None:
        params["ttl"] = ttl
    result = session.change("hub.set_attributes", params, request_id=request_id, timeout_s=timeout)
    names = list(params["attributes"])
    session.output.value(result, f"set {', '.join(names)} of {target}", names)
