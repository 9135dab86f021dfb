"""`paas allow`: may a component call an operation of another, and what would it take (io)."""

from __future__ import annotations

from paas.cli.session import Session


def allow(session: Session, *, caller: str, target: str, operation: str, object_: str) -> None:
    found = session.call(
        "hub.allow",
        {
            "from": session.component_id(caller),
            "target": session.target(target),
            "operation": operation,
            "object": object_,
        },
    )
    lines = []
    for verdict in found["targets"]:
        word = "allowed" if verdict["allowed"] else "denied"
        lines.append(f"{word}: {verdict['component'][:8]} ({verdict['type']}): {verdict['reason']}")
        for kind, text in verdict["add"].items():
            lines.append(f"  add to the manifest of {kind}:")
            lines += [f"    {line}" for line in text.splitlines()]
    session.output.value(found, "\n".join(lines) or "there is nobody to call")
