"""A controlled node on virtual time.  Tests that want it must name `autojump_clock` first."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paas.testing.controlled_node import ControlledNode


@pytest.fixture
async def node(autojump_clock: MockClock, nursery: trio.Nursery) -> ControlledNode:
    made = ControlledNode(nursery)
    await made.start()
    return made
