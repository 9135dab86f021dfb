"""While clients write all the time: an observer takes the place of a lost voter, bundles survive.

Four nodes: three vote, one observes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.cli.connection import Connection, connect
from paas.testing.dev_cluster import DevCluster, dev_cluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ACTOR = "actor@1.0.0"
SOURCE = Path(__file__).parent / "components" / "actor"
TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def shared() -> Iterator[DevCluster]:
    with dev_cluster(4) as one:
        one.push(SOURCE)
        yield one


def named(cluster: DevCluster, *roles: str) -> list[str]:
    return sorted(name for name, facts in cluster.nodes().items() if facts["role"] in roles)


def voters(cluster: DevCluster) -> list[str]:
    return named(cluster, "leader", "voter")


class Writer(threading.Thread):
    """Registers one type after the other at one hub, and knows which were acknowledged."""

    def __init__(self, cluster: DevCluster, node: str, number: int, kind: dict[str, Any]) -> None:
        super().__init__()
        self.done: list[str] = []
        self.node = node
        self.stop = threading.Event()
        self._cluster, self._number, self._kind = cluster, number, kind
        self._connection: Connection | None = None

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            count += 1
            name = f"load-{self._number}-{count}"
            if self._register(name):
                self.done.append(f"{name}@1.0.0")
            time.sleep(0.005)
        if self._connection is not None:
            self._connection.close()

    def _register(self, name: str) -> bool:
        manifest = self._kind["manifest"]
        component = {**manifest["component"], "name": name}
        params = {
            "bundle": self._kind["bundle"],
            "manifest": {**manifest, "component": component},
        }
        try:
            if self._connection is None:
                socket = self._cluster.socket(self.node)
                self._connection = connect(socket, expected=False, timeout_s=TIMEOUT_S)
            self._connection.call("controller.register_type", params, timeout_s=TIMEOUT_S)
        except PlatformError:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return False
        return True


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_an_observer_takes_the_place_of_a_voter_that_is_lost_under_load(
    cluster: DevCluster, leads: bool
) -> None:
    cluster.until(lambda: len(voters(cluster)) == 3 and len(named(cluster, "observer")) == 1)
    (spare,) = named(cluster, "observer")
    leader = cluster.leader()
    victim = leader if leads else next(name for name in voters(cluster) if name != leader)
    kind = cluster.api("controller.type", type=ACTOR)
    staying = [name for name in cluster.names if name != victim]
    writers = [Writer(cluster, node, 2 * n + leads, kind) for n, node in enumerate(staying)]
    for writer in writers:
        writer.start()
    try:
        cluster.until(lambda: all(len(writer.done) > 10 for writer in writers))
        cluster.kill(victim)
        cluster.until(lambda: spare in voters(cluster) and victim not in voters(cluster))
        # Its vote counts: without a second one of the former three the writing goes on.
        second = next(n for n in voters(cluster) if n not in (spare, cluster.leader()))
        cluster.kill(second)
        going = [w for w in writers if w.node != second]
        before = [len(writer.done) for writer in going]
        cluster.until(lambda: all(len(w.done) > n + 20 for w, n in zip(going, before, strict=True)))
    finally:
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join(60)
    cluster.calm()
    acknowledged = {name for writer in writers for name in writer.done}
    assert len(acknowledged) > 100
    for node in cluster.names:
        known = {one["type"] for one in cluster.at(node, "controller.types")["types"]}
        assert acknowledged <= known
    for name in acknowledged:
        cluster.api("controller.unregister_type", type=name)


def test_a_bundle_survives_the_loss_of_the_node_that_it_was_pushed_to(
    cluster: DevCluster,
) -> None:
    victim = next(name for name in cluster.names if name != cluster.leader())
    source = cluster.source(
        "precious", {"run.sh": "exec sleep 600\n"}, ["/bin/sh", "run.sh"], protocol="none"
    )
    kind = cluster.push(source, node=victim)
    cluster.kill(victim)
    for node in cluster.names:
        if node != victim:
            made = cluster.create(kind, constraints=[f"node={node}"], timeout_s=60)
            assert cluster.available(made) == node
