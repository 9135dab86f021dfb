"""One cluster of three nodes for all tests of a file; each test finds it whole and empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paas.testing.dev_cluster import DevCluster, dev_cluster

ACTOR = Path(__file__).parent / "components" / "actor"
ACTOR_TYPE = "actor@1.0.0"


@pytest.fixture(scope="module")
def shared() -> Iterator[DevCluster]:
    with dev_cluster(3) as one:
        assert one.push(ACTOR) == ACTOR_TYPE
        yield one


@pytest.fixture
def cluster(shared: DevCluster) -> DevCluster:
    """Nothing of the tests before is left: all nodes are available, no component is there."""
    shared.calm()
    shared.destroy_all()
    return shared
