"""Ownership of virtual nodes moves all the time while components are created: no decision is lost.

A component without a node is placed by the primary of its virtual node (docs/internals/cluster.md).
When that one is lost, or others join, somebody else has to know that it is his now.
"""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.base.ids import VIRTUAL_NODES
from paas.controller.lifecycle import ComponentState as S
from paas.testing.controlled_node import ControlledCluster

NAMES = ("n1", "n2", "n3", "n4")
MOVES = 16
CERTAIN = ("not-available", "unavailable", "no-placement", "conflict", "timeout")


class Load:
    """Clients that create, at whichever node answers, and remember what was acknowledged."""

    def __init__(self, cluster: ControlledCluster, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.made: list[str] = []
        self.refused: list[str] = []
        self.stopped = False

    async def create(self) -> None:
        while not self.stopped:
            node = self.random.choice([n for n in self.cluster.nodes.values() if n.view.connected])
            try:
                made = await node.create(wait="accepted", timeout_s=5)
                self.made.extend(made)
            except PlatformError as error:
                self.refused.append(error.code)
            await trio.sleep(self.random.uniform(0.05, 0.4))


def epochs(cluster: ControlledCluster) -> list[int]:
    """Since when each virtual node has the primary that it has."""
    ring = cluster.common.ring
    assert ring is not None
    return [ring.epoch(number) for number in range(VIRTUAL_NODES)]


@pytest.mark.parametrize("seed", range(3))
async def test_all_that_was_acknowledged_is_placed_once_whoever_holds_the_ring(
    autojump_clock: MockClock, nursery: trio.Nursery, seed: int
) -> None:
    cluster = ControlledCluster(nursery, NAMES, seed=seed, memory_bytes=1 << 40)
    await cluster.start()
    await cluster["n1"].register()
    before = epochs(cluster)
    load = Load(cluster, seed)
    async with trio.open_nursery() as clients:
        for _ in range(6):
            clients.start_soon(load.create)
        for _ in range(MOVES):
            # Its components, and those that it was about to place, are others' now.
            victim = load.random.choice(["n2", "n3", "n4"])
            await trio.sleep(load.random.uniform(0.1, 1.0))
            await cluster.lose(victim)
            await trio.sleep(load.random.uniform(0.1, 1.0))
            await cluster.come_back(victim)
        load.stopped = True
    moved = [a for a, b in zip(before, epochs(cluster), strict=True) if a != b]
    assert len(moved) > VIRTUAL_NODES // 4
    assert len(load.made) > 50
    assert set(load.refused) <= set(CERTAIN)
    for component in load.made:
        await cluster["n1"].wait_state(component, S.AVAILABLE)
    await trio.sleep(5)
    running = cluster.running()
    assert {c: len(running[c]) for c in load.made} == dict.fromkeys(load.made, 1)
    assert all(running[c] == [cluster["n1"].get(c).node] for c in load.made)
    living = {i.id for i in cluster["n1"].state.instances if not i.ended}
    assert set(running) == living  # nothing that nobody knows of
    assert not cluster.bugs
