"""Attachments beyond a message: MiB a second into and out of the platform, and memory.

    python bench/attachments.py            one node, both codecs; then between two of three nodes
    python bench/attachments.py --one      without the nodes
    python bench/attachments.py --json     the figures as one JSON object

A component makes bytes as it sends them (`component.attach`), calls another one, and that one saves
them to a file: the figures are those of the SDK, harness, hub and disk together.  "Read far" is the
first read on another node, fetched meanwhile; "read copy" a second one of the same attachment.
Memory is the most that the hub's resident set grew by.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import socket
import statistics
import sys
import threading
from pathlib import Path
from typing import Any

from bench.cluster import COMPONENTS, Client, Cluster
from paas.testing.dev_cluster import dev_cluster

MIB = 1 << 20


class Growth:
    """How much a process's resident memory grows, at most."""

    def __init__(self, pid: int) -> None:
        self._file = Path(f"/proc/{pid}/status")
        self.before = self.most = self._mib()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _mib(self) -> float:
        for line in self._file.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def _run(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, self._mib())

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def carrier(folder: Path, name: str) -> Path:
    """The source of a carrier that speaks this codec."""
    source = folder / f"carrier-{name}"
    shutil.copytree(COMPONENTS / "carrier", source, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = source / "component.toml"
    text = manifest.read_text().replace('"json"', f'"{name}"')
    manifest.write_text(text.replace('name = "carrier"', f'name = "carrier-{name}"'))
    if name == "msgpack":
        found = importlib.util.find_spec("msgpack")
        assert found is not None
        assert found.origin is not None
        shutil.copytree(Path(found.origin).parent, source / "msgpack")
    return source


def hub_of(runtime: str) -> int:
    """The process of the hub that listens there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(f"{runtime}/api.sock")
    pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
    sock.close()
    return pid


def send(client: Client, sender: str, receiver: str, size: int, seed: int) -> dict[str, Any]:
    inputs = {"target": receiver, "bytes": size, "seed": seed, "timeout": 120}
    answer = client.call(
        "hub.call", target=sender, operation="send", inputs=inputs, timeout=150, patience_s=160
    )["outputs"]
    assert answer["outputs"]["sha256"] == answer["right"]
    return {
        "store": size / MIB / answer["stored_s"],
        "read": size / MIB / answer["outputs"]["took_s"],
    }


def one_node(size: int, runs: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    with Cluster() as cluster, cluster.client() as client:
        for name in ("json", "msgpack"):
            kind = cluster.push(carrier(cluster.folder, name))
            a, b = client.call("controller.create", type=kind, count=2)["components"]
            send(client, a, b, 2 * MIB, 0)
            with Growth(hub_of(cluster.runtime)) as hub:
                found = [send(client, a, b, size, run) for run in range(1, runs + 1)]
            for what in ("store", "read"):
                rate = statistics.median(one[what] for one in found)
                figures[f"{name}_{what}_mib_per_s"] = rate
            figures[f"{name}_hub_grew_mib"] = hub.most - hub.before
            for component in (a, b):  # what it stored need not wait for its quota
                client.call("controller.destroy", component=component, grace=0.0)
    return figures


def between_nodes(size: int, runs: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    with dev_cluster(3) as cluster:
        kind = cluster.push(carrier(cluster.folder, "msgpack"))
        a = cluster.create(kind, constraints=["node=n1"])
        b = cluster.create(kind, constraints=["node=n2"])
        client = Client(cluster.socket("n1"))
        send(client, a, b, 2 * MIB, 0)
        pid = hub_of(str(Path(cluster.socket("n2")).parent))
        with Growth(pid) as hub:
            far = [send(client, a, b, size, run)["read"] for run in range(1, runs + 1)]
            copies = [send(client, a, b, size, run)["read"] for run in range(1, runs + 1)]
        figures["far_read_mib_per_s"] = statistics.median(far)
        figures["far_read_copy_mib_per_s"] = statistics.median(copies)
        figures["far_hub_grew_mib"] = hub.most - hub.before
        client.close()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure attachments beyond a message.")
    parser.add_argument("--quick", action="store_true", help="smaller ones, fewer times")
    parser.add_argument("--one", action="store_true", help="on one node only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    size, runs = (10 * MIB, 2) if given.quick else (50 * MIB, 3)
    figures = one_node(size, runs)
    if not given.one:
        figures |= between_nodes(size, runs)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        for name, value in figures.items():
            sys.stdout.write(f"{name:<34} {value:,.1f}\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
