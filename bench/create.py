"""How long a component takes from `controller.create` to available: in sequence, all at once."""

from __future__ import annotations

import statistics
import time

from bench.cluster import ECHO, Client, Cluster
from bench.figures import Figure, percentile, spread
from bench.native import Native, Runc, runc_available

P50_BAR_MS = 60.0
P99_BAR_MS = 200.0
RUNC_RATIO_BAR = 2.0
AT_ONCE = 50
AT_ONCE_BAR_S = 4.0
WARM_UP = 3


def sequence(quick: bool) -> list[Figure]:
    """Native components one after the other, each destroyed again, in turns with `runc run`."""
    created: list[float] = []
    destroyed: list[float] = []
    peer: list[float] = []
    cli: list[float] = []
    with Cluster() as cluster, cluster.client() as client:
        native = Native(cluster)
        kind = cluster.push(native.source)
        runc = Runc(cluster, native) if runc_available() else None
        for turn in range(WARM_UP + (20 if quick else 100)):
            up, down = _one(client, kind)
            other = runc.run() if runc else 0.0
            if turn >= WARM_UP:
                created.append(up)
                destroyed.append(down)
                peer.append(other)
        for turn in range(3 if quick else 10):
            since = time.perf_counter()
            cluster.paas("create", kind, "--name", f"by-cli-{turn}")
            cli.append((time.perf_counter() - since) * 1e3)
    note = native.note if runc else f"{native.note}; no runc here to compare with"
    return [
        Figure(
            what="create → available, native program, p50",
            value=statistics.median(created),
            unit="ms",
            bar=P50_BAR_MS,
            peer=statistics.median(peer) if runc else None,
            peer_name="`runc run`",
            ratio_bar=RUNC_RATIO_BAR,
            note=note,
            samples=spread(created),
        ),
        Figure(
            what="create → available, native program, p99",
            value=percentile(created, 99),
            unit="ms",
            bar=P99_BAR_MS,
            peer=percentile(peer, 99) if runc else None,
            peer_name="`runc run`",
        ),
        Figure(
            what="destroy → nothing left, native program, p50",
            value=statistics.median(destroyed),
            unit="ms",
            samples=spread(destroyed),
        ),
        Figure(
            what="`paas create` of a native program (CLI), p50",
            value=statistics.median(cli),
            unit="ms",
            samples=spread(cli),
        ),
    ]


def _one(client: Client, kind: str) -> tuple[float, float]:
    """Milliseconds for create, for destroy."""
    since = time.perf_counter()
    component = client.call("controller.create", type=kind)["components"][0]
    between = time.perf_counter()
    client.call("controller.destroy", component=component, grace=0)
    return (between - since) * 1e3, (time.perf_counter() - between) * 1e3


def many(quick: bool) -> list[Figure]:
    """So many components in one request: until all are available, and until all are gone."""
    figures = []
    with Cluster() as cluster, cluster.client() as client:
        native = Native(cluster)
        kinds = (("native", cluster.push(native.source)), ("Python", cluster.push(ECHO)))
        for word, kind in kinds:
            client.call("controller.create", type=kind)  # the bundle is unpacked now
            up: list[float] = []
            down: list[float] = []
            for _ in range(1 if quick else 3):
                since = time.perf_counter()
                made = client.call("controller.create", type=kind, count=AT_ONCE)["components"]
                up.append(time.perf_counter() - since)
                down.append(_destroy(client, made))
            figures += [
                Figure(
                    what=f"{AT_ONCE} components at once, {word}, all available",
                    value=statistics.median(up),
                    unit="s",
                    bar=AT_ONCE_BAR_S,
                    samples=spread(up),
                ),
                Figure(
                    what=f"{AT_ONCE} components at once, {word}, all destroyed",
                    value=statistics.median(down),
                    unit="s",
                    samples=spread(down),
                ),
            ]
    return figures


def _destroy(client: Client, components: list[str]) -> float:
    since = time.perf_counter()
    waiting = {
        client.send("controller.destroy", {"component": component, "grace": 0})
        for component in components
    }
    while waiting:
        waiting.discard(client.receive().get("id", 0))
    return time.perf_counter() - since
