"""`paas volumes`: persistent volumes, where they are, moving and removing them (io)."""

from __future__ import annotations

import time
from typing import Any

from paas.base.errors import Exit, PlatformError
from paas.cli import texts, watching
from paas.cli.output import Column
from paas.cli.session import Session

_PAUSE_S = 0.2


def list_(session: Session, *, on: str | None, watch: bool) -> None:
    columns: tuple[Column, ...] = (
        ("OWNER", lambda v: v["owner"]),
        ("VOLUME", lambda v: v["name"]),
        ("NODE", lambda v: v["node"] or "-"),
        ("STATE", _state),
        ("SIZE", lambda v: texts.size(v["size"])),
        ("PATH", lambda v: v["path"]),
        ("IN USE BY", lambda v: v["component"][:8] or "-"),
        ("TYPE*", lambda v: v["type"]),
        ("ON LOSS*", lambda v: v["on_loss"]),
    )
    params = {"node": on} if on else {}
    watching.show(
        session,
        lambda: session.call("volume.list", params)["volumes"],
        lambda items: session.output.rows("volumes", items, columns, "owner"),
        watch,
    )


def _state(volume: dict[str, Any]) -> str:
    moving = f"moving to {volume['to']}" if volume["to"] else volume["state"]
    return f"{moving}; {volume['waits']}" if volume["waits"] and not volume["to"] else moving


def show(session: Session, *, owner: str) -> None:
    found = session.call("volume.show", {"owner": owner})
    lines = []
    for volume in found["volumes"]:
        used = "-" if volume["used"] is None else texts.size(volume["used"])
        lines += [
            f"{volume['owner']}/{volume['name']}",
            f"  path      {volume['path']}",
            f"  size      {texts.size(volume['size'])}, {used} used",
            f"  node      {volume['node'] or '-'}",
            f"  state     {_state(volume)}",
            f"  in use by {volume['component'] or 'nobody'}",
            f"  type      {volume['type']}",
            f"  on loss   {volume['on_loss']}",
        ]
        if volume["copied"] is not None:
            lines.append(f"  copied    {texts.size(volume['copied'])}")
    names = [f"{volume['owner']}/{volume['name']}" for volume in found["volumes"]]
    session.output.value(found, "\n".join(lines), names)


def remove(
    session: Session, *, owner: str, yes: bool, request_id: str | None, dry_run: bool
) -> int:
    found = session.call("volume.show", {"owner": owner})["volumes"]
    names = [f"{volume['owner']}/{volume['name']}" for volume in found]
    if dry_run:
        session.output.value({"would": "remove", "volumes": names}, f"would remove {names}", names)
        return Exit.DONE
    if not session.confirmed("This removes volumes with all that is in them", owner, yes):
        return Exit.FAILED
    session.change("volume.remove", {"owner": found[0]["owner"]}, request_id=request_id)
    session.output.value({"removed": names}, f"removed {', '.join(names)}", names)
    return Exit.DONE


def move(
    session: Session,
    *,
    owner: str,
    to: str,
    grace: float,
    wait: float,
    request_id: str | None,
) -> None:
    """Waits until it is done, and says how far it is."""
    params = {"owner": owner, "node": to, "grace": grace}
    session.change("volume.move", params, request_id=request_id)
    found = session.call("volume.show", {"owner": owner})
    end_s = time.monotonic() + wait
    told = ""
    while found["volumes"][0]["state"] == "moving" and time.monotonic() < end_s:
        if (text := _progress(found["volumes"])) != told:
            session.output.note(text)
            told = text
        time.sleep(_PAUSE_S)
        found = session.call("volume.show", {"owner": owner})
    first = found["volumes"][0]
    if first["state"] == "moving" and wait:
        raise PlatformError(
            "timeout",
            f"the volumes of {first['owner']} still move to {to}",
            hint=f"it goes on: paas volumes show {first['owner']}",
        )
    text = f"the volumes of {first['owner']} are on {first['node']}"
    session.output.value(found, text, [first["owner"]])


def _progress(volumes: list[dict[str, Any]]) -> str:
    first = volumes[0]
    if first["component"]:
        return f"waits for {first['component'][:8]} to end on {first['node']}"
    copied = "" if first["copied"] is None else f", {texts.size(first['copied'])} copied"
    return f"moving from {first['node']} to {first['to']}{copied}"
