"""Commands about the cluster as a whole: status, nodes (io)."""

from __future__ import annotations

from typing import Any

from paas.cli import texts, watching
from paas.cli.output import Column
from paas.cli.session import Session


def status(session: Session, *, watch: bool) -> None:
    watching.show(
        session,
        lambda: session.call("cluster.status"),
        lambda found: session.output.value(found, _summary(session, found), [found["cluster"]]),
        watch,
    )


def _summary(session: Session, found: dict[str, Any]) -> str:
    output = session.output
    lines = [f"cluster {found['cluster']}  version {found['version']}"]
    for node in found["nodes"]:
        extra = {k: v for k, v in node.items() if k not in ("name", "state")}
        text = f"  {node.get('name', '?')}  {output.state(str(node.get('state', '?')))}"
        lines.append(f"{text}  {texts.fields(extra)}".rstrip())
    lines.append(f"log     {texts.fields(found['log'])}")
    counts = {state: n for state, n in found["components"].items() if n}
    lines.append(f"types   {found['types']}")
    lines.append(f"components  {texts.fields(counts) or 'none'}")
    return "\n".join(lines)


def nodes(session: Session, *, watch: bool) -> None:
    output = session.output
    columns: tuple[Column, ...] = (
        ("NAME", lambda n: n.get("name", "?")),
        ("STATE", lambda n: output.state(str(n.get("state", "?")))),
        (
            "DETAILS*",
            lambda n: texts.fields({k: v for k, v in n.items() if k not in ("name", "state")}),
        ),
    )
    watching.show(
        session,
        lambda: session.call("cluster.status")["nodes"],
        lambda items: output.rows("nodes", items, columns),
        watch,
    )
