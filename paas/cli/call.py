"""`paas call` and `paas cast`: operations of components from the shell (io)."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from paas.base.errors import Exit, PlatformError
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
    timeout: float | None,
) -> int:
    """Print the outputs as one JSON value; for `all`, `{"replies": [...]}`."""
    params = _params(session, target, operation, inputs, selector, object_, attach)
    result = session.change("hub.call", params, timeout_s=timeout)
    if "replies" in result:
        session.output.value({"replies": result["replies"]})
        replies = result["replies"]
        failed = bool(replies) and all("error" in reply for reply in replies)
        return Exit.FAILED if failed else Exit.DONE
    attachments = result.get("attachments")
    if attachments:
        session.output.note(_attached(attachments))
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
        "attachments": [_attachment(Path(file)) for file in files],
    }
    if object_:
        params["object"] = object_
    return params


def _attachment(file: Path) -> dict[str, str]:
    import base64

    try:
        data = file.read_bytes()
    except OSError as exc:
        raise PlatformError("invalid", f"--attach {file}: {exc.strerror}") from None
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return {"name": file.name, "type": kind, "data": base64.b64encode(data).decode()}


def _attached(attachments: list[dict[str, Any]]) -> str:
    words = [f"{a.get('name', '?')} ({len(a.get('data', '')) * 3 // 4} bytes)" for a in attachments]
    return f"with attachments: {', '.join(words)}"
