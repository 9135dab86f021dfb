"""Attachments beyond a message: MiB a second into and out of the platform, and memory.

    python -m bench attachments            one node, both codecs; then between two of three nodes

A component makes bytes as it sends them (`component.attach`), calls another one, and that one saves
them to a file: the figures are those of the SDK, harness, hub and disk together.  The first read on
another node is fetched meanwhile; a second one of the same attachment finds a copy.  Memory is the
most that the hub's resident set grew by, beyond what it had after a first small one.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

from bench.cluster import COMPONENTS, Client, Cluster
from bench.figures import Figure, spread
from paas.testing.dev_cluster import dev_cluster

MIB = 1 << 20

GROWTH_BAR_MIB = 48.0
"""An attachment of 40 MiB must not be in anybody's memory as a whole."""


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


def attachments(quick: bool) -> list[Figure]:
    """All of it."""
    size, runs = (10 * MIB, 3) if quick else (40 * MIB, 5)  # all within the sender's quota
    return one_node(size, runs) + between_nodes(size, runs)


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


def _rate(what: str, values: list[float], size: int) -> Figure:
    samples = spread(values)
    note = f"{size // MIB} MiB each"
    return Figure(
        what=what, value=samples["p50"], unit="MiB/s", higher=True, samples=samples, note=note
    )


def _memory(what: str, growth: Growth) -> Figure:
    grown = growth.most - growth.before
    return Figure(what=what, value=round(grown, 1), unit="MiB", bar=GROWTH_BAR_MIB)


def one_node(size: int, runs: int) -> list[Figure]:
    figures = []
    with Cluster() as cluster, cluster.client() as client:
        for name in ("json", "msgpack"):
            kind = cluster.push(carrier(cluster.folder, name))
            a, b = client.call("controller.create", type=kind, count=2)["components"]
            send(client, a, b, 2 * MIB, 0)
            with Growth(hub_of(cluster.runtime)) as hub:
                found = [send(client, a, b, size, run) for run in range(1, runs + 1)]
            for what in ("store", "read"):
                rates = [one[what] for one in found]
                figures.append(_rate(f"attachment, same node, {name}: {what}", rates, size))
            figures.append(_memory(f"attachment, same node, {name}: hub grew by", hub))
            for component in (a, b):  # what it stored need not wait for its quota
                client.call("controller.destroy", component=component, grace=0.0)
    return figures


def between_nodes(size: int, runs: int) -> list[Figure]:
    with dev_cluster(3) as cluster:
        kind = cluster.push(carrier(cluster.folder, "msgpack"))
        a = cluster.create(kind, constraints=["node=n1"])
        b = cluster.create(kind, constraints=["node=n2"])
        client = Client(cluster.socket("n1"))
        send(client, a, b, 2 * MIB, 0)
        pid = hub_of(str(Path(cluster.socket("n2")).parent))
        far, copies = [], []
        with Growth(pid) as hub:
            for run in range(1, runs + 1):
                # The same bytes again while the copy is there: it goes a minute after its last use.
                far.append(send(client, a, b, size, run)["read"])
                copies.append(send(client, a, b, size, run)["read"])
        client.close()
    return [
        _rate("attachment, other node, msgpack: first read", far, size),
        _rate("attachment, other node, msgpack: read of the copy", copies, size),
        _memory("attachment, other node, msgpack: reading hub grew by", hub),
    ]
