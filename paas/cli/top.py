"""`paas top`: what the hubs are doing, again every second until Ctrl-C, or once (io)."""

from __future__ import annotations

from typing import Any

from paas.cli import watching
from paas.cli.output import Column
from paas.cli.session import Session

_UNITS = ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))


def top(session: Session, *, sort: str, limit: int | None, once: bool) -> None:
    output = session.output
    params = {"sort": sort, "limit": 20 if limit is None else limit}

    def fetch() -> dict[str, Any]:
        found: dict[str, Any] = session.call("hub.top", params)
        return found

    def show(found: dict[str, Any]) -> None:
        if output.for_programs or output.form == "name":
            output.value(found, names=[c["component"] for c in found["components"]])
            return
        output.rows("nodes", found["nodes"], _NODE_COLUMNS)
        if found["components"]:
            output.line("")
            output.rows("components", found["components"], _COMPONENT_COLUMNS)
        for node in found["missing"]:
            output.note(f"warning: {node} does not answer")

    live = not once and output.stdout.isatty() and not output.for_programs
    watching.show(session, fetch, show, live)


def size(count: int) -> str:
    """Bytes for people."""
    for unit, letter in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return str(count)


def rate(per_second: float) -> str:
    return f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.1f}"


def _rates(node: dict[str, Any], name: str) -> str:
    return f"{rate(node['rates_1s'][name])} / {rate(node['rates_10s'][name])}"


def _part(node: dict[str, Any], part: str, name: str) -> str:
    return str(node.get("parts", {}).get(part, {}).get(name, "-"))


def _refused(node: dict[str, Any]) -> str:
    return ", ".join(f"{code} {count}" for code, count in node["refused"].items()) or "-"


def _used(component: dict[str, Any], name: str) -> str:
    value = component.get("usage", {}).get(name)
    return "-" if value is None else size(int(value))


def _memory(component: dict[str, Any]) -> str:
    bound = component.get("usage", {}).get("memory_limit")
    used = _used(component, "memory")
    return f"{used}/{size(int(bound))}" if bound else used


def _cores(component: dict[str, Any]) -> str:
    value = component.get("usage", {}).get("cpu")
    return "-" if value is None else f"{value:.2f}"


def _throttled(component: dict[str, Any]) -> str:
    value = component.get("usage", {}).get("throttled_ms")
    return "-" if value is None else f"{value / 1e3:.1f}s"


def _pressure(component: dict[str, Any]) -> str:
    """Percent of ten seconds for processor, memory, disk; where the kernel counts it."""
    usage = component.get("usage", {})
    found = [usage.get(f"pressure_{name}") for name in ("cpu", "memory", "io")]
    return "-" if None in found else " ".join(f"{value:.0f}" for value in found)


def _state(component: dict[str, Any]) -> str:
    if component.get("usage", {}).get("frozen"):
        return "frozen"
    return "slow" if component["slow"] else "" if component["ready"] else "not ready"


_NODE_COLUMNS: tuple[Column, ...] = (
    ("NODE", lambda n: n["node"]),
    ("COMPONENTS", lambda n: str(n["attached"])),
    ("WAITING", lambda n: str(n["waiting"])),
    ("QUEUED", lambda n: size(n["queued_bytes"] + sum(n["links"].values()))),
    ("CALLS/S 1s/10s", lambda n: _rates(n, "calls")),
    ("CASTS/S", lambda n: _rates(n, "casts")),
    ("FROM NODES/S", lambda n: _rates(n, "forwards")),
    ("SLOW", lambda n: str(len(n["slow"]))),
    ("WATCHES", lambda n: _part(n, "watches", "watches")),
    ("SLOW WATCHES*", lambda n: _part(n, "watches", "slow_watches")),
    ("KEPT MESSAGES*", lambda n: _part(n, "mailboxes", "waiting")),
    ("REFUSED", _refused),
)

_COMPONENT_COLUMNS: tuple[Column, ...] = (
    ("ID", lambda c: c["component"][:8]),
    ("NAME", lambda c: c["name"] or "-"),
    ("NODE", lambda c: c["node"]),
    ("WAITING", lambda c: str(c["waiting"])),
    ("QUEUED", lambda c: size(c["queued_bytes"])),
    ("RATE/S 1s/10s", lambda c: f"{rate(c['rate_1s'])} / {rate(c['rate_10s'])}"),
    ("DELIVERED", lambda c: str(c["delivered"])),
    ("REFUSED", lambda c: str(c["refused"])),
    ("MEMORY", _memory),
    ("CPU", _cores),
    ("THROTTLED*", _throttled),
    ("DISK*", lambda c: _used(c, "disk")),
    ("READ*", lambda c: _used(c, "io_read")),
    ("WRITTEN*", lambda c: _used(c, "io_write")),
    ("RECEIVED*", lambda c: _used(c, "network_received")),
    ("SENT*", lambda c: _used(c, "network_sent")),
    ("PRESSURE*", _pressure),
    ("", _state),
)
