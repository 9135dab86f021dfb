"""Attachments between nodes: read where they are not, while hubs are killed, after a node's end."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

CARRIER = Path(__file__).resolve().parents[3] / "bench" / "components" / "carrier"
MIB = 1 << 20
LARGE = 50 * MIB
HUB_GROWTH_MIB = 48
"""An attachment of 50 MiB must not be in a hub's memory as a whole."""


@pytest.fixture(scope="module")
def kind(shared: DevCluster) -> str:
    return shared.push(CARRIER)


def spread(cluster: DevCluster, kind: str) -> dict[str, str]:
    """A carrier on each node, by the node's name."""
    return {n: cluster.create(kind, constraints=[f"node={n}"]) for n in cluster.names}


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has gone")


def test_each_node_reads_what_another_has(cluster: DevCluster, kind: str) -> None:
    carriers = spread(cluster, kind)
    for number, sender in enumerate(cluster.names):
        receiver = cluster.names[(number + 1) % len(cluster.names)]
        sent: dict[str, Any] = {"target": carriers[receiver], "bytes": 10 * MIB, "seed": number}
        done = cluster.call(carriers[sender], "send", **sent)
        assert done["outputs"]["sha256"] == done["right"]
        done = cluster.call(carriers[sender], "get", **sent)
        assert done["sha256"] == done["right"]


def test_a_large_one_goes_through_little_memory_of_both_hubs(
    cluster: DevCluster, kind: str
) -> None:
    carriers = spread(cluster, kind)
    a, b = (carriers[node] for node in cluster.names[:2])
    cluster.call(a, "send", target=b, bytes=2 * MIB, seed=1)  # what is loaded at first use
    pids = [cluster.agents(node)["hub"] for node in cluster.names[:2]]
    before = [resident_mib(pid) for pid in pids]
    most = list(before)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            for place, pid in enumerate(pids):
                most[place] = max(most[place], resident_mib(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        done = cluster.call(a, "send", target=b, bytes=LARGE, seed=2)
    finally:
        ended.set()
        watching.join()
    assert (done["outputs"]["size"], done["outputs"]["sha256"]) == (LARGE, done["right"])
    for had, has in zip(before, most, strict=True):
        assert has - had < HUB_GROWTH_MIB


@pytest.mark.parametrize("whose", ["sender", "receiver"])
def test_a_hub_is_killed_while_it_is_read(cluster: DevCluster, kind: str, whose: str) -> None:
    """The kill comes in the middle or beside it; what was stored is whole afterwards."""
    carriers = spread(cluster, kind)
    here, there = cluster.names[:2]
    a, b = carriers[here], carriers[there]
    done = cluster.call(a, "send", target=b, operation="keep", bytes=12 * MIB, seed=3)
    found: list[str | None] = []
    reading = threading.Thread(target=lambda: found.append(kept_elsewhere(cluster, b)))
    reading.start()
    time.sleep(0.1)
    cluster.kill_agents(here if whose == "sender" else there, "hub")
    reading.join()
    assert found[0] in (None, done["right"])
    assert cluster.until(lambda: cluster.call(b, "read_kept")["sha256"]) == done["right"]


def kept_elsewhere(cluster: DevCluster, component: str) -> str | None:
    """The digest of what it was sent before, None if it could not be read; asked of the node that
    nobody hurts, over a connection of this thread's own.
    """
    node = cluster.names[2]
    listener = cluster.listen(node)
    try:
        answer = listener.ask("hub.call", target=component, operation="read_kept")
        return str(answer["outputs"]["sha256"])
    except PlatformError:
        return None
    finally:
        listener.close()


def test_what_was_on_a_lost_node_is_said_to_be_there_and_nothing_else_suffers(
    cluster: DevCluster, kind: str
) -> None:
    carriers = spread(cluster, kind)
    lost, there, other = cluster.names
    done = cluster.call(
        carriers[lost], "send", target=carriers[there], operation="keep", bytes=5 * MIB, seed=4
    )
    item = done["outputs"]
    assert item["node"] == lost
    cluster.kill(lost)
    node = next(name for name in (there, other))
    place = {name: item[name] for name in ("blob", "key", "node")}
    with pytest.raises(PlatformError) as caught:
        cluster.at(node, "blob.read", timeout_s=60, **place)
    assert caught.value.code in ("not-available", "timeout")
    done = cluster.until(
        lambda: cluster.call(
            carriers[there], "send", node=there, target=carriers[other], bytes=5 * MIB, seed=5
        )
    )
    assert done["outputs"]["sha256"] == done["right"]
