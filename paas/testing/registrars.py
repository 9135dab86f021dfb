"""Clients that register types while agents are killed, and remember what is certain.

Types are registered and every second one is forgotten again, each once, by clients of all hubs.  At
the end exactly those must be known whose registration was acknowledged and whose removal was not
asked for: a registration that took effect a second time, later, would have brought a forgotten type
back.  Used by a system test for some seconds and by bench/kills.py for minutes.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.testing.dev_cluster import DevCluster

PERIOD_S = 1.0
"""Between two kills."""

PAUSE_S = 0.005
"""Of each client, between commands."""

ROLES = ("hub", "hub", "hub", "containers", "certificates", "node")
TIMEOUT_S = 5.0


class Registrar:
    """Registers types, and takes back every second one; remembers what is certain."""

    def __init__(self, cluster: DevCluster, node: str, number: int, kind: dict[str, Any]) -> None:
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.commands = 0
        self._cluster = cluster
        self._node = node
        self._number = number
        self._kind = kind
        self._connection: Connection | None = None

    def run(self, stop: threading.Event) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            name = f"kind-{self._number}-{count}"
            if self._do("controller.register_type", self._registration(name)):
                self.there.add(f"{name}@1.0.0")
                if count % 2:
                    self.there.discard(f"{name}@1.0.0")
                    if self._do("controller.unregister_type", {"type": f"{name}@1.0.0"}):
                        self.gone.add(f"{name}@1.0.0")
            time.sleep(PAUSE_S)
        if self._connection is not None:
            self._connection.close()

    def _registration(self, name: str) -> dict[str, Any]:
        manifest = self._kind["manifest"]
        named = {**manifest, "component": {**manifest["component"], "name": name}}
        return {"bundle": self._kind["bundle"], "manifest": named}

    def _do(self, method: str, params: dict[str, Any]) -> bool:
        """Ask once; was it acknowledged?"""
        try:
            if self._connection is None:
                self._connection = connect(self._cluster.socket(self._node), expected=False)
            self._connection.call(method, params, timeout_s=TIMEOUT_S, changes=True)
        except PlatformError:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            time.sleep(0.05)
            return False
        self.commands += 1
        return True


@dataclass
class Outcome:
    """What was done, and what is wrong at the end."""

    kills: dict[str, int] = field(default_factory=dict)
    switched_on: int = 0
    """Nodes that had given up, after more deaths than their supervisor takes, and came back."""

    seconds: float = 0.0
    commands: int = 0
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)


def kill_at_random(
    cluster: DevCluster, dice: random.Random, seconds: float, found: Outcome
) -> None:
    """One agent a second, somewhere; a node that has given up is switched on again."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        node, role = dice.choice(cluster.names), dice.choice(ROLES)
        if cluster.machine(node).condition != "running":
            cluster.resume(node)
            found.switched_on += 1
        elif role in cluster.agents(node):
            with contextlib.suppress(ProcessLookupError, KeyError):  # it has ended meanwhile
                cluster.kill_agents(node, role, number=signal.SIGKILL)
                found.kills[role] = found.kills.get(role, 0) + 1
        time.sleep(PERIOD_S)


def run(cluster: DevCluster, kind: dict[str, Any], seconds: float, seed: int) -> Outcome:
    """Two clients a node under kills; then the cluster becomes well and is compared."""
    clients = [
        Registrar(cluster, node, number, kind) for number, node in enumerate(2 * cluster.names)
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    found = Outcome()
    begun_s = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        kill_at_random(cluster, random.Random(seed), seconds, found)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    found.seconds = time.monotonic() - begun_s
    cluster.calm()
    found.commands = sum(client.commands for client in clients)
    there = set().union(*(client.there for client in clients))
    gone = set().union(*(client.gone for client in clients))
    found.acknowledged = len(there) + len(gone)
    for node in cluster.names:
        known = {one["type"] for one in cluster.at(node, "controller.types")["types"]}
        found.wrong += [f"{node} has lost {name}" for name in sorted(there - known)]
        found.wrong += [f"{node} has again {name}" for name in sorted(gone & known)]
    return found
