"""Completion for bash, zsh and fish: words of the table, and live names from a short cache (io).

The shells' scripts only ask `paas complete WORDS…`; all knowledge is in the table of commands.
Live names are asked for at most once in COMPLETION_CACHE_S and for at most COMPLETION_TIMEOUT_S,
and an answer that does not come is no completion, never an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

from paas.base.errors import PlatformError
from paas.cli import connection, limits, place
from paas.cli.commands import COMMANDS, find
from paas.cli.rows import GLOBAL_OPTIONS, Command
from paas.cli.session import Session

SCRIPTS = {
    "bash": """\
_paas() {
    local IFS=$'\\n'
    COMPREPLY=($(paas complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _paas paas
""",
    "zsh": """\
#compdef paas
_paas() {
    local -a found
    found=("${(@f)$(paas complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -a found
}
compdef _paas paas
""",
    "fish": """\
complete -c paas -f -a '(paas complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
""",
}


def completion(session: Session, *, shell: str) -> None:
    if shell not in SCRIPTS:
        raise PlatformError(
            "invalid", f"shell: expected one of {', '.join(SCRIPTS)}, not {shell!r}"
        )
    session.output.stdout.write(SCRIPTS[shell])


def complete(session: Session, *, words: tuple[str, ...]) -> None:
    """Print candidates for the last word, one a line."""
    *before, current = words or ("",)
    found = candidates(before, current) or live(session, before, current)
    session.output.stdout.write("".join(f"{word}\n" for word in found))


def candidates(before: list[str], current: str) -> list[str]:
    """What the table alone knows; pure."""
    row = find(before)
    if current.startswith("-"):
        options = (*(row.options if row else ()), *GLOBAL_OPTIONS)
        return sorted(f for o in options for f in o.flags if f.startswith(current))
    if before and (choices := _choices(row, before[-1])):
        return [c for c in choices if c.startswith(current)]
    place_ = len(before)
    following = {
        r.words[place_]
        for r in COMMANDS
        if not r.hidden and len(r.words) > place_ and list(r.words[:place_]) == before
    }
    return sorted(word for word in following if word.startswith(current))


def _choices(row: Command | None, flag: str) -> tuple[str, ...]:
    """The values of the option that stands before."""
    for option in (*(row.options if row else ()), *GLOBAL_OPTIONS):
        if flag in option.flags:
            return option.choices
    return ()


def live(session: Session, before: list[str], current: str) -> list[str]:
    """Names of components, groups or types, whichever the argument in this place wants."""
    row = find(before)
    if row is None or not row.arguments:
        return []
    given = len([w for w in before[len(row.words) :] if not w.startswith("-")])
    argument = row.arguments[min(given, len(row.arguments) - 1)]
    if argument.names == "topic":
        from paas.cli.topics import TOPICS

        return [t for t in TOPICS if t.startswith(current)]
    if not argument.names:
        return []
    known = _known(session)
    wanted = {
        "component": known["components"],
        "type": known["types"],
        "group": known["groups"],
        "node": known["nodes"],
        "application": known["applications"],
        "target": known["components"] + [f"group:{g}" for g in known["groups"]],
    }[argument.names]
    return sorted({name for name in wanted if name.startswith(current)})


def _known(session: Session) -> dict[str, list[str]]:
    """From the cache, or from the cluster if it answers at once."""
    kinds = ("components", "types", "groups", "nodes", "applications")
    nothing: dict[str, list[str]] = {kind: [] for kind in kinds}
    try:
        cluster = session.cluster()
        file = _cache_file(cluster)
        if file.exists() and time.time() - file.stat().st_mtime < limits.COMPLETION_CACHE_S:
            return {**nothing, **json.loads(file.read_text(encoding="utf-8"))}
        fresh = {**nothing, **_ask(cluster)}
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.write_whole(file, json.dumps(fresh), 0o600)
    except (PlatformError, OSError, ValueError, KeyError, TypeError):
        return nothing
    return fresh


def _ask(cluster: place.Cluster) -> dict[str, list[str]]:
    opened = connection.connect(_socket(cluster), expected=False)
    opened.patience_s = limits.COMPLETION_TIMEOUT_S
    try:
        components = opened.call("controller.components")["components"]
        types = opened.call("controller.types")["types"]
        groups = opened.call("hub.groups")["groups"]
        nodes: list[dict[str, str]] = []
        with contextlib.suppress(PlatformError):
            nodes = opened.call("nodes.list")["nodes"]
        applications: list[dict[str, str]] = []
        with contextlib.suppress(PlatformError):
            applications = opened.call("application.list")["applications"]
    finally:
        opened.close()
    return {
        "components": [c["name"] for c in components if c["name"]] + [c["id"] for c in components],
        "types": [t["name"] for t in types],
        "groups": list(groups),
        "nodes": [n["name"] for n in nodes],
        "applications": [a["name"] for a in applications],
    }


def _socket(cluster: place.Cluster) -> str:
    """Of the first node that runs."""
    from paas.cli.reach import conditions, socket_of

    running = (n for n, condition in conditions(cluster).items() if condition == "running")
    name = next(running, "")
    return socket_of(cluster, name) if name else cluster.socket


def _cache_file(cluster: place.Cluster) -> Path:
    digest = hashlib.sha256(str(cluster.state).encode()).hexdigest()[:16]
    return place.cache_home() / f"names-{digest}.json"
