"""`python -m bench gateway_stops`: members of routes stopped, replaced and killed under load.

Requests at a rate and WebSockets go through one gateway component; meanwhile members are replaced,
several at a time: the new one first, then the old one is destroyed with grace.  After that members
are killed by the signal KILL.  What must hold:

    stops   no request fails, no WebSocket is closed before its drain is over
    kills   only POST requests fail, which the member had begun, each with 502

Then the route of kind operation: requests a second, and the time that the gateway adds to a call.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import trio

from bench.figures import percentile
from bench.gateway_load import Load
from paas.testing.dev_cluster import dev_cluster
from paas.testing.gateway_world import World

EARLY_S = 0.3
"""The drain begins a moment after the order that is timed here, never before; clocks are read in
milliseconds."""

SETTLE_S = 2.0
KILL_PAUSE_S = 0.5
AWAY_MAX = 3
"""Members that are being started again while the next one is killed."""

GOING_AWAY = 1001


@dataclass
class Run:
    """The members of one measurement."""

    world: World
    drain_s: float
    members: deque[str] = field(default_factory=deque)
    ordered: dict[str, float] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)

    def begin(self, kind: str, count: int) -> None:
        self.members.extend(self.world.member() for _ in range(count))
        self.world.route(kind=kind, websocket=True, drain_s=self.drain_s, timeout_s=30)
        self.world.serving(count)


async def replace_all(run: Run, stops: int, at_once: int) -> None:
    """The new one first; then the old one is destroyed, which lasts as long as its departure."""
    left = iter(range(stops))
    lock = trio.Lock()

    async def worker() -> None:
        for _ in left:
            async with lock:  # the connection of `member` is for one at a time
                new = await trio.to_thread.run_sync(run.world.member)
            old = run.members.popleft()
            run.members.append(new)
            run.ordered[old] = began = time.monotonic()
            await trio.to_thread.run_sync(run.world.destroy, old)
            run.took_s.append(time.monotonic() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(worker)


async def kill_members(run: Run, kills: int) -> None:
    """One after the other, in turn, of those that serve; most are there all the time."""
    for _ in range(kills):
        serving = await _enough(run)
        while run.members[0] not in serving:
            run.members.rotate(-1)
        victim = run.members[0]
        run.members.rotate(-1)
        pid = await trio.to_thread.run_sync(run.world.main_process, victim)
        run.ordered[victim] = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await trio.sleep(KILL_PAUSE_S)


async def _enough(run: Run) -> set[str]:
    while True:
        states = await trio.to_thread.run_sync(run.world.members)
        serving = {component for component, state in states.items() if state == "serving"}
        if len(serving) >= len(run.members) - AWAY_MAX:
            return serving
        await trio.sleep(0.1)


def stops(world: World, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Replacements, then kills; what became of the load."""
    (gateway,) = world.begin("n1")
    run = Run(world, options.drain)
    run.begin(kind, options.members)
    load = Load(world.address(), options.rate, options.sockets, "/slow?0.02")
    (shown,) = world.cluster.api("gateway.status")["gateways"]
    found: dict[str, Any] = {"kind": kind, "data_path": shown["data_path"]}

    async def measure() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            if options.sockets:
                await load.all_open.wait()
            begin = time.monotonic()
            await replace_all(run, options.stops, options.at_once)
            await trio.sleep(SETTLE_S)
            found["stops"] = judge_stops(load, run, options.stops, time.monotonic() - begin)
            load.report.failed.clear()
            load.report.closes.clear()
            load.report.answered.clear()
            await kill_members(run, options.kills)
            await trio.sleep(SETTLE_S)
            found["kills"] = judge_kills(load, options.kills)
            found["gateway_restarts"] = world.cluster.component(gateway)["restarts"]
            load.stop()

    trio.run(measure)
    return found


