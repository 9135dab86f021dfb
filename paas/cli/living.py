"""`paas resize`, `paas freeze`, `paas thaw`, `paas why` (io)."""

from __future__ import annotations

from typing import Any

from paas.base.errors import PlatformError
from paas.cli import texts
from paas.cli.session import Session

SHORT_DIGITS = 8
_LOG_LINES_SHOWN = 5


def resize(
    session: Session,
    *,
    target: str,
    memory: str | None,
    cpu: str | None,
    pids: int | None,
    io: str | None,
    cpu_weight: int | None,
    timeout: float | None,
    request_id: str | None,
) -> None:
    """Print the limits as they hold now; in JSON `{"component", "limits"}`."""
    given = {
        "memory": memory,
        "cpu": None if cpu is None else _number(cpu),
        "pids": pids,
        "io": None if io is None else _number(io),
        "cpu_weight": cpu_weight,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise PlatformError(
            "invalid",
            "nothing to change was named",
            hint="name a limit: --memory, --cpu, --pids, --io or --cpu-weight",
        )
    found = session.change(
        "controller.resize",
        {"component": session.component_id(target), "limits": wanted},
        request_id=request_id,
        timeout_s=timeout,
    )
    session.output.value(found, _limits(found), [found["component"]])


def _number(text: str) -> Any:
    """A bare number as such; with a unit the platform reads it."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _limits(found: dict[str, Any]) -> str:
    bounds = found["limits"]
    io = f"{texts.size(bounds['io'])}B/s" if bounds["io"] else "any"
    return (
        f"{found['component'][:SHORT_DIGITS]}  memory {texts.size(bounds['memory'])}  "
        f"cpu {bounds['cpu']:g}  weight {bounds['cpu_weight']}  pids {bounds['pids']}  io {io}"
    )


def freeze(session: Session, *, target: str, timeout: float | None, request_id: str | None) -> None:
    """Return when nothing of it moves."""
    _stand(session, "controller.freeze", target, timeout, request_id)


def thaw(session: Session, *, target: str, timeout: float | None, request_id: str | None) -> None:
    """Return when it goes on."""
    _stand(session, "controller.thaw", target, timeout, request_id)


def _stand(
    session: Session, method: str, target: str, timeout: float | None, request_id: str | None
) -> None:
    found = session.change(
        method,
        {"component": session.component_id(target)},
        request_id=request_id,
        timeout_s=timeout,
    )
    short = found["component"][:SHORT_DIGITS]
    word = "frozen" if found["frozen"] else "goes on"
    text = f"{session.output.state(found['state'])} {short} {word}"
    session.output.value(found, text, [found["component"]])


def why(session: Session, *, target: str) -> None:
    """Sentences, then the last lines of its log."""
    found = session.call("controller.why", {"component": target})
    lines = list(found["text"])
    if found["log"]:
        lines += ["its last output:", *(f"  {line}" for line in found["log"][-_LOG_LINES_SHOWN:])]
    session.output.value(found, "\n".join(lines), [found["component"]])
