"""Agents are killed all the time, anywhere: nothing that was acknowledged is lost or done twice.

Types are registered and every second one is forgotten again, each once, by clients of all hubs.  At
the end exactly those are known whose registration was acknowledged and whose removal was not asked
for: a registration that took effect a second time, later, would have brought a forgotten type back.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SEED = 5
KILLS_S = 20.0
PERIOD_S = 1.0
KILLS_MIN = 12
COMMANDS_MIN = 400
PAUSE_S = 0.005
"""Of each of six clients, between commands."""

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


def kill_at_random(cluster: DevCluster, dice: random.Random, until_s: float) -> int:
    kills = 0
    while time.monotonic() < until_s:
        node, role = dice.choice(cluster.names), dice.choice(ROLES)
        if role in cluster.agents(node):
            cluster.kill_agents(node, role, number=signal.SIGKILL)
            kills += 1
        time.sleep(PERIOD_S)
    return kills


def test_nothing_is_lost_or_done_twice(
    cluster: DevCluster, record_property: Callable[[str, object], None]
) -> None:
    kind = cluster.api("controller.type", type="actor@1.0.0")
    clients = [
        Registrar(cluster, node, number, kind) for number, node in enumerate(2 * cluster.names)
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        kills = kill_at_random(cluster, random.Random(SEED), time.monotonic() + KILLS_S)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    cluster.wait_well()
    commands = sum(client.commands for client in clients)
    assert kills >= KILLS_MIN
    assert commands >= COMMANDS_MIN
    there = set().union(*(client.there for client in clients))
    gone = set().union(*(client.gone for client in clients))
    assert there
    assert gone
    for node in cluster.names:
        known = {one["type"] for one in cluster.at(node, "controller.types")["types"]}
        assert there <= known, f"lost: {sorted(there - known)[:5]}"
        assert not gone & known, f"done twice: {sorted(gone & known)[:5]}"
    record_property("commands", commands)
    record_property("kills", kills)
