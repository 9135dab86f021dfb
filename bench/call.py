"""What a call costs: a Python component answers; an operator, or another component, asks.

One at a time gives the latency, 64 in flight the rate.  The component is `examples/echo` (JSON with
the SDK) or the same over msgpack frames without the SDK; callers likewise.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
from pathlib import Path

from bench.cluster import ECHO, Client, Cluster
from bench.figures import Figure, percentile, spread

P50_BAR_MS = 1.2
RATE_BAR_PER_S = 4_000.0
IN_FLIGHT = 64
ROUNDS = 3
RATE_CALLS = 4
"""So many more calls when there are many in flight, as each takes less."""

INPUTS = {"x": 1}


def calls(quick: bool) -> list[Figure]:
    """Every pair of caller and component."""
    count = 1_000 if quick else 5_000
    with Cluster() as cluster, cluster.client() as client, cluster.client(text=True) as text:
        _create(cluster, client)
        figures = []
        for target in ("echo", "msgpack-echo"):
            callers = [("operator, msgpack", client), ("operator, JSON", text)]
            for word, connection in callers:
                figures += _operator(connection, target, word, count)
        for caller, target in (("caller", "echo"), ("msgpack-caller", "msgpack-echo")):
            figures += _component(client, caller, target, count)
    return figures


def _create(cluster: Cluster, client: Client) -> None:
    source = cluster.source("msgpack-echo")
    found = importlib.util.find_spec("msgpack")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent, source / "msgpack")
    framed = cluster.push(source)
    for kind, name in (
        (cluster.push(ECHO), "echo"),
        (cluster.push(cluster.source("caller")), "caller"),
        (framed, "msgpack-echo"),
        (framed, "msgpack-caller"),
    ):
        client.call("controller.create", type=kind, name=name)


def _operator(client: Client, target: str, word: str, count: int) -> list[Figure]:
    params = {"target": target, "operation": "echo", "inputs": INPUTS}
    answer = client.call("hub.call", **params)
    if answer["outputs"] != INPUTS:
        raise RuntimeError(f"{target} does not echo: {answer}")
    client.pump("hub.call", params, 200, 8)
    took_ms: list[float] = []
    rates: list[float] = []
    for _ in range(ROUNDS):
        took_ms += client.pump("hub.call", params, count // ROUNDS, 1)[1]
        many = RATE_CALLS * count
        rates.append(many / client.pump("hub.call", params, many, IN_FLIGHT)[0])
    return _figures(f"{word} → {target}", took_ms, rates)


def _component(client: Client, caller: str, target: str, count: int) -> list[Figure]:
    took_ms: list[float] = []
    rates: list[float] = []

    def measure(times: int, parallel: int) -> tuple[float, list[float]]:
        inputs = {"target": target, "count": times, "parallel": parallel}
        params = {"target": caller, "operation": "measure", "inputs": inputs}
        result = client.call("hub.call", timeout=60, **params)["outputs"]
        return result["seconds"], result["took_ms"]

    measure(200, 8)
    for _ in range(ROUNDS):
        took_ms += measure(count // ROUNDS, 1)[1]
        rates.append(RATE_CALLS * count / measure(RATE_CALLS * count, IN_FLIGHT)[0])
    return _figures(f"component {caller} → {target}", took_ms, rates)


def _figures(word: str, took_ms: list[float], rates: list[float]) -> list[Figure]:
    return [
        Figure(
            what=f"call, {word}, one at a time, p50",
            value=statistics.median(took_ms),
            unit="ms",
            bar=P50_BAR_MS,
            samples=spread(took_ms),
            note=f"p99 {percentile(took_ms, 99):.2f} ms",
        ),
        Figure(
            what=f"call, {word}, {IN_FLIGHT} in flight",
            value=statistics.median(rates),
            unit="/s",
            bar=RATE_BAR_PER_S,
            higher=True,
            samples=spread(rates),
        ),
    ]
