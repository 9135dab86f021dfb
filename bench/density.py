"""How many components one machine carries, what each takes, and how a call fares among them.

    python -m bench density [--count 1000] [--batch 50] [--json]

Native components (the smallest program there is) are created in batches on a cluster of its own,
beside one echo component that is called before and after.  Then everything that the platform's
processes take (PSS) is read, what the kernel took beside it (the machine's memory that is no longer
available), and at the end all are destroyed and the machine is compared with what it was.

    harness and bookkeeping   (PSS of all processes of the cluster, less the components' own and
                              less the idle cluster's) by the number of components
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.cluster import ECHO, Client, Cluster
from bench.figures import machine, percentile
from bench.native import Native
from bench.processes import MIB, of_cluster, pss_by_role
from paas.cli.leftovers import picture

SETTLE_S = 3.0
CALLS = 500
PSS_BAR_MIB = 6.0
CALL_BAR_MS = 2.0


def measure(count: int, batch: int) -> dict[str, Any]:
    with Cluster() as cluster, cluster.client() as client:
        kind = cluster.push(Native(cluster).source)
        echo = client.call("controller.create", type=cluster.push(ECHO))["components"][0]
        client.call("controller.destroy", component=_one(client, kind), grace=0)  # unpacked now
        time.sleep(SETTLE_S)
        before = _look(cluster)
        calls_before = _calls(client, echo)
        batches_s: list[float] = []
        made: list[str] = []
        while len(made) < count:
            since = time.perf_counter()
            number = min(batch, count - len(made))
            params = {"type": kind, "count": number}
            made += client.call("controller.create", patience_s=120, **params)["components"]
            batches_s.append((time.perf_counter() - since) / number)
        time.sleep(SETTLE_S)
        after = _look(cluster)
        calls_after = _calls(client, echo)
        states = [c["state"] for c in client.call("controller.components")["components"]]
        alone_ms = _create_one(client, kind)
        since = time.perf_counter()
        for first in range(0, len(made), batch):  # all at once would only wait for each other
            _destroy(client, made[first : first + batch])
        gone_s = time.perf_counter() - since
        state = str(cluster.state)
    own = before["pss"].get("component", 0.0)
    grown = sum(after["pss"].values()) - after["pss"].get("component", 0.0)
    grown -= sum(before["pss"].values()) - own
    available = states.count("available") - 1
    return {
        "components": available,
        "harness and bookkeeping PSS MiB each": round(grown / count, 2),
        "bar MiB": PSS_BAR_MIB,
        "harness PSS MiB each": round(after["pss"]["harness"] / (count + 1), 2),
        "kernel and files MiB each": round(
            (before["available_mib"] - after["available_mib"] - grown) / count, 2
        ),
        "hub grew MiB": round(after["pss"]["hub"] - before["pss"]["hub"], 1),
        "containers grew MiB": round(after["pss"]["containers"] - before["pss"]["containers"], 1),
        "call before ms": calls_before,
        "call among them ms": calls_after,
        "call bar p50 ms": CALL_BAR_MS,
        "create ms each, first batches": round(statistics.median(batches_s[:3]) * 1e3, 1),
        "create ms each, last batches": round(statistics.median(batches_s[-3:]) * 1e3, 1),
        "one more, alone, ms": round(alone_ms, 1),
        "all gone s": round(gone_s, 1),
        "left over": sorted(picture(state)),
        "machine": machine(),
        "load at the end": os.getloadavg()[0],
    }


def _one(client: Client, kind: str) -> str:
    component: str = client.call("controller.create", type=kind)["components"][0]
    return component


def _create_one(client: Client, kind: str) -> float:
    """Milliseconds for one more, the median of five."""
    took = []
    for _ in range(5):
        since = time.perf_counter()
        component = _one(client, kind)
        took.append((time.perf_counter() - since) * 1e3)
        client.call("controller.destroy", component=component, grace=0)
    return statistics.median(took)


def _calls(client: Client, echo: str) -> dict[str, float]:
    took = []
    for _ in range(CALLS):
        since = time.perf_counter()
        client.call("hub.call", target=echo, operation="echo", inputs={"a": 1})
        took.append((time.perf_counter() - since) * 1e3)
    return {"p50": round(statistics.median(took), 2), "p99": round(percentile(took, 99), 2)}


def _look(cluster: Cluster) -> dict[str, Any]:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available_mib = int(line.split()[1]) * 1024 / MIB
    return {"pss": pss_by_role(of_cluster(cluster)), "available_mib": available_mib}


def _destroy(client: Client, components: list[str]) -> None:
    waiting = {
        client.send("controller.destroy", {"component": component, "grace": 0})
        for component in components
    }
    while waiting:
        waiting.discard(client.receive().get("id", 0))


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench density", description="Many components")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    found = measure(given.count, given.batch)
    sys.stdout.write(json.dumps(found, indent=None if given.json else 2) + "\n")
    kept = (
        found["harness and bookkeeping PSS MiB each"] <= PSS_BAR_MIB
        and found["call among them ms"]["p50"] <= CALL_BAR_MS
        and found["components"] >= given.count
        and not found["left over"]
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
