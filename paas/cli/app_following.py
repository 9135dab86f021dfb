"""Waiting for an application: one line for each step that is done, and when to stop waiting (io).

The hub answers when something has changed; what changed is seen by comparing.  A hub that goes away
is asked again, or another one in its place: the order does not depend on who is asked.

Waiting ends when the goal is reached; when a member of the new kind has failed; when another order
has overtaken this one; when a reason that is not going away by itself has stood for a while; and
when the time is over.  In all these cases what was ordered goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.session import Session

Goal = Callable[[dict[str, Any]], bool]

ANSWER_S = 5.0
"""One question waits so long for a change."""

PAUSE_S = 0.2
"""Before a hub that went away is asked again."""

STUCK_S = 5.0
"""A reason that has stood for so long is told, and not waited for any longer."""

_AWAY = ("unavailable", "unknown-outcome")


def running(found: dict[str, Any]) -> bool:
    """All that is wanted is there."""
    return bool(found["state"] == "available")


def scaled(found: dict[str, Any]) -> bool:
    """The same; one that is stopped stays so."""
    return found["state"] in ("available", "stopped")


def stopped(found: dict[str, Any]) -> bool:
    """No member is left."""
    return bool(found["state"] == "stopped")


def gone(_found: dict[str, Any]) -> bool:
    """It is known no more: then there is no answer."""
    return False


def before(session: Session, name: str) -> dict[str, Any]:
    """The status before something is ordered; empty when there is no such application."""
    try:
        found: dict[str, Any] = session.call("application.status", {"application": name})
    except PlatformError as exc:
        if exc.code != "no-such-target":
            raise
        return {}
    return found


def follow(
    session: Session,
    ordered: dict[str, Any],
    goal: Goal,
    timeout_s: float,
    was: dict[str, Any],
) -> dict[str, Any]:
    """Tell the steps until the goal is reached; the status then (empty when it is gone).

    What there was before (`was`) is not told.  Raises `failed`, `conflict`, the code of a reason
    that stays, or `timeout`.
    """
    name, revision = ordered["application"], ordered["revision"]
    end_s = time.monotonic() + timeout_s
    teller, index = Teller(session, was), 0
    while True:
        left_s = end_s - time.monotonic()
        try:
            found = _ask(session, name, index, max(0.0, min(left_s, ANSWER_S)))
        except PlatformError as exc:
            if exc.code == "no-such-target" and goal is gone:
                teller.gone()
                return {}
            if exc.code not in _AWAY or left_s <= 0:
                raise
            session.close()
            time.sleep(PAUSE_S)
            continue
        teller.tell(found)
        if found["revision"] != revision:
            raise PlatformError(
                "conflict",
                f"{name} is at revision {found['revision']} by now: somebody else has changed it",
                hint=f"look at it: paas app status {name}",
            )
        if goal(found):
            return found
        _give_up(found, end_s)
        index = found["index"]


def _ask(session: Session, name: str, index: int, wait_s: float) -> dict[str, Any]:
    found: dict[str, Any] = session.call(
        "application.status",
        {"application": name, "index": index, "wait": wait_s},
        timeout_s=wait_s + ANSWER_S,
    )
    return found


def _give_up(found: dict[str, Any], end_s: float) -> None:
    """Raise why nobody should wait any longer."""
    name = found["name"]
    hint = f"it is tried again and again; look at: paas app status {name}"
    over = time.monotonic() >= end_s
    for trouble in found["troubles"]:
        stood_s = time.time() - trouble["since"]
        if trouble["code"] == "failed" or stood_s >= STUCK_S or over:
            raise PlatformError(
                trouble["code"], f"{name}: {trouble['what']}: {trouble['text']}", hint=hint
            )
    if over:
        waits = next((step["waits"] for step in found["steps"] if step["waits"]), "")
        text = f"; waits for {waits}" if waits else ""
        raise PlatformError(
            "timeout",
            f"{name} is {found['state']}, not done at the deadline{text}",
            hint=f"it goes on; look at: paas app status {name} --watch",
        )


class Teller:
    """Says what is different from the last time."""

    def __init__(self, session: Session, was: dict[str, Any]) -> None:
        self._output = session.output
        self._began_s = time.monotonic()
        self._since_s: dict[str, float] = {}  # component -> when its step was first seen
        self._members = {m["component"]: (m["name"], _state(m)) for m in was.get("members", ())}
        self._routes = {r["name"]: r["state"] for r in was.get("routes", ())}
        self._troubles: set[str] = set()

    def tell(self, found: dict[str, Any]) -> None:
        """One more status."""
        members = {m["component"]: m for m in found["members"]}
        for component, member in members.items():
            self._member(component, member)
        for component in [c for c in self._members if c not in members]:
            self._ended(component)
        for route in found["routes"]:
            if route["state"] == "set" and self._routes.get(route["name"]) != "set":
                self._say("ready", f"route {route['name']} set")
            self._routes[route["name"]] = route["state"]
        for trouble in found["troubles"]:
            text = f"{trouble['what']}: {trouble['text']} [{trouble['code']}]"
            if text not in self._troubles:
                self._troubles.add(text)
                self._say("warn", text)

    def gone(self) -> None:
        """It is known no more, and so nothing of it is left."""
        for component in list(self._members):
            self._ended(component)

    def _member(self, component: str, member: dict[str, Any]) -> None:
        name, state = member["name"], _state(member)
        known = self._members.get(component)
        self._members[component] = (name, state)
        if known is not None and known[1] == state:
            return
        if state == "available":
            where = f"on {member['node']} " if member["node"] else ""
            self._say(state, f"{name} {member['type']} {where}in {self._took(component)}")
        elif state == "failed":
            self._say(state, f"{name}: {member['reason']}")
        elif known is None or state == "ending":
            self._since_s[component] = time.monotonic()

    def _ended(self, component: str) -> None:
        name, _ = self._members.pop(component)
        self._say("destroyed", f"{name} in {self._took(component)}")

    def _took(self, component: str) -> str:
        since_s = self._since_s.pop(component, self._began_s)
        return f"{time.monotonic() - since_s:.1f}s"

    def _say(self, state: str, text: str) -> None:
        self._output.note(f"{self._output.state(state)} {text}")


def _state(member: dict[str, Any]) -> str:
    return "ending" if member["ending"] else str(member["state"])