def judge_stops(load: Load, run: Run, count: int, lasted_s: float) -> dict[str, Any]:
    report = load.report
    early = [
        (member[:8], code, round(when - run.ordered.get(member, when), 2))
        for when, member, code in report.closes
        if code != GOING_AWAY or when < run.ordered.get(member, when + 99) + run.drain_s - EARLY_S
    ]
    return {
        "stops": count,
        "lasted_s": round(lasted_s, 1),
        "requests": sum(report.answered.values()),
        "rate_per_s": round(sum(report.answered.values()) / lasted_s, 1),
        "failed": len(report.failed),
        "failures": [failure[1:] for failure in report.failed[:10]],
        "websockets_closed": len(report.closes),
        "closed_early": len(early),
        "early": early[:10],
        "unopened": [(round(when, 2), why) for when, why in report.unopened[:10]],
        "echoes": report.echoes,
        "stop_p50_s": round(percentile(run.took_s, 50), 2),
        "stop_max_s": round(max(run.took_s), 2),
        "p50_ms": round(percentile(report.took_ms, 50), 1),
        "p99_ms": round(percentile(report.took_ms, 99), 1),
        "holds": not report.failed and not early,
    }


def judge_kills(load: Load, count: int) -> dict[str, Any]:
    report = load.report
    wrong = [failure[1:] for failure in report.failed if failure[1:] != ("POST", "502")]
    return {
        "kills": count,
        "requests": sum(report.answered.values()),
        "failed_502_post": len(report.failed) - len(wrong),
        "failed_otherwise": len(wrong),
        "failures": wrong[:10],
        "holds": not wrong,
    }


def operation(world: World, seconds: int) -> dict[str, Any]:
    """Requests a second of an operation route by wrk, and what the gateway adds to a call."""
    world.begin("n1")
    members = [world.member("n1") for _ in range(3)]
    world.route(kind="operation")
    world.serving(3)
    host, port = world.address()
    url = f"http://{host}:{port}/who"
    _wrk(url, 8, 2)
    rate, _ = _wrk(url, 64, seconds)
    added = []
    for _ in range(3):
        direct = world.cluster.call(members[0], "measure", target=members[1], count=2_000)
        _, p50_ms = _wrk(url, 1, 4)
        added.append((p50_ms - direct["p50_ms"], direct["p50_ms"], p50_ms))
    added.sort()
    middle = added[1]
    return {
        "rate_per_s": rate,
        "call_p50_ms": round(middle[1], 3),
        "gateway_p50_ms": round(middle[2], 3),
        "added_p50_ms": round(middle[0], 3),
        "holds": rate >= 2_000 and middle[0] <= 1.0,
    }


def _wrk(url: str, connections: int, seconds: int) -> tuple[float, float]:
    """Requests a second, and p50 in milliseconds."""
    words = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", said)[1])  # type: ignore[index]
    number, unit = re.search(r"50%\s+([0-9.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
    if "Non-2xx" in said:
        raise RuntimeError(said)
    return rate, float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench gateway_stops", description=__doc__)
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    parser.add_argument("--sockets", type=int, default=100, help="WebSockets")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=5, help="replacements at the same time")
    parser.add_argument("--drain", type=float, default=2.0, help="the route's drain_s")
    parser.add_argument("--kinds", default="endpoint,operation,figures")
    parser.add_argument("--data-path", default="auto", help="auto, built-in or haproxy")
    parser.add_argument("--seconds", type=int, default=10, help="for the rate of operations")
    parser.add_argument("--json", help="write what was found to this file")
    options = parser.parse_args(arguments)
    found: list[dict[str, Any]] = []
    with dev_cluster(2) as cluster:
        world = World(cluster, options.data_path)
        world.prepare()
        for kind in options.kinds.split(","):
            if kind == "figures":
                found.append({"kind": kind, **operation(world, options.seconds)})
            else:
                found.append(stops(world, kind, options))
            sys.stdout.write(json.dumps(found[-1], indent=2) + "\n")
            sys.stdout.flush()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=2)
    held = [part["holds"] for one in found for part in one.values() if isinstance(part, dict)]
    held += [one["holds"] for one in found if "holds" in one]
    return 0 if all(held) else 1
