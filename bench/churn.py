"""Components that come and go: does anything grow?

    python -m bench churn [--cycles 2000] [--at-once 8] [--json]

Native components are created and destroyed over and over on a cluster of its own, some at a time.
Before and after, and at points between, the memory, descriptors and threads of every agent are
read, and the machine's mounts, control groups, links, loop devices and rules that bear the
cluster's name.  Before means: after a warm-up that fills caches, pools and the memory of components
that ended and of commands that may be repeated, of which the hub keeps a bounded number.  What
grows is said; a slope is the growth of a figure over the cycles, by least squares over all points.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.cluster import Client, Cluster
from bench.figures import machine
from bench.native import Native
from bench.processes import MIB, of_cluster, pss_bytes
from paas.cli.leftovers import picture
from paas.controller.limits import ENDED_KEPT_MAX
from paas.raft.limits import DEDUP_RESULTS_MAX

COMMANDS_A_CYCLE = 5
"""Of the log, at least."""

WARM_UP = max(ENDED_KEPT_MAX, DEDUP_RESULTS_MAX // COMMANDS_A_CYCLE) + 100
"""Afterwards what is kept of ended components, and of commands that may be repeated, is full."""

POINTS = 10
SETTLE_S = 2.0

MEMORY_GROWTH_MAX_MIB = 4.0
"""Of one agent over all cycles: allocators and the log's journal breathe."""

COUNT_GROWTH_MAX = 2
"""Of descriptors, threads, mounts, groups: pools are refilled at their own pace."""


def measure(cycles: int, at_once: int, warm_up: int) -> dict[str, Any]:
    with Cluster() as cluster, cluster.client() as client:
        kind = cluster.push(Native(cluster).source)
        _churn(client, kind, warm_up, at_once)
        points = [(0, _settled(cluster))]
        since = time.perf_counter()
        done = 0
        while done < cycles:
            number = min(max(cycles // POINTS, 1), cycles - done)
            _churn(client, kind, number, at_once)
            done += number
            points.append((done, _settled(cluster)))
        took_s = time.perf_counter() - since - SETTLE_S * (len(points) - 1)
        state = str(cluster.state)
    grown = {
        name: round(points[-1][1][name] - points[0][1][name], 2) for name in sorted(points[0][1])
    }
    slopes = {name: round(_slope(points, name) * cycles, 2) for name in sorted(points[0][1])}
    too_much = [name for name, value in slopes.items() if value > _bound(name)]
    return {
        "cycles": cycles,
        "cycles per s": round(cycles / took_s, 1),
        "at first": {name: round(value, 2) for name, value in points[0][1].items()},
        "grown": grown,
        "slope over all cycles": slopes,
        "grows": too_much,
        "left over": sorted(picture(state)),
        "machine": machine(),
        "load at the end": os.getloadavg()[0],
    }


def _bound(name: str) -> float:
    return MEMORY_GROWTH_MAX_MIB if name.endswith("MiB") else COUNT_GROWTH_MAX


def _slope(points: list[tuple[int, dict[str, float]]], name: str) -> float:
    """Growth per cycle, by least squares."""
    xs = [float(x) for x, _ in points]
    ys = [figures[name] for _, figures in points]
    middle, height = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle) ** 2 for x in xs)
    return sum((x - middle) * (y - height) for x, y in zip(xs, ys, strict=True)) / spread


def _churn(client: Client, kind: str, cycles: int, at_once: int) -> None:
    """So many creates, each followed by its destroy; `at_once` of them under way."""
    left, waiting = cycles, {}
    for _ in range(min(at_once, left)):
        left -= 1
        waiting[client.send("controller.create", {"type": kind})] = "create"
    while waiting:
        answer = client.receive()
        what = waiting.pop(answer.get("id", 0), "")
        if "error" in answer:
            raise RuntimeError(f"{what}: {answer['error']}")
        if what == "create":
            params = {"component": answer["result"]["components"][0], "grace": 0}
            waiting[client.send("controller.destroy", params)] = "destroy"
        elif left:
            left -= 1
            waiting[client.send("controller.create", {"type": kind})] = "create"


def _settled(cluster: Cluster) -> dict[str, float]:
    time.sleep(SETTLE_S)
    found: dict[str, float] = {}
    for process in of_cluster(cluster):
        if process.role in ("harness", "component", "other"):
            found["components' processes"] = found.get("components' processes", 0) + 1
            continue
        found[f"{process.role} MiB"] = pss_bytes(process.pid) / MIB
        found[f"{process.role} descriptors"] = len(os.listdir(f"/proc/{process.pid}/fd"))
        found[f"{process.role} threads"] = len(os.listdir(f"/proc/{process.pid}/task"))
    found.setdefault("components' processes", 0)
    return found | _of_machine(cluster)


def _of_machine(cluster: Cluster) -> dict[str, float]:
    short = Path(cluster.runtime).name
    state = os.path.realpath(cluster.state)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    groups = [p for p in Path("/sys/fs/cgroup").glob(f"*/paas-{short}/*/") if p.is_dir()]
    backing = 0
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing += path.read_text().startswith(state)
        except OSError:
            continue
    table = ["nft", "-j", "list", "table", "inet", f"paas-{short}"]
    rules = subprocess.run(table, capture_output=True, text=True, check=False).stdout
    return {
        "mounts": len(mounts),
        "control groups": len(groups),
        "links": sum(name.startswith(f"pv{short[:6]}") for name in os.listdir("/sys/class/net")),
        "loop devices": backing,
        "bytes of rules / 100": len(rules) // 100,
        "records": len(list(Path(state).glob("containers/journal/*"))),
        "directories": len(list(Path(state).glob("containers/containers/*"))),
    }


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench churn", description="Come and go")
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    found = measure(given.cycles, given.at_once, given.warm_up)
    sys.stdout.write(json.dumps(found, indent=None if given.json else 2) + "\n")
    return 1 if found["grows"] or found["left over"] else 0


if __name__ == "__main__":
    sys.exit(main())
