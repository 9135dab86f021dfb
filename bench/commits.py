"""Durable commits of three nodes in three processes, beside etcd doing the same on the same disk.

    python -m bench.commits [--quick] [--json]

64 clients, one connection and one put of 256 bytes under way each, to the leader; etcd with its
defaults, driven by bench/etcd_load.  They run in turns, so that the machine's noise hits both.
Then how long nobody is acknowledged after the leader is killed, and when it hands over.

etcd and a Go compiler come from Debian (etcd-server, golang-go, golang-etcd-server-dev); without
them only our side is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from bench.figures import percentile
from paas.base.errors import PlatformError
from paas.rpc.client import connected_unix
from paas.rpc.envelope import Form
from paas.testing.replica import PUT, TRANSFER, Put, Transfer
from paas.testing.replicas import NODES, ReplicaCluster, free_ports

CLIENTS = 64
VALUE_BYTES = 256
SECONDS = 5.0
ROUNDS = 5
HERE = Path(__file__).resolve().parent


async def load(path: str, seconds: float) -> list[float]:
    """How long each put took, in milliseconds."""
    took_ms: list[float] = []
    end_s = time.perf_counter() + seconds

    async def client(number: int) -> None:
        async with connected_unix(path, form=Form.MSGPACK) as peer:
            turn = 0
            while (begun_s := time.perf_counter()) < end_s:
                put = Put(key=f"k{number}-{turn % 1000}", value="x" * VALUE_BYTES)
                await peer.call(PUT, put)
                took_ms.append((time.perf_counter() - begun_s) * 1e3)
                turn += 1

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(client, number)
    return took_ms


@dataclass
class Etcd:
    """Three members with their defaults, and the load generator."""

    directory: Path
    tool: str

    def __post_init__(self) -> None:
        self.directory.mkdir()
        ports = free_ports(6)
        self.clients = [f"http://127.0.0.1:{port}" for port in ports[:3]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        together = ",".join(f"{n}={p}" for n, p in zip(NODES, peers, strict=True))
        self.processes = [
            subprocess.Popen(
                [
                    *("etcd", "--name", node, "--data-dir", str(self.directory / node)),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", together),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for node, client, peer in zip(NODES, self.clients, peers, strict=True)
        ]
        self._wait()

    def _wait(self) -> None:
        for _ in range(200):
            done = self._status()
            if done.returncode == 0 and "true" in done.stdout:
                return
            time.sleep(0.1)
        raise RuntimeError("etcd does not start")

    def _status(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["etcdctl", "--endpoints", ",".join(self.clients), "endpoint", "status"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ETCDCTL_API": "3"},
        )

    def leader(self) -> str:
        line = next(line for line in self._status().stdout.splitlines() if "true" in line)
        return line.partition(",")[0]

    def load(self, seconds: float) -> dict[str, float]:
        words = ["-endpoints", self.leader(), "-clients", str(CLIENTS)]
        words += ["-bytes", str(VALUE_BYTES), "-seconds", str(seconds)]
        done = subprocess.run([self.tool, *words], capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def build_tool(directory: Path) -> str:
    """The load generator, or nothing when it cannot be had here."""
    if not (shutil.which("go") and shutil.which("etcd") and shutil.which("etcdctl")):
        return ""
    tool = directory / "etcd_load"
    settings = {
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(directory / "go"),
    }
    words = ["go", "build", "-o", str(tool), str(HERE / "etcd_load" / "main.go")]
    done = subprocess.run(words, env={**os.environ, **settings}, check=False)
    return str(tool) if done.returncode == 0 else ""


def rates(directory: Path, ours: ReplicaCluster, rounds: int, seconds: float) -> dict[str, Any]:
    tool = build_tool(directory)
    etcd = Etcd(directory / "etcd", tool) if tool else None
    mine: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    try:
        for _ in range(rounds):
            leader = trio.run(ours.leader)
            took_ms = trio.run(load, ours.socket(leader), seconds)
            mine.append(
                {
                    "rate": len(took_ms) / seconds,
                    "p50_ms": statistics.median(took_ms),
                    "p99_ms": percentile(took_ms, 99),
                }
            )
            if etcd is not None:
                found = etcd.load(seconds)
                theirs.append({**found, "rate": found["puts"] / found["seconds"]})
    finally:
        if etcd is not None:
            etcd.stop()
    result = {"ours": _medians(mine)}
    if theirs:
        result["etcd"] = _medians(theirs)
        result["rate_ratio"] = round(result["ours"]["rate"] / result["etcd"]["rate"], 3)
        result["p99_ratio"] = round(result["ours"]["p99_ms"] / result["etcd"]["p99_ms"], 3)
    return result


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(statistics.median(run[name] for run in runs), 2)
        for name in ("rate", "p50_ms", "p99_ms")
    }


async def put_until_done(ours: ReplicaCluster, key: str, nodes: tuple[str, ...]) -> None:
    """One put, at whichever node takes it, repeated under the same number until acknowledged."""
    while True:
        for node in nodes:
            try:
                async with connected_unix(ours.socket(node)) as peer:
                    await peer.call(PUT, Put(key=key, value="v", request=1), timeout_s=10)
                    return
            except PlatformError:
                continue
        await trio.sleep(0.005)


async def failover(ours: ReplicaCluster, runs: int) -> list[float]:
    """From kill -9 of the leader to the next acknowledged put, in seconds."""
    found = []
    for run in range(runs):
        leader = await ours.leader()
        await put_until_done(ours, f"before-{run}", (leader,))
        others = tuple(node for node in NODES if node != leader)
        ours.kill(leader)
        begun_s = time.perf_counter()
        await put_until_done(ours, f"after-{run}", others)
        found.append(time.perf_counter() - begun_s)
        ours.start(leader)
        await put_until_done(ours, f"back-{run}", (leader,))
    return found


class Writer:
    """Puts one after the other, through a follower, until told to stop."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.stop = False
        self.failed = 0
        self.took_s: list[float] = []

    async def run(self) -> None:
        async with connected_unix(self._path) as peer:
            while not self.stop:
                begun_s = time.perf_counter()
                try:
                    await peer.call(PUT, Put(key="t", value="v"))
                except PlatformError:
                    self.failed += 1
                self.took_s.append(time.perf_counter() - begun_s)


