"""How long calls fail after `kill -9` of an agent, and whether components live on.

A caller asks again and again, with a new connection whenever the old one is lost, while the agent
is killed.  Reported is the longest time without an answer until all is well again; and, with a kill
of its own, the time from the kill until a component that is asked for is available.
"""

from __future__ import annotations

import os
import signal
import statistics
import time

from bench.cluster import ECHO, CallError, Client, Cluster
from bench.figures import Figure, spread
from bench.processes import by_role, of_cluster

BAR_S = 3.0
COMPONENTS = 3
GIVE_UP_S = 60.0
STEADY_S = 1.0
ROUNDS = 2
"""Each with two kills; more in a minute, and the supervisor of a development cluster gives up."""

CALL_PATIENCE_S = 2.0


def recover(quick: bool) -> list[Figure]:
    """Each agent in turn, on one cluster that lives through all of it."""
    figures = []
    with Cluster() as cluster:
        kind = cluster.push(ECHO)
        with cluster.client() as client:
            client.call("controller.create", type=kind, name="e", count=COMPONENTS)
        for role in ("hub", "containers", "node"):
            calls: list[float] = []
            creates: list[float] = []
            kept = True
            for _ in range(1 if quick else ROUNDS):
                before = _alive(cluster)
                calls.append(_kill(cluster, role))
                creates.append(_kill_and_create(cluster, role, kind))
                kept &= before <= _alive(cluster)
            figures += _figures(role, calls, creates, kept)
    return figures


def _figures(role: str, calls: list[float], creates: list[float], kept: bool) -> list[Figure]:
    note = "components kept their processes" if kept else "COMPONENTS DIED"
    return [
        Figure(
            what=f"`kill -9` of {role}: longest time without calls",
            value=max(calls),
            unit="s",
            bar=BAR_S if kept else 0.0,
            samples=spread(calls),
            note=note,
        ),
        Figure(
            what=f"`kill -9` of {role}: until a component is created",
            value=statistics.median(creates),
            unit="s",
            samples=spread(creates),
        ),
    ]


def _alive(cluster: Cluster) -> set[int]:
    """The processes that must live on: harnesses and components."""
    found = of_cluster(cluster)
    return {*by_role(found, "harness"), *by_role(found, "component")}


def _kill(cluster: Cluster, role: str) -> float:
    """Kill it under calls; the longest time without an answer until all is well again, seconds."""
    caller = Caller(cluster)
    caller.work_until(time.perf_counter() + 0.2)
    victim = _victim(cluster, role)
    caller.longest_s = 0.0
    killed = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    steady_from = killed
    while time.perf_counter() - steady_from < STEADY_S:
        if time.perf_counter() - killed > GIVE_UP_S:
            raise RuntimeError(f"{role} did not come back")
        if not caller.once() or by_role(of_cluster(cluster), role) in ([], [victim]):
            steady_from = time.perf_counter()
    caller.close()
    return caller.longest_s


def _victim(cluster: Cluster, role: str) -> int:
    (victim,) = by_role(of_cluster(cluster), role)
    return victim


def _kill_and_create(cluster: Cluster, role: str, kind: str) -> float:
    """Kill it and ask for a component, again when that fails; seconds until one is available."""
    victim = _victim(cluster, role)
    killed = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    while time.perf_counter() - killed < GIVE_UP_S:
        try:
            with cluster.client() as client:
                made = client.call("controller.create", type=kind, timeout=10)["components"]
                took = time.perf_counter() - killed
                client.call("controller.destroy", component=made[0], grace=0)
                return took
        except CallError:
            time.sleep(0.005)
    raise RuntimeError(f"{role} did not come back")


class Caller:
    """Calls one after the other, whatever happens."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client: Client | None = None
        self._number = 0
        self._answered = time.perf_counter()
        self.longest_s = 0.0

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def once(self) -> bool:
        """One call; was it answered as it should?"""
        self._number = self._number % COMPONENTS + 1
        params = {"target": f"e-{self._number}", "operation": "echo", "inputs": {"x": 1}}
        try:
            if self._client is None:
                self._client = Client(self._cluster.socket)
            self._client.call("hub.call", patience_s=CALL_PATIENCE_S, timeout=1.0, **params)
        except CallError as exc:
            if exc.code == "lost":
                self.close()
            time.sleep(0.002)
            return False
        now = time.perf_counter()
        self.longest_s = max(self.longest_s, now - self._answered)
        self._answered = now
        return True

    def work_until(self, until: float) -> None:
        while time.perf_counter() < until:
            self.once()
