"""Freezing, thawing, resizing of a component that runs, through the whole platform.

`freeze` and `resize`: request to answer, by which it stands still, or has the limits.  `thaw to
first reply`: a call waits for the frozen component; from the request to thaw until its answer.
"""

from __future__ import annotations

import statistics
import time

from bench.cluster import ECHO, Client, Cluster
from bench.figures import Figure, percentile, spread

FIRST_REPLY_BAR_MS = 20.0
WARM_UP = 3


def living(quick: bool) -> list[Figure]:
    froze: list[float] = []
    replied: list[float] = []
    resized: list[float] = []
    with Cluster() as cluster, cluster.client() as client, cluster.client() as caller:
        echo = client.call("controller.create", type=cluster.push(ECHO))["components"][0]
        for turn in range(WARM_UP + (20 if quick else 200)):
            figures = _one(client, caller, echo, 64 + turn % 2)
            if turn >= WARM_UP:
                for values, value in zip((froze, replied, resized), figures, strict=True):
                    values.append(value)
    return [
        Figure(
            what="thaw → first reply of a call that waited, p99",
            value=percentile(replied, 99),
            unit="ms",
            bar=FIRST_REPLY_BAR_MS,
            samples=spread(replied),
        ),
        Figure(
            what="freeze → nothing of it moves, p99",
            value=percentile(froze, 99),
            unit="ms",
            note="a command of the log, then the kernel",
            samples=spread(froze),
        ),
        Figure(
            what="resize → in force and written down, p50",
            value=statistics.median(resized),
            unit="ms",
            samples=spread(resized),
        ),
    ]


def _one(client: Client, caller: Client, echo: str, mib: int) -> tuple[float, float, float]:
    """Milliseconds for freeze, for thaw until the first reply, for resize."""
    begin = time.perf_counter()
    client.call("controller.freeze", component=echo)
    froze = time.perf_counter()
    caller.send("hub.call", {"target": echo, "operation": "echo", "inputs": {}})
    time.sleep(0.01)  # it has arrived, and waits
    thawing = time.perf_counter()
    identity = client.send("controller.thaw", {"component": echo})
    answer = caller.receive()
    replied = time.perf_counter()
    if "error" in answer:
        raise RuntimeError(f"the call that waited: {answer['error']}")
    while client.receive().get("id") != identity:
        continue
    resizing = time.perf_counter()
    client.call("controller.resize", component=echo, limits={"memory": mib << 20})
    done = time.perf_counter()
    return (froze - begin) * 1e3, (replied - thawing) * 1e3, (done - resizing) * 1e3
