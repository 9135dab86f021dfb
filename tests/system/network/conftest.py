"""One cluster of three nodes for the tests between nodes; each finds it whole and empty."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.testing.dev_cluster import DevCluster, dev_cluster

PEER = Path(__file__).parent / "components" / "peer"
PEER_TYPE = "peer@1.0.0"


class Networked:
    """A cluster, and what the packet filters and routes of its machines say."""

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster

    def create(self, node: str, **more: Any) -> str:
        return self.cluster.create(PEER_TYPE, constraints=[f"node={node}"], **more)

    def resolve(self, component: str) -> list[dict[str, Any]]:
        answer = self.cluster.call(
            component, "request", method="resource.resolve", params={"name": "store"}
        )
        endpoints: list[dict[str, Any]] = answer["endpoints"]
        return endpoints

    def reach(self, component: str, endpoint: dict[str, Any], **more: Any) -> dict[str, Any]:
        where = {"host": endpoint["host"], "port": endpoint["port"], **more}
        answer: dict[str, Any] = self.cluster.call(component, "reach", **where)
        return answer

    def endpoint(self, component: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.component(component)["endpoints"]["http"]
        return found

    def inside(self, node: str, *command: str) -> str:
        """What a command says that is run in the network of this machine."""
        network = self.cluster.machine(node).network
        done = subprocess.run(
            ["nsenter", f"--net={network}", *command], capture_output=True, text=True, check=True
        )
        return done.stdout

    def grants(self, node: str) -> list[list[Any]]:
        """(source, target, protocol, port) that the filter of this node lets pass."""
        listed = json.loads(self.inside(node, "nft", "-j", "list", "sets"))["nftables"]
        found: list[list[Any]] = []
        for item in listed:
            if item.get("set", {}).get("name") == "grants":
                found += [element["concat"] for element in item["set"].get("elem", [])]
        return found


@pytest.fixture(scope="module")
def shared() -> Iterator[DevCluster]:
    with dev_cluster(3) as one:
        assert one.push(PEER) == PEER_TYPE
        yield one


@pytest.fixture
def world(shared: DevCluster) -> Networked:
    """Nothing of the tests before is left."""
    shared.calm()
    shared.destroy_all()
    return Networked(shared)
