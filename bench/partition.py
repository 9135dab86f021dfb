"""Partitions of whole clusters under load, with the history of all clients checked afterwards.

    python -m bench.partition [--runs 50] [--clusters 4] [--seconds 30]

Clients at every node claim names (create a component that has one) and give them back (destroy it),
against each other, while one node after the other, the leading one included, is cut off, in one
direction or in both, and healed.  What was not heard is asked for again under the same request id,
so in the end every outcome is known or certainly nothing.  The history must be linearizable (WGL,
paas.sim.history), every name that a client holds must be there, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.sim.history import History, Operation
from paas.sim.models import Claim
from paas.testing.dev_cluster import DevCluster, dev_cluster

NAMES = 4
CLIENTS_OF_NODE = 2
HEAL_S = 8.0
DEFINITE = ("unavailable", "not-available", "storage-full", "limit-exceeded", "no-placement")


@dataclass
class Shared:
    """What the clients of one cluster have in common."""

    cluster: DevCluster
    kind: str
    history: History = field(default_factory=History)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    held: dict[str, tuple[str, str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1


class Client:
    """Claims a name, holds it for a moment, gives it back; at one node."""

    def __init__(self, shared: Shared, node: str, number: int, run: int) -> None:
        self.shared, self.node = shared, node
        self.name = f"{node}-{number}-{run}"
        self.random = random.Random(self.name)
        self.connection: Connection | None = None

    def run(self) -> None:
        while not self.shared.stop.is_set():
            key = f"name/{self.random.randrange(NAMES)}"
            claimed = self.claim(key)
            time.sleep(self.random.uniform(0.02, 0.3))
            if claimed:
                self.release(key, *claimed)

    def call(self, method: str, **params: Any) -> Any:
        if self.connection is None:
            self.connection = connect(self.shared.cluster.socket(self.node), expected=False)
        try:
            return self.connection.call(method, params, timeout_s=6.0)
        except PlatformError as error:
            if error.code in ("unavailable", "unknown-outcome", "timeout"):
                self.connection.close()
                self.connection = None
            raise

    def begin(self, kind: str, key: str, argument: Any) -> Operation:
        with self.shared.lock:
            return self.shared.history.begin(self.name, kind, key, argument, now_s=time.monotonic())

    def finish(self, operation: Operation, result: Any) -> None:
        with self.shared.lock:
            self.shared.history.finish(operation, result, now_s=time.monotonic())
        self.shared.count(f"{operation.kind} {result}")

    def claim(self, key: str) -> tuple[str, str] | None:
        """The attempt and the component, if the name is ours now."""
        attempt = f"{self.random.getrandbits(128):032x}"
        operation = self.begin("claim", key, attempt)
        doubt = False
        while True:
            try:
                made = self.call(
                    "controller.create",
                    type=self.shared.kind,
                    name=key.replace("/", "-"),
                    request_id=attempt,
                    wait="accepted",
                )["components"][0]
            except PlatformError as error:
                self.shared.count(error.code)
                if error.code == "conflict":
                    self.finish(operation, False)
                    return None
                doubt |= error.code not in DEFINITE
                if not doubt:
                    with self.shared.lock:
                        self.shared.history.withdraw(operation)
                    return None
                time.sleep(0.2)
            else:
                self.finish(operation, True)
                with self.shared.lock:
                    self.shared.held[key] = (attempt, made)
                return attempt, made

    def release(self, key: str, attempt: str, component: str) -> None:
        operation = self.begin("release", key, attempt)
        with self.shared.lock:
            self.shared.held.pop(key, None)
        while True:
            try:
                self.call("controller.destroy", component=component, grace=0)
            except PlatformError as error:
                self.shared.count(error.code)
                if error.code != "no-such-target":
                    time.sleep(0.2)
                    continue
            self.finish(operation, None)
            return


def one_cluster(number: int, runs: int, seconds: float) -> dict[str, Any]:
    """Some runs on one cluster, the history of all of them checked together."""
    chance = random.Random(number)
    found: dict[str, Any] = {"runs": 0, "faults": [], "healed_s": []}
    with dev_cluster(3) as cluster:
        command = ["tail", "-f", "/dev/null"]
        kind = cluster.push(cluster.source("holder", {}, command, protocol="none"))
        for run in range(runs):
            shared = Shared(cluster, kind)
            clients = [
                Client(shared, node, turn, run)
                for node in cluster.names
                for turn in range(CLIENTS_OF_NODE)
            ]
            threads = [threading.Thread(target=client.run) for client in clients]
            for thread in threads:
                thread.start()
            time.sleep(1.0)
            leader = cluster.leader()
            alone = leader if run % 2 == 0 else chance.choice(cluster.names)
            others = ",".join(name for name in cluster.names if name != alone)
            one_way = chance.random() < 0.3
            cluster.run("nodes", "partition", f"{alone}|{others}", *["--one-way"] * one_way)
            time.sleep(seconds)
            cluster.run("nodes", "heal")
            begun_s = time.monotonic()
            _wait_whole(cluster)
            found["healed_s"].append(time.monotonic() - begun_s)
            time.sleep(HEAL_S)
            shared.stop.set()
            for thread in threads:
                thread.join()
            word = f"{'one way ' if one_way else ''}{'leader' if alone == leader else 'follower'}"
            found["faults"].append(word)
            _judge(found, shared, cluster)
            found["runs"] += 1
    return found


def _wait_whole(cluster: DevCluster) -> None:
    """Until a leader that leads says that all nodes are available."""

    def whole() -> bool:
        nodes = cluster.nodes(cluster.leader())
        return all(node["state"] == "available" for node in nodes.values())

    cluster.until(whole)


def _judge(found: dict[str, Any], shared: Shared, cluster: DevCluster) -> None:
    verdict = shared.history.check(Claim(), budget_s=60.0)
    found.setdefault("answers", []).append(str(verdict.answer))
    if not verdict.ok:
        found.setdefault("trouble", []).append([str(o) for o in verdict.longest[:12]])
    for word, count in shared.counts.items():
        found[word] = found.get(word, 0) + count
    found["operations"] = found.get("operations", 0) + len(shared.history.operations)
    there = cluster.api("controller.components")["components"]
    names = [c["name"] for c in there if c["state"] != "destroyed"]
    held = {key.replace("/", "-"): made for key, (_, made) in shared.held.items()}
    lost = [name for name, made in held.items() if made not in {c["id"] for c in there}]
    found["lost"] = found.get("lost", 0) + len(lost)
    found["duplicates"] = found.get("duplicates", 0) + len(names) - len(set(names))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--clusters", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    shares = [
        given.runs // given.clusters + (number < given.runs % given.clusters)
        for number in range(given.clusters)
    ]
    with ThreadPoolExecutor(given.clusters) as pool:
        results = list(
            pool.map(one_cluster, range(given.clusters), shares, [given.seconds] * given.clusters)
        )
    healed = [s for r in results for s in r["healed_s"]]
    answers = [a for r in results for a in r["answers"]]
    summary = {
        "runs": sum(r["runs"] for r in results),
        "linearizable": answers.count("linearizable"),
        "operations": sum(r["operations"] for r in results),
        "lost": sum(r["lost"] for r in results),
        "duplicates": sum(r["duplicates"] for r in results),
        "healed_s": {"p50": round(statistics.median(healed), 2), "max": round(max(healed), 2)},
        "clusters": results,
    }
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
