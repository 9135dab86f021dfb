"""`paas snapshots`: keep a component's files, list what is kept, go back to it, remove it (io)."""

from __future__ import annotations

import time
from typing import Any

from paas.base.errors import Exit
from paas.cli import texts
from paas.cli.output import Column
from paas.cli.session import Session


def list_(session: Session, *, target: str, timeout: float | None) -> None:
    now_s = time.time()
    columns: tuple[Column, ...] = (
        ("NAME", lambda s: s["name"]),
        ("AGE", lambda s: texts.age(max(0.0, now_s - s["time"]))),
        ("SIZE", lambda s: texts.size(s["size"])),
        ("NODE", lambda s: s["node"]),
        ("INCARNATION*", lambda s: str(s["incarnation"])),
        ("FILE SYSTEM*", lambda s: s["filesystem"]),
    )
    params = {"component": session.component_id(target)}
    found = session.call("controller.snapshots", params, timeout_s=timeout)
    session.output.rows("snapshots", found["snapshots"], columns)


def create(
    session: Session,
    *,
    target: str,
    name: str | None,
    timeout: float | None,
    request_id: str | None,
) -> None:
    """Print its name and size; in JSON all that is known of it."""
    params: dict[str, Any] = {"component": session.component_id(target), "name": name or ""}
    made = session.change("controller.snapshot", params, request_id=request_id, timeout_s=timeout)
    text = f"kept the files of {target} as {made['name']}, {texts.size(made['size'])}"
    session.output.value(made, text, [made["name"]])


def restore(
    session: Session,
    *,
    target: str,
    name: str,
    yes: bool,
    timeout: float | None,
    request_id: str | None,
) -> int:
    """The component is on its way up again when this returns."""
    if not session.confirmed("This loses what was written since the snapshot", target, yes):
        return Exit.FAILED
    params = {"component": session.component_id(target), "name": name}
    session.change("controller.rollback", params, request_id=request_id, timeout_s=timeout)
    session.output.value(params, f"{target} starts again with the files of {name}", [name])
    return Exit.DONE


def remove(
    session: Session,
    *,
    target: str,
    name: str,
    yes: bool,
    timeout: float | None,
    request_id: str | None,
) -> int:
    if not session.confirmed("This removes a snapshot of its files", target, yes):
        return Exit.FAILED
    params = {"component": session.component_id(target), "name": name}
    session.change("controller.drop_snapshot", params, request_id=request_id, timeout_s=timeout)
    session.output.value(params, f"removed the snapshot {name} of {target}", [name])
    return Exit.DONE