async def handover(ours: ReplicaCluster, runs: int) -> dict[str, Any]:
    """Planned transfers under load: the longest pause of a client, and failed commands."""
    pauses: list[float] = []
    failed = 0
    for _ in range(runs):
        leader = await ours.leader()
        writer = Writer(ours.socket(next(node for node in NODES if node != leader)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await trio.sleep(0.3)
            async with connected_unix(ours.socket(leader)) as peer:
                await peer.call(TRANSFER, Transfer())
            await trio.sleep(0.5)
            writer.stop = True
        pauses.append(max(writer.took_s))
        failed += writer.failed
    return {
        "p50_ms": round(statistics.median(pauses) * 1e3, 1),
        "max_ms": round(max(pauses) * 1e3, 1),
        "failed": failed,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="always on")
    parser.add_argument("--directory", default="/var/tmp")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="paas-commits-", dir=given.directory))
    ours = ReplicaCluster(directory / "ours")
    try:
        found = rates(directory, ours, 2 if given.quick else ROUNDS, 2 if given.quick else SECONDS)
        sys.stderr.write(json.dumps(found) + "\n")
        times = trio.run(failover, ours, 5 if given.quick else 100)
        found["failover_s"] = {
            "p50": round(statistics.median(times), 3),
            "p99": round(percentile(times, 99), 3),
            "max": round(max(times), 3),
        }
        sys.stderr.write(json.dumps(found["failover_s"]) + "\n")
        found["transfer"] = trio.run(handover, ours, 3 if given.quick else 20)
    finally:
        ours.stop()
        shutil.rmtree(directory, ignore_errors=True)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
