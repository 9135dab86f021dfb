"""What people read about applications.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paas.cli import texts
from paas.cli.output import Output

SHORT_DIGITS = 8
_SIGNS = {
    "create": "+",
    "end": "-",
    "clear": "-",
    "set-route": "+",
    "remove-route": "-",
    "remove-volumes": "-",
}


def timed(found: dict[str, Any]) -> dict[str, Any]:
    """With times as RFC 3339 text beside the numbers of the API."""
    return {
        **found,
        "since_time": texts.moment(found["since"]),
        "deployed_time": texts.moment(found["deployed"]),
    }


def summary(output: Output, found: dict[str, Any]) -> str:
    """One line: the state, and how many of the wanted members are available."""
    available = sum(role["available"] for role in found["roles"])
    wanted = sum(max(0, role["count"] - role["done"]) for role in found["roles"])
    if found["state"] in ("stopping", "stopped"):
        wanted = 0
    version = f" {found['version']}" if found["version"] else ""
    return (
        f"{output.state(found['state'])} {found['name']}{version}  revision {found['revision']}  "
        f"{available}/{wanted} available"
    )


def plan(output: Output, ordered: dict[str, Any]) -> str:
    """The steps of a plan, one a line; whether there is anything to do."""
    name, revision = ordered["application"], ordered["revision"]
    if not ordered["steps"]:
        return f"{name} revision {revision}: nothing to do"
    lines = []
    for number, step in enumerate(ordered["steps"], 1):
        sign = _SIGNS.get(step["action"], "~")
        waits = f"; waits for {step['waits']}" if step["waits"] else ""
        lines.append(
            f"{number:4}  {sign} {step['action']:<14} {step['subject']}  ({step['why']}{waits})"
        )
    state = f"revision {revision}" if revision else "new"
    return "\n".join([*lines, f"{name} ({state}): {len(lines)} steps"])


def status(output: Output, found: dict[str, Any], now: float) -> str:
    """Everything about one application."""
    deployed = texts.age(now - found["deployed"])
    head = summary(output, found)
    where = found["decides"] or "no node at present"
    lines = [f"{head}  deployed {deployed} ago, decided on {where}"]
    if found["description"]:
        lines.append(found["description"])
    lines += ["", *_aligned([_ROLE_HEAD, *(_role(role) for role in found["roles"])])]
    if found["members"]:
        lines += [
            "",
            *_aligned([_MEMBER_HEAD, *(_member(output, m, now) for m in found["members"])]),
        ]
    if found["routes"]:
        lines += ["", *_aligned([_ROUTE_HEAD, *(_route(route) for route in found["routes"])])]
    for trouble in found["troubles"]:
        since = texts.age(now - trouble["since"])
        lines += ["", f"{trouble['what']}: {trouble['text']} [{trouble['code']}] for {since}"]
    return "\n".join(lines)


_ROLE_HEAD = ("ROLE", "TYPE", "AVAILABLE", "STARTING", "ENDING", "OUTDATED", "DONE", "WAITS FOR")


def _role(role: dict[str, Any]) -> tuple[str, ...]:
    failed = f", {role['failed']} failed" if role["failed"] else ""
    return (
        role["name"],
        role["type"],
        f"{role['available']}/{role['count']}{failed}",
        *(str(role[key] or "-") for key in ("starting", "ending", "outdated", "done")),
        role["waits"] or "-",
    )


_MEMBER_HEAD = ("MEMBER", "ID", "TYPE", "NODE", "STATE", "SINCE", "REASON")


def _member(output: Output, member: dict[str, Any], now: float) -> tuple[str, ...]:
    outdated = "" if member["current"] else " (outdated)"
    return (
        member["name"],
        member["component"][:SHORT_DIGITS],
        member["type"] + outdated,
        member["node"] or "-",
        output.state(member["state"]),
        texts.age(now - member["since"]),
        member["reason"] or "-",
    )


_ROUTE_HEAD = ("ROUTE", "HOST", "PATH", "KIND", "TO", "STATE")


def _route(route: dict[str, Any]) -> tuple[str, ...]:
    return (
        route["name"],
        route["host"] or "any",
        route["path"],
        route["kind"],
        route["group"] or "-",
        route["state"],
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(_width(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    """Without colour sequences."""
    if "\x1b" not in text:
        return len(text)
    import re

    return len(re.sub(r"\x1b\[[0-9;]*m", "", text))
