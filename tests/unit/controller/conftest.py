"""Controlled nodes on virtual time.  Tests that want one must name `autojump_clock` first."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paas.testing.controlled_node import ControlledCluster, ControlledNode


@pytest.fixture
async def node(autojump_clock: MockClock, nursery: trio.Nursery) -> ControlledNode:
    made = ControlledNode(nursery)
    await made.start()
    return made


@pytest.fixture
async def cluster(autojump_clock: MockClock, nursery: trio.Nursery) -> ControlledCluster:
    made = ControlledCluster(nursery)
    await made.start()
    await made["n1"].register()
    return made
