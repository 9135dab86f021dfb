"""When a cluster of several nodes that was just started is as it should be (io).

`ready` is said when every node is available and as many nodes vote as should: an odd number, as
many as are wanted, and not more than there are (docs/internals/cluster.md, "Members of the log").
"""

from __future__ import annotations

import time
from typing import Any

from paas.base.errors import PlatformError
from paas.cli import limits
from paas.cli.connection import Connection, connect

VOTING = ("leader", "voter")


def voters_expected(nodes: int, wanted: int) -> int:
    """The largest odd number that is not above the nodes and what is wanted."""
    return min(wanted, nodes - 1 + nodes % 2)


def missing(found: list[dict[str, Any]], names: list[str], begun: float, wanted: int) -> str:
    """What is not yet as it should be, in words; empty when all is.

    A node that is available since before `begun` is remembered so from an earlier run of the
    cluster, and has not reported in this one.
    """
    known = {str(node["name"]): node for node in found}
    waiting = []
    for name in names:
        state = str(known[name]["state"]) if name in known else "unknown"
        if state != "available":
            waiting.append(f"{name} is {state}")
        elif float(known[name]["since"]) < begun:
            waiting.append(f"{name} has not reported yet")
    voting = sum(node.get("role") in VOTING for node in found)
    expected = voters_expected(len(names), wanted)
    if voting < expected:
        waiting.append(f"{voting} of {expected} nodes vote")
    return ", ".join(waiting)


def settle(socket: str, names: list[str], begun: float) -> None:
    """Wait until nothing is missing; raises `failed` with what is when the time is over."""
    until = time.monotonic() + limits.SETTLE_TIMEOUT_S
    connection: Connection | None = None
    try:
        while True:
            try:
                connection = connection or connect(socket, expected=True)
                wanted = int(connection.call("cluster.members")["wanted"])
                waiting = missing(connection.call("nodes.list")["nodes"], names, begun, wanted)
            except PlatformError as exc:
                if not exc.kind.retryable:
                    raise
                waiting = str(exc)
            if not waiting:
                return
            if time.monotonic() > until:
                raise PlatformError("failed", f"the nodes do not become ready: {waiting}")
            time.sleep(limits.SETTLE_PERIOD_S)
    finally:
        if connection is not None:
            connection.close()
