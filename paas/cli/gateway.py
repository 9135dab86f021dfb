"""`paas gateway`: routes, gateways, and the folder that a gateway is pushed from (io)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from paas.base.errors import Exit, PlatformError, invalid
from paas.cli import watching
from paas.cli.output import Column
from paas.cli.session import Session
from paas.gateway import client

_ROUTE_COLUMNS: tuple[Column, ...] = (
    ("ROUTE", lambda r: r["route"]["name"]),
    ("HOST", lambda r: r["route"].get("host") or "*"),
    ("PATH", lambda r: r["route"].get("path", "/")),
    ("TO", lambda r: _leads_to(r["route"])),
    ("SERVING", lambda r: str(r["serving"])),
    ("LEAVING", lambda r: str(r["leaving"])),
    ("GATEWAY*", lambda r: r["route"].get("gateway", "gateways")),
    ("APPLICATION*", lambda r: r["route"].get("application") or "-"),
)


def _leads_to(route: dict[str, Any]) -> str:
    kind = route.get("kind", "endpoint")
    if kind == "static":
        return f"static {route['directory']}"
    name = route.get(kind, "http")
    return f"{route['group']} {kind} {name}"


def routes(session: Session, *, application: str, gateway: str, watch: bool) -> None:
    params = {"application": application, "gateway": gateway}
    watching.show(
        session,
        lambda: [
            {**found, "name": found["route"]["name"]}
            for found in session.call("gateway.routes", params)["routes"]
        ],
        lambda items: session.output.rows("routes", items, _ROUTE_COLUMNS, "name"),
        watch,
    )


def route(session: Session, *, name: str) -> None:
    found = session.call("gateway.route", {"name": name})
    lines = [f"route {name}  {_leads_to(found['route'])}"]
    lines += [
        f"  {field:<13} {json.dumps(value, ensure_ascii=False)}"
        for field, value in found["route"].items()
        if field not in ("name", "group", "kind")
    ]
    for member in found["members"]:
        state = session.output.state(member["state"])
        lines.append(
            f"  member {member['component'][:8]}  {state}  on {member['node']}"
            f"  weight {member['weight']}"
        )
    session.output.value(found, "\n".join(lines), [name])


def set_(
    session: Session,
    *,
    name: str,
    group: str | None,
    host: str | None,
    path: str | None,
    kind: str | None,
    endpoint: str | None,
    operation: str | None,
    directory: str | None,
    gateway: str | None,
    application: str | None,
    websocket: bool,
    field: tuple[str, ...],
    request_id: str | None,
    dry_run: bool,
) -> int:
    """What is not said stays as it is, or is the default of a new route."""
    named = {
        "group": group,
        "host": host,
        "path": path,
        "kind": kind,
        "endpoint": endpoint,
        "operation": operation,
        "directory": directory,
        "gateway": gateway,
        "application": application,
        "websocket": websocket or None,
    }
    told = {key: value for key, value in named.items() if value is not None}
    told.update(_fields(field))
    try:
        present = session.call("gateway.route", {"name": name})["route"]
    except PlatformError as error:
        if error.code != "no-such-target":
            raise
        present = {}
    wanted = {**present, **told, "name": name}
    if dry_run:
        session.output.value({"would": "set", "route": wanted}, f"would set {name}", [name])
        return Exit.DONE
    session.change("gateway.set_route", {"route": wanted}, request_id=request_id)
    word = "changed" if present else "made"
    session.output.value({"route": wanted}, f"route {name} {word}", [name])
    return Exit.DONE


def _fields(given: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise invalid("field", f"expected NAME=VALUE, got {text!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def remove(session: Session, *, name: str, yes: bool, request_id: str | None, dry_run: bool) -> int:
    session.call("gateway.route", {"name": name})
    if dry_run:
        session.output.value({"would": "remove", "route": name}, f"would remove {name}", [name])
        return Exit.DONE
    if not session.confirmed("Requests of this route are refused from then on", name, yes):
        return Exit.FAILED
    session.change("gateway.remove_route", {"name": name}, request_id=request_id)
    session.output.value({"removed": name}, f"removed {name}", [name])
    return Exit.DONE


def status(session: Session, *, watch: bool) -> None:
    watching.show(
        session,
        lambda: session.call("gateway.status"),
        lambda found: session.output.value(
            found, _status(session, found), [g["component"] for g in found["gateways"]]
        ),
        watch,
    )


def _status(session: Session, found: dict[str, Any]) -> str:
    lines = [] if found["gateways"] else ["no gateway follows routes: paas gateway build --help"]
    lines += [
        f"{gateway['component'][:8]}  {gateway['name'] or '-'}  on {gateway['node']}"
        f"  {session.output.state(gateway['state'])}  {gateway['routes']} routes"
        f"  {' '.join(gateway['urls'])}  {gateway['data_path']}".rstrip()
        for gateway in found["gateways"]
    ]
    for departure in found["departures"]:
        left_s = max(0.0, departure["until"] - time.time())
        waiting = ", ".join(gateway[:8] for gateway in departure["waiting"]) or "nobody"
        lines.append(f"{departure['component'][:8]}  leaves, {left_s:.0f} s left, for {waiting}")
    return "\n".join(lines)


def build(
    session: Session,
    *,
    directory: str,
    publish: int,
    publish_tls: int,
    version: str,
    memory: str,
    allow: tuple[str, ...],
) -> None:
    kind = client.build(
        Path(directory),
        version=version,
        publish=publish,
        publish_tls=publish_tls,
        memory=memory,
        allow=allow,
    )
    session.output.value(
        {"type": kind, "directory": directory},
        f"made {directory} for {kind}; now: paas push {directory}",
        [directory],
    )
