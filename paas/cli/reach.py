"""Which node of a cluster answers a command (io): any will do, so the first that can is taken.

A cluster with a single node has one socket.  With several, nodes whose machine runs are tried in
the order of their names, those that are switched off or paused are passed over; `--node NAME` or
PAAS_NODE insists on one.  A node that refuses, or does not take the connection at once, is passed
over too.  When no node answers the error names what was tried.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from paas.base.errors import PlatformError
from paas.cli import limits, place
from paas.cli.connection import CONNECT_PATIENCE_S, CONNECT_PAUSE_S, Connection, connect
from paas.cli.machine_record import read

NODE_VARIABLE = "PAAS_NODE"


def reach(
    cluster: place.Cluster, node: str | None, *, binary: bool = False, but: Collection[str] = ()
) -> tuple[str, Connection]:
    """A connection, and the node it is to (empty when there is only one)."""
    if not cluster.nodes:
        return "", _single(cluster, binary)
    chosen = node or os.environ.get(NODE_VARIABLE)
    if chosen and chosen not in cluster.nodes:
        raise PlatformError(
            "invalid", f"no node is called {chosen!r}", hint=f"nodes: {', '.join(cluster.nodes)}"
        )
    names = [chosen] if chosen else [name for name in cluster.nodes if name not in but]
    until = time.monotonic() + CONNECT_PATIENCE_S
    while True:
        tried: list[str] = []
        hopeless = True
        for name in names:
            condition = conditions(cluster)[name]
            if condition != "running":
                tried.append(f"{name} is {condition}")
                continue
            hopeless = False
            try:
                socket = socket_of(cluster, name)
                return name, connect(
                    socket,
                    expected=False,
                    binary=binary,
                    timeout_s=limits.NODE_CONNECT_TIMEOUT_S,
                )
            except PlatformError as exc:
                if exc.code != "unavailable":
                    raise
                tried.append(f"{name}: {exc.message}")
        if hopeless or time.monotonic() >= until:
            raise _unavailable(cluster, tried)
        time.sleep(CONNECT_PAUSE_S)


def conditions(cluster: place.Cluster) -> dict[str, str]:
    """For each node `running`, `paused` or `off`."""
    found = {name: read(cluster.node_state(name)) for name in cluster.nodes}
    return {name: machine.condition if machine else "off" for name, machine in found.items()}


def socket_of(cluster: place.Cluster, name: str) -> str:
    """The operators' socket of one node of several."""
    known = place.require_cluster(cluster.node_state(name))
    return known.socket


def _single(cluster: place.Cluster, binary: bool) -> Connection:
    expected = place.running(cluster.state)
    if not expected and not os.path.exists(cluster.socket):
        raise PlatformError(
            "unavailable",
            f"the cluster with its state in {cluster.state} does not run",
            hint=f"start it: paas dev --state {cluster.state}",
        )
    return connect(cluster.socket, expected=expected, binary=binary)


def _unavailable(cluster: place.Cluster, tried: list[str]) -> PlatformError:
    return PlatformError(
        "unavailable",
        f"no node of {cluster.name} answers ({'; '.join(tried)})",
        hint=f"start it: paas dev --state {cluster.state}   or one node: paas nodes resume NAME",
    )
