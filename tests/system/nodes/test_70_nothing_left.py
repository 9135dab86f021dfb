"""A cluster of several nodes that was hurt in every way leaves nothing behind when it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from paas.testing.dev_cluster import DevCluster, dev_cluster
from paas.testing.leftovers import picture

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SOURCE = Path(__file__).parent / "components" / "actor"


def test_nothing_is_left_of_a_cluster_that_ends_in_pieces() -> None:
    with dev_cluster(3) as cluster:
        state = str(cluster.state)
        assert any(line.startswith("link ") for line in picture(state))
        kind = cluster.push(SOURCE)
        cluster.api("controller.create", type=kind, count=6, timeout_s=60)
        hurt(cluster)
    assert picture(state) == set()
    assert not cluster.folder.exists()


def hurt(cluster: DevCluster) -> None:
    cluster.partition("n1|n2,n3")
    cluster.kill("n2")
    cluster.kill_agents("n1", "hub", "containers")
    cluster.pause("n3")
