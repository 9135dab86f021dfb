"""What HAProxy says through its control sockets, read: processes, figures, outcomes of orders.

Source: HAProxy management guide §9.1 (columns of the statistics), §9.3, §9.4 (master CLI).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_DONE = (
    "",
    "New server registered.",
    "Server deleted.",
    "no need to change the addr",
    "no need to change the port",
)
_LATER = ("Server still has connections", "Server is in use", "Server must be in maintenance")


@dataclass(frozen=True, slots=True)
class Processes:
    """`show proc` of the master."""

    worker: int = 0
    """0 while there is none."""
    reloads: int = 0
    failed: int = 0
    old: tuple[int, ...] = ()
    """Workers that only end what they began."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one server or route; sessions are under way now, the others counts since its start."""

    sessions: int = 0
    queued: int = 0
    requests: int = 0
    connect_errors: int = 0
    response_errors: int = 0
    retries: int = 0
    redispatches: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def plus(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))


@dataclass(slots=True)
class Statistics:
    """`show stat`: of routes, and of the servers by (backend, server)."""

    routes: dict[str, Figures] = field(default_factory=dict)
    servers: dict[tuple[str, str], Figures] = field(default_factory=dict)


def processes(answer: str) -> Processes:
    """Read `show proc`."""
    worker, reloads, failed, old, part = 0, 0, 0, [], ""
    for line in answer.splitlines():
        if line.startswith("#"):
            part = line.strip("# ").strip()
            continue
        row = line.split()
        if len(row) < 3 or not row[0].isdigit():
            continue
        if row[1] == "master":
            reloads = int(row[2])
            failed = int(line.partition("[failed: ")[2].partition("]")[0] or 0)
        elif row[1] == "worker" and part == "old workers":
            old.append(int(row[0]))
        elif row[1] == "worker":
            worker = int(row[0])
    return Processes(worker, reloads, failed, tuple(old))


_COLUMNS = {
    "sessions": "scur",
    "queued": "qcur",
    "connect_errors": "econ",
    "response_errors": "eresp",
    "retries": "wretr",
    "redispatches": "wredis",
    "bytes_in": "bin",
    "bytes_out": "bout",
}


def statistics(answer: str) -> Statistics:
    """Read `show stat`: the rows of our backends and their servers."""
    found = Statistics()
    text = answer.strip().removeprefix("# ")
    for row in csv.DictReader(text.splitlines()):
        backend, server = row.get("pxname") or "", row.get("svname") or ""
        if not backend.startswith("r.") or server == "FRONTEND":
            continue
        figures = Figures(
            **{name: _number(row, column) for name, column in _COLUMNS.items()},
            requests=_number(row, "req_tot") or _number(row, "stot"),
        )
        if server == "BACKEND":
            found.routes[backend.removeprefix("r.")] = figures
        else:
            found.servers[backend, server] = figures
    return found


def sessions(answers: Iterable[str], server: str) -> int:
    """Requests under way with a server, in all backends of all workers."""
    return sum(
        figures.sessions + figures.queued
        for answer in answers
        for (_, name), figures in statistics(answer).servers.items()
        if name == server
    )


def refused(order: str, answer: str) -> str:
    """What HAProxy has against an order; empty when it is done, or only not yet possible."""
    text = " ".join(answer.split())
    if text in _DONE or "changed from" in text or text.startswith(_LATER):
        return ""
    if order.startswith("del server") and "No such server" in text:
        return ""
    return text


def _number(row: Mapping[str, str | None], column: str) -> int:
    text = row.get(column) or "0"
    return int(text) if text.isdigit() else 0
