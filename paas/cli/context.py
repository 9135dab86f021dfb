"""Contexts: names for clusters, and which one is current (io).  Kept in config.toml (place.py)."""

from __future__ import annotations

import os
import re

from paas.base.errors import PlatformError
from paas.cli import place
from paas.cli.output import Column
from paas.cli.session import Session

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def contexts(session: Session) -> None:
    known = place.read_contexts()
    items = [
        {"name": name, "state": state, "current": name == known.current}
        for name, state in sorted(known.states.items())
    ]
    columns: tuple[Column, ...] = (
        ("", lambda c: "*" if c["current"] else " "),
        ("NAME", lambda c: c["name"]),
        ("STATE", lambda c: c["state"]),
    )
    session.output.rows("contexts", items, columns)


def add(session: Session, *, name: str, directory: str | None, use: bool) -> None:
    if not _NAME.fullmatch(name):
        raise PlatformError("invalid", f"name: expected letters, digits, hyphens, not {name!r}")
    known = place.read_contexts()
    state = os.path.abspath(directory) if directory else str(session.state)
    if known.states.get(name, state) != state:
        raise PlatformError(
            "conflict",
            f"context {name} is {known.states[name]}",
            hint=f"paas context remove {name}",
        )
    current = name if use else known.current
    place.write_contexts(place.Contexts(current, {**known.states, name: state}))
    session.output.value({"name": name, "state": state}, f"context {name} is {state}", [name])


def use(session: Session, *, name: str) -> None:
    known = place.read_contexts()
    if name != "-" and name not in known.states:
        raise PlatformError(
            "invalid", f"no context is called {name!r}", hint="list them: paas context"
        )
    current = "" if name == "-" else name
    place.write_contexts(place.Contexts(current, known.states))
    session.output.value({"current": current}, f"current context: {current or 'none'}", [current])


def remove(session: Session, *, name: str) -> None:
    known = place.read_contexts()
    if name not in known.states:
        raise PlatformError(
            "invalid", f"no context is called {name!r}", hint="list them: paas context"
        )
    states = {n: s for n, s in known.states.items() if n != name}
    place.write_contexts(place.Contexts("" if known.current == name else known.current, states))
    session.output.value({"name": name, "removed": True}, f"context {name} is forgotten", [name])
