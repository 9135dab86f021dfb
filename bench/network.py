"""The network of containers beside a plain pair of links, and how long its filter takes to change.

    python bench/network.py [--rounds 5] [--seconds 3] [--rules 1000] [--json]

`throughput` = iperf3 over TCP between two containers of one node, with a grant, through the node's
packet filter; its peer is iperf3 between two network namespaces joined by a plain veth pair, in
turns with it.  `1,000 rules` = from asking until the kernel has that many more paths, in one
transaction, and until it has none of them.  Needs root, iperf3 and nft; leaves nothing behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.figures import Figure, machine, spread
from paas.container.engine import Engine
from paas.container.messages import ContainerSpec, Limits
from paas.container.settings import ContainerSettings
from paas.real.clock import SystemClock

PORT = 8000
RATIO_BAR = 0.9
RULES_BAR_MS = 200.0


def enter(namespace: str, *words: str) -> list[str]:
    return ["nsenter", f"--net={namespace}", *words]


@contextlib.contextmanager
def serving(namespace: str, address: str) -> Iterator[None]:
    """An iperf3 server in a network namespace."""
    server = subprocess.Popen(
        enter(namespace, "iperf3", "-s", "-B", address, "-p", str(PORT), "--forceflush"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if "listening" in line:
                break
        yield
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def measure(namespace: str, address: str, seconds: float) -> float:
    """Gigabits a second that arrive there."""
    words = ["iperf3", "-c", address, "-p", str(PORT), "-t", str(seconds), "-O", "1", "-J"]
    done = subprocess.run(enter(namespace, *words), capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


@contextlib.contextmanager
def plain_pair() -> Iterator[tuple[str, str, str]]:
    """Two namespaces and a pair of links; (client, server, address of the server)."""
    names = [f"bench-{os.getpid()}-{end}" for end in ("a", "b")]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        pair = ["ip", "link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name"]
        subprocess.run([*pair, "eth0", "netns", names[1]], check=True)
        for number, name in enumerate(names, 1):
            address = f"192.0.2.{number}/24"
            subprocess.run(["ip", "-n", name, "addr", "add", address, "dev", "eth0"], check=True)
            for link in ("lo", "eth0"):
                subprocess.run(["ip", "-n", name, "link", "set", link, "up"], check=True)
        yield f"/run/netns/{names[0]}", f"/run/netns/{names[1]}", "192.0.2.2"
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def settings(folder: str) -> ContainerSettings:
    mark = f"{os.getpid():x}"
    return ContainerSettings(
        cluster=f"bench{mark}",
        state_dir=f"{folder}/state",
        bridge=f"bn{mark}",
        link_prefix=f"vn{mark}"[:10],
        network="10.127.248.0/21",
        harness="bench.container:init",
    )


def spec(folder: str, number: int, **more: Any) -> ContainerSpec:
    return ContainerSpec(
        component=f"{number:040x}",
        command=("/usr/bin/sleep", "600"),
        bundle_dir=f"{folder}/bundle",
        hub_dir=f"{folder}/hub",
        limits=Limits(memory_bytes=32 << 20, cpu=1.0, pids=16, disk_bytes=8 << 20),
        **more,
    )


async def throughput(
    engine: Engine, folder: str, rounds: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Ours and the plain pair's, in turns."""
    client = await engine.start(spec(folder, 1))
    server = await engine.start(spec(folder, 2, endpoints={"perf": "tcp"}))
    await engine.paths.grant(client.component, server.component, PORT)
    ours: list[float] = []
    plain: list[float] = []

    def run() -> None:
        inside = [f"/proc/{started.pid}/ns/net" for started in (client, server)]
        with (
            plain_pair() as (a, b, address),
            serving(b, address),
            serving(inside[1], server.address),
        ):
            for _ in range(rounds):
                ours.append(measure(inside[0], server.address, seconds))
                plain.append(measure(a, address, seconds))

    await trio.to_thread.run_sync(run)
    return ours, plain


async def rules(engine: Engine, rounds: int, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds to open so many paths and to close them."""
    firewall = engine.ready().firewall
    paths = [(f"10.127.248.{n % 250 + 2}", f"10.127.249.{n // 250}", "tcp", n) for n in
             range(1, count + 1)]  # fmt: skip
    opened: list[float] = []
    closed: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await firewall.grant(*paths)
        opened.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        await firewall.revoke(*paths)
        closed.append((time.perf_counter() - begun) * 1000)
    return opened, closed


@contextlib.contextmanager
def working_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name in ("bundle", "hub"):
            Path(folder, name).mkdir()
        yield folder


async def run(arguments: argparse.Namespace, folder: str) -> list[Figure]:
    engine = Engine(settings(folder), clock=SystemClock(), on_exit=lambda exited: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        try:
            ours, plain = await throughput(engine, folder, arguments.rounds, arguments.seconds)
            opened, closed = await rules(engine, arguments.rounds, arguments.rules)
        finally:
            await engine.teardown_node()
            nursery.cancel_scope.cancel()
    return [
        Figure(
            what="network: two containers of one node, TCP",
            value=round(statistics.median(ours), 2),
            unit="Gbit/s",
            higher=True,
            peer=round(statistics.median(plain), 2),
            peer_name="a plain veth pair",
            ratio_bar=RATIO_BAR,
            samples=spread(ours),
        ),
        Figure(
            what=f"network: {arguments.rules:,} paths more in the packet filter",
            value=round(statistics.median(opened), 1),
            unit="ms",
            bar=RULES_BAR_MS,
            samples=spread(opened),
        ),
        Figure(
            what=f"network: {arguments.rules:,} paths fewer in the packet filter",
            value=round(statistics.median(closed), 1),
            unit="ms",
            bar=RULES_BAR_MS,
            samples=spread(closed),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rules", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with working_folder() as folder:
        found = trio.run(run, arguments, folder)
    if arguments.json:
        plain = {"machine": machine(), "figures": [f.to_plain() for f in found]}
        sys.stdout.write(json.dumps(plain) + "\n")
        return
    for figure in found:
        ratio = f", {figure.ratio:.2f} x {figure.peer_name}" if figure.ratio else ""
        sys.stdout.write(f"{figure.what}: {figure.value} {figure.unit}{ratio}\n")


if __name__ == "__main__":
    main()
