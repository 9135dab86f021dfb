"""Commands about component types: list, show, remove (io).  `push` registers them."""

from __future__ import annotations

import json
import time

from paas.base.errors import Exit
from paas.cli import texts, watching
from paas.cli.output import Column
from paas.cli.session import Session

DIGEST_SHOWN = len("sha256:") + 8


def list_types(session: Session, *, watch: bool) -> None:
    columns: tuple[Column, ...] = (
        ("NAME", lambda t: t["name"]),
        ("VERSION", lambda t: t["version"]),
        ("RUNNING", lambda t: str(t["running"])),
        ("SINCE", lambda t: texts.age(time.time() - t["since"])),
        ("BUNDLE", lambda t: t["bundle"][:DIGEST_SHOWN]),
        ("COMMAND*", lambda t: " ".join(t["manifest"].get("component", {}).get("command", []))),
    )
    watching.show(
        session,
        lambda: session.call("controller.types")["types"],
        lambda items: session.output.rows("types", items, columns, "type"),
        watch,
    )


def show(session: Session, *, type_: str) -> None:
    found = session.call("controller.type", {"type": type_})
    lines = [
        ("type", found["type"]),
        ("bundle", found["bundle"]),
        ("running", str(found["running"])),
        ("since", texts.moment(found["since"])),
    ]
    for section, entry in found["manifest"].items():
        lines.append((section, json.dumps(entry, ensure_ascii=False)))
    text = "\n".join(f"{name:<12} {value}" for name, value in lines)
    session.output.value(found, text, [found["type"]])


def remove(
    session: Session, *, type_: str, yes: bool, dry_run: bool, request_id: str | None
) -> int:
    found = session.call("controller.type", {"type": type_})
    name = found["type"]
    if dry_run:
        session.output.value({"would": "remove", "type": name}, f"would forget {name}", [name])
        return Exit.DONE
    if not session.confirmed(f"This forgets {name}", name, yes):
        return Exit.FAILED
    session.change("controller.unregister_type", {"type": name}, request_id=request_id)
    session.output.value({"type": name, "removed": True}, f"{name} is forgotten", [name])
    return Exit.DONE
