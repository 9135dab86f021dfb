"""`paas groups`: which groups there are, and who is in one (io)."""

from __future__ import annotations

from paas.base.errors import PlatformError
from paas.cli import watching
from paas.cli.output import Column
from paas.cli.session import Session


def groups(session: Session, *, group: str | None, prefix: str, watch: bool) -> None:
    if group:
        _members(session, group.removeprefix("group:"), watch)
        return
    columns: tuple[Column, ...] = (
        ("GROUP", lambda g: g["name"]),
        ("MEMBERS", lambda g: str(g["members"])),
    )

    def fetch() -> list[dict[str, object]]:
        found = session.call("hub.groups", {"prefix": prefix})["groups"]
        return [{"name": name, "members": count} for name, count in sorted(found.items())]

    watching.show(
        session, fetch, lambda items: session.output.rows("groups", items, columns), watch
    )


def _members(session: Session, group: str, watch: bool) -> None:
    output = session.output
    columns: tuple[Column, ...] = (
        ("ID", lambda m: m["component"][:8]),
        ("NAME", lambda m: m["name"] or "-"),
        ("NODE", lambda m: m["node"] or "-"),
        ("STATE", lambda m: output.state(m["state"])),
    )

    def fetch() -> list[dict[str, object]]:
        found: list[dict[str, object]] = session.call("hub.members", {"group": group})["members"]
        if not found and not watch:
            raise PlatformError(
                "no-such-target", f"no group is called {group!r}", hint="list them: paas groups"
            )
        return found

    watching.show(
        session, fetch, lambda items: output.rows("members", items, columns, "component"), watch
    )
