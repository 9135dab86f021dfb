"""`paas logs`: records of a component, a group, a type, or everything (io).

The target is looked up in that order; `group:NAME` says which is meant.
"""

from __future__ import annotations

import time
from typing import Any

from paas.base.errors import PlatformError
from paas.cli import texts
from paas.cli.output import DIM, RED, YELLOW
from paas.cli.session import Session

TAIL_DEFAULT = 100
FOLLOW_TAIL_DEFAULT = 10
_COLORS = {"debug": DIM, "warning": YELLOW, "error": RED}


def logs(
    session: Session,
    *,
    target: str | None,
    follow: bool,
    since: float | None,
    tail: int | None,
    level: str,
    grep: str,
) -> None:
    params: dict[str, Any] = {"level": level, "grep": grep, **_whose(session, target)}
    if since is not None:
        params["since"] = time.time() - since
    if tail is None:
        params["limit"] = FOLLOW_TAIL_DEFAULT if follow and since is None else TAIL_DEFAULT
        if since is not None:
            del params["limit"]
    else:
        params["limit"] = tail
    if follow:
        _follow(session, params)
        return
    records = session.call("log.query", params)["records"]
    output = session.output
    if output.form == "jsonl" or not output.for_programs:
        for record in records:
            _print(session, record)
        if not records:
            output.note("no records")
        elif len(records) == params.get("limit"):
            output.note(f"(the newest {len(records)}; more: --tail N)")
    else:
        output.value({"records": [_timed(r) for r in records]})


def _whose(session: Session, target: str | None) -> dict[str, str]:
    """Whose records are meant: a component, else a group, else a type."""
    if not target:
        return {}
    if target.startswith("group:"):
        return {"group": target.removeprefix("group:")}
    try:
        return {"component": session.component_id(target)}
    except PlatformError as exc:
        if exc.code != "no-such-target":
            raise
    if target in session.call("hub.groups", {"prefix": target})["groups"]:
        return {"group": target}
    try:
        found = session.call("controller.type", {"type": target})
    except PlatformError as exc:
        if exc.code not in ("no-such-type", "no-such-target"):
            raise
        raise PlatformError(
            "no-such-target",
            f"no component, group or type is called {target!r}",
            hint="list them: paas ps, paas groups, paas types",
            target=target,
        ) from None
    return {"type": found["type"] if "@" in target else found["name"]}


def _follow(session: Session, params: dict[str, Any]) -> None:
    params.setdefault("limit", FOLLOW_TAIL_DEFAULT)
    found = session.call("log.follow", params)
    for record in found["records"]:
        _print(session, record)
    for event in session.connection().notifications():
        if event.get("watch") == found["watch"] and isinstance(event.get("data"), dict):
            _print(session, event["data"])


def _timed(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "timestamp": texts.moment(record["time"])}


def _print(session: Session, record: dict[str, Any]) -> None:
    output = session.output
    if record.get("dropped"):
        output.note(f"({record['dropped']} records were lost here: too many at once)")
    level = record["level"]
    words = [
        texts.clock(record["time"]),
        record["component"][:8],
        output.paint(level, _COLORS[level]) if level in _COLORS else level,
        record["message"],
        texts.fields(record["fields"]),
    ]
    output.record(_timed(record), " ".join(word for word in words if word))
