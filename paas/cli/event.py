"""Commands that wait for what happens: events, monitor, wait (io)."""

from __future__ import annotations

import time
from typing import Any

from paas.base.errors import PlatformError
from paas.cli import texts
from paas.cli.session import Session

POLL_S = 0.1
WAIT_TIMEOUT_S_DEFAULT = 60.0
_ENDED = ("destroyed", "failed")


def events(session: Session, *, follow: bool, count: int, timeout: float | None) -> None:
    """Print events of components as they come; `follow` is what it does anyway."""
    found = session.call("hub.watch", {"components": True})
    session.output.note("waiting for events; stop: Ctrl-C")
    seen = 0
    for event in session.connection().notifications(timeout):
        if event.get("watch") != found["watch"]:
            continue
        session.output.record(_timed(event), _line(event))
        seen += 1
        if count and seen == count:
            return


def _timed(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "timestamp": texts.moment(event.get("time") or time.time())}


def _line(event: dict[str, Any]) -> str:
    words = [texts.clock(event.get("time") or time.time()), f"component.{event.get('event', '?')}"]
    words.append(str(event.get("component", ""))[:8])
    shown = ("name", "previous", "state", "reason", "group")
    words += [f"{key}={event[key]}" for key in shown if event.get(key)]
    return " ".join(words)


def monitor(session: Session, *, target: str, timeout: float | None) -> None:
    """Print why it ended."""
    component = session.component_id(target)
    found = session.call("controller.monitor", {"component": component})
    for event in session.connection().notifications(timeout):
        if event.get("watch") == found["watch"] and event.get("event") == "down":
            reason = event.get("reason", "")
            value = {"component": component, "reason": reason, "index": event.get("index", 0)}
            session.output.value(value, f"{component[:8]} is down: {reason}", [component])
            return


def wait(session: Session, *, target: str, count: int, timeout: float | None, for_: str) -> None:
    """Wait for a state (`--for`), or for that many available members of a group."""
    wanted = "available" if for_ == "ready" else for_
    limit_s = WAIT_TIMEOUT_S_DEFAULT if timeout is None else timeout
    target = target.removeprefix("component/")
    if target.startswith(("group:", "group/")):
        _wait_group(session, target[len("group:") :], count, limit_s)
        return
    until = time.monotonic() + limit_s
    state = ""
    while time.monotonic() < until:
        try:
            found = session.call("controller.component", {"component": target})
            state = found["state"]
        except PlatformError as exc:
            if exc.code != "no-such-target" or wanted not in ("ended", "destroyed"):
                raise
            session.output.value({"component": target, "state": "destroyed"}, f"{target} is gone")
            return
        if state == wanted or (wanted == "ended" and state in _ENDED):
            session.output.value(
                found, f"{found['id'][:8]} {session.output.state(state)}", [found["id"]]
            )
            return
        time.sleep(POLL_S)
    raise PlatformError("timeout", f"{target} is {state or 'unknown'}, not {wanted}")


def _wait_group(session: Session, group: str, count: int, limit_s: float) -> None:
    found = session.call("hub.await", {"group": group, "count": count}, timeout_s=limit_s)
    members = [m["component"] for m in found["members"]]
    text = "\n".join(
        f"{m['component'][:8]} {session.output.state(m['state'])}" for m in found["members"]
    )
    session.output.value(found, text, members)
