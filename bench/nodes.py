"""Several nodes on one machine: ready, idle, calls between nodes, and what losing a node costs.

    python -m bench nodes [--quick]

A development cluster of three nodes, each in namespaces of its own (`paas dev --nodes 3`).  A node
is killed as a power cut would (SIGKILL of its first process); the time runs from that moment until
every component that was on it is available on another node, as the other hubs say.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack

from bench.cluster import ECHO, Client
from bench.figures import Figure, percentile, spread
from bench.machines import used_ticks
from paas.testing.dev_cluster import Census, DevCluster, dev_cluster

LOSS_P50_BAR_S = 4.0
LOSS_MAX_BAR_S = 8.0
IDLE_BAR_PERCENT = 5.0
FAR_BAR_MS = 0.4


def nodes(quick: bool) -> list[Figure]:
    """All of it, on one cluster."""
    figures = []
    with ExitStack() as stack:
        begun_s = time.perf_counter()
        cluster = stack.enter_context(dev_cluster(3))
        ready_s = time.perf_counter() - begun_s
        figures.append(Figure(what="dev --nodes 3 ready", value=ready_s, unit="s"))
        figures.append(_idle(cluster, 10 if quick else 60))
        figures += _calls(cluster, 300 if quick else 3_000)
        figures += _losses(cluster, 3 if quick else 20)
    return figures


def _idle(cluster: DevCluster, seconds: int) -> Figure:
    time.sleep(3)
    before = used_ticks(cluster)
    time.sleep(seconds)
    percent = (used_ticks(cluster) - before) / seconds  # a tick is a hundredth of a second
    return Figure(
        what="idle 3-node cluster, of one core", value=percent, unit="%", bar=IDLE_BAR_PERCENT
    )


def _calls(cluster: DevCluster, count: int) -> list[Figure]:
    kind = cluster.push(ECHO)
    for node in ("n1", "n2"):
        cluster.create(kind, name=f"echo-{node}", constraints=[f"node={node}"])
    took: dict[str, list[float]] = {"n1": [], "n2": []}
    client = Client(cluster.socket("n1"))
    for turn in range(count + 100):
        for node, found in took.items():
            begun_s = time.perf_counter()
            client.call("hub.call", target=f"echo-{node}", operation="echo", inputs={"x": 1})
            if turn >= 100:
                found.append((time.perf_counter() - begun_s) * 1e3)
    params = {"target": "echo-n2", "operation": "echo", "inputs": {"x": 1}}
    seconds, _ = client.pump("hub.call", params, 4 * count, 64)
    client.close()
    near, far = (statistics.median(took[node]) for node in ("n1", "n2"))
    return [
        Figure(what="call, same node, p50", value=near, unit="ms", samples=spread(took["n1"])),
        Figure(what="call, another node, p50", value=far, unit="ms", samples=spread(took["n2"])),
        Figure(what="call, what another node adds", value=far - near, unit="ms", bar=FAR_BAR_MS),
        Figure(
            what="calls to another node, 64 in flight",
            value=4 * count / seconds,
            unit="/s",
            higher=True,
        ),
    ]


def _losses(cluster: DevCluster, runs: int) -> list[Figure]:
    """Kill nodes in turn; each has two of six components when it goes."""
    times: list[float] = []
    led = 0
    most = 0
    for run in range(runs):
        mark = f"sleeper-{run}"
        # One process, which never forks: every one that carries the mark is a component.
        command = ["tail", "-f", "/dev/null", mark]
        source = cluster.source(mark, {mark: ""}, command, protocol="none")
        kind = cluster.push(source)
        made = cluster.api("controller.create", type=kind, count=6, timeout=60)["components"]
        victim = cluster.names[run % 3]
        led += cluster.leader() == victim
        where = {c: cluster.component(c)["node"] for c in made}
        lost = [component for component, node in where.items() if node == victim]
        with Census([mark]) as census:
            cluster.run("nodes", "kill", victim)
            begun_s = time.perf_counter()
            other = next(name for name in cluster.names if name != victim)
            _wait_elsewhere(cluster, lost, victim, other)
            times.append(time.perf_counter() - begun_s)
        most = max(most, census.most[mark])
        cluster.disconnect()
        cluster.run("nodes", "resume", victim)
        _wait_whole(cluster, other)
        for component in made:
            cluster.api("controller.destroy", component=component, grace=0)
    return [
        Figure(
            what="node killed -> its components elsewhere, p50",
            value=statistics.median(times),
            unit="s",
            bar=LOSS_P50_BAR_S,
            samples=spread(times),
            note=f"{led} of {runs} led the log",
        ),
        Figure(
            what="node killed -> its components elsewhere, slowest",
            value=percentile(times, 100),
            unit="s",
            bar=LOSS_MAX_BAR_S,
        ),
        Figure(
            what="copies of six components that ever ran at once, beyond six",
            value=max(0, most - 6),
            unit="",
            bar=0.0,
        ),
    ]


def _wait_elsewhere(cluster: DevCluster, lost: list[str], victim: str, node: str) -> None:
    def there() -> bool:
        found = [cluster.component(component, node) for component in lost]
        return all(f["state"] == "available" and f["node"] != victim for f in found)

    cluster.until(there)


def _wait_whole(cluster: DevCluster, node: str) -> None:
    cluster.until(lambda: all(n["state"] == "available" for n in cluster.nodes(node).values()))
