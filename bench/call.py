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
from bench.messengers import BEST, DEFAULT, pairs
from bench.messengers import IN_FLIGHT as MANY_IN_FLIGHT

P50_BAR_MS = 1.2
RATE_BAR_PER_S = 4_000.0
IN_FLIGHT = 64
ROUNDS = 3
RATE_CALLS = 4
"""So many more calls when there are many in flight, as each takes less."""

INPUTS = {"x": 1}

SDK_P50_BAR_MS = 0.6
SDK_RATE_BAR_PER_S = 12_000.0
CAST_BAR_PER_S = 40_000.0


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


def messages(quick: bool) -> list[Figure]:
    """SDK to SDK with 100 bytes: calls and casts, in every style in turns (messengers.py)."""
    count = 500 if quick else 2_000
    figures = []
    with Cluster() as cluster, cluster.client() as client:
        made = pairs(cluster, client)
        took_ms: dict[str, list[float]] = {style.word: [] for style in made}
        rates: dict[str, dict[str, list[float]]] = {
            what: {style.word: [] for style in made} for what in ("call", "tell", "cast")
        }
        lost = dict.fromkeys(took_ms, 0)
        for _ in range(ROUNDS):
            for style, pair in made.items():
                word = style.word
                took_ms[word] += pair.one_at_a_time(count)
                rates["call"][word].append(pair.calls_per_s(10 * count))
                tasks = MANY_IN_FLIGHT if style.front == "asyncio" else 1
                for what, parallel, many in (("tell", 1, 50), ("cast", tasks, 2)):
                    rate, missing = pair.casts_per_s(what, many * count, parallel)
                    rates[what][word].append(rate)
                    lost[word] += missing
        for style in made:
            binds = style in (DEFAULT, BEST)
            figures += _messages(
                style.word, binds, took_ms[style.word], {k: v[style.word] for k, v in rates.items()}
            )
    if any(lost.values()):
        raise RuntimeError(f"casts were lost: {lost}")
    return figures


def _messages(
    word: str, binds: bool, took_ms: list[float], rates: dict[str, list[float]]
) -> list[Figure]:
    said = {
        "call": (f"calls, SDK to SDK, {word}, {MANY_IN_FLIGHT} in flight", SDK_RATE_BAR_PER_S),
        "tell": (f"casts by `tell`, SDK to SDK, {word}, at the receiver", CAST_BAR_PER_S),
        "cast": (f"casts confirmed each, SDK to SDK, {word}, at the receiver", None),
    }
    return [
        Figure(
            what=f"call, SDK to SDK, {word}, one at a time, p50",
            value=statistics.median(took_ms),
            unit="ms",
            bar=SDK_P50_BAR_MS if binds else None,
            samples=spread(took_ms),
            note=f"p99 {percentile(took_ms, 99):.2f} ms",
        ),
        *(
            Figure(
                what=what,
                value=statistics.median(rates[key]),
                unit="/s",
                bar=bar if binds else None,
                higher=True,
                samples=spread(rates[key]),
            )
            for key, (what, bar) in said.items()
        ),
    ]
