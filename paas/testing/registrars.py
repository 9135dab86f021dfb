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

CLIENTS_PER_NODE = 16
COMMANDS_PER_S = 200.0
"""Asked for by all clients together, whether or not the cluster can answer at that moment."""

RETRY_PAUSE_S = 0.05

ROLES = ("hub", "containers", "certificates", "node")
TIMEOUT_S = 5.0


class Schedule:
    """When the next command is due, for all clients together; what is late is made up for."""

    def __init__(self, per_s: float) -> None:
        self._period_s = 1 / per_s
        self._due_s = time.monotonic()
        self._lock = threading.Lock()
        self.given = 0

    def wait(self) -> None:
        """Return when the caller's turn has come."""
        with self._lock:
            due_s, self._due_s = self._due_s, self._due_s + self._period_s
            self.given += 1
        time.sleep(max(0.0, due_s - time.monotonic()))


class Registrar:
    """Registers types, and takes back every second one; remembers what is certain.

    Whose hub cannot be reached asks the next one, as a client would that knows the cluster.
    """

    def __init__(
        self, cluster: DevCluster, number: int, kind: dict[str, Any], schedule: Schedule
    ) -> None:
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.commands = 0
        self._cluster = cluster
        self._number = number
        self._kind = kind
        self._schedule = schedule
        self._at = number
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
        if self._connection is not None:
            self._connection.close()

    def _registration(self, name: str) -> dict[str, Any]:
        manifest = self._kind["manifest"]
        named = {**manifest, "component": {**manifest["component"], "name": name}}
        return {"bundle": self._kind["bundle"], "manifest": named}

    def _do(self, method: str, params: dict[str, Any]) -> bool:
        """Ask once; was it acknowledged?"""
        self._schedule.wait()
        try:
            if self._connection is None:
                node = self._cluster.names[self._at % len(self._cluster.names)]
                self._connection = connect(self._cluster.socket(node), expected=False)
            self._connection.call(method, params, timeout_s=TIMEOUT_S, changes=True)
        except PlatformError:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._at += 1
            time.sleep(RETRY_PAUSE_S)
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
    asked: int = 0
    """Commands, with those that nobody could answer."""

    commands: int = 0
    """Commands that were answered."""

    acknowledged: int = 0
    """Types of which it is certain whether they must be there."""

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
    """Clients of every node under kills; then the cluster becomes well and is compared."""
    schedule = Schedule(COMMANDS_PER_S)
    clients = [
        Registrar(cluster, number, kind, schedule)
        for number in range(CLIENTS_PER_NODE * len(cluster.names))
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
    found.asked = schedule.given
    found.commands = sum(client.commands for client in clients)
    there = set().union(*(client.there for client in clients))
    gone = set().union(*(client.gone for client in clients))
    found.acknowledged = len(there) + len(gone)
    for node in cluster.names:
        known = {one["type"] for one in cluster.at(node, "controller.types")["types"]}
        found.wrong += [f"{node} has lost {name}" for name in sorted(there - known)]
        found.wrong += [f"{node} has again {name}" for name in sorted(gone & known)]
    return found
