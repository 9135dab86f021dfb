"""`paas call` and `paas cast`: operations of components from the shell (io)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paas.base.errors import Exit
from paas.cli import attachments as attached
from paas.cli import inputs as typed
from paas.cli.session import Session


def call(
    session: Session,
    *,
    target: str,
    operation: str,
    inputs: tuple[str, ...],
    selector: str,
    object_: str,
    attach: tuple[str, ...],
    save: str | None,
    timeout: float | None,
) -> int:
    """Print the outputs as one JSON value; for `all`, `{"replies": [...]}`."""
    params = _params(session, target, operation, inputs, selector, object_, attach)
    result = session.change("hub.call", params, timeout_s=timeout)
    came = [i for reply in result.get("replies", (result,)) for i in reply.get("attachments") or ()]
    if came:
        session.output.note(attached.described(came))
    if came and save is not None:
        files = attached.save(session, came, Path(save))
        session.output.note(f"saved: {', '.join(map(str, files))}")
    if "replies" in result:
        session.output.value({"replies": result["replies"]})
        replies = result["replies"]
        failed = bool(replies) and all("error" in reply for reply in replies)
        return Exit.FAILED if failed else Exit.DONE
    session.output.value(result.get("outputs"), None, [result.get("component", "")])
    return Exit.DONE


def cast(
    session: Session,
    *,
    target: str,
    operation: str,
    inputs: tuple[str, ...],
    selector: str,
    object_: str,
    attach: tuple[str, ...],
    timeout: float | None,
) -> None:
    """Print to how many components it was handed."""
    params = _params(session, target, operation, inputs, selector, object_, attach)
    result = session.change("hub.cast", params, timeout_s=timeout)
    count = result["accepted"]
    members = f" ({count} member{'' if count == 1 else 's'})" if target.startswith("group:") else ""
    session.output.value(result, f"sent to {target}{members}", [str(count)])


def _params(
    session: Session,
    target: str,
    operation: str,
    words: tuple[str, ...],
    selector: str,
    object_: str,
    files: tuple[str, ...],
) -> dict[str, Any]:
    params: dict[str, Any] = {
        "target": session.target(target),
        "operation": operation,
        "inputs": typed.read(words),
        "selector": selector,
        "attachments": attached.outgoing(session, files),
    }
    if object_:
        params["object"] = object_
    return params
