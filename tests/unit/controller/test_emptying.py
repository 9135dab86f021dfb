"""A node is emptied, on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import limits, messages
from paas.controller.commands import EndInstance, MoveInstance
from paas.controller.lifecycle import ComponentState as S
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode
from paas.testing.controlled_node import ControlledCluster
from paas.testing.fake_containers import Behaviour


async def drain(cluster: ControlledCluster, by: str, name: str, **fields: Any) -> messages.Drained:
    timeout_s = fields.pop("timeout_s", 60.0)
    params = messages.DrainNode(node=name, **fields)
    return await cluster[by].api.drain(params, cluster[by].context(timeout_s=timeout_s))


async def test_a_drained_node_is_empty_and_its_components_are_elsewhere(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=30, groups=["g"])
    for component in created:
        cluster["n1"].get(component)
    answer = await drain(cluster, "n1", "n2", grace=3)
    assert (answer.left, answer.components) == (0, {})
    await trio.sleep(5)
    for component in created:
        instance = cluster["n1"].get(component)
        assert (instance.state, instance.restarts) == (S.AVAILABLE, 0)
        assert instance.node in ("n1", "n3")
        assert all(end.reason == "moved" for end in cluster["n1"].ends(component))
    assert not cluster["n2"].containers.table
    assert sorted(cluster["n1"].groups.members("g")) == sorted(created)
    assert {grace for _, grace in cluster["n2"].harnesses.stops} == {3}


async def test_a_drain_moves_a_few_at_a_time_and_never_runs_two_copies(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    for node in cluster.nodes.values():
        node.now = Behaviour(stop_s=1.0, ready_after_s=1.0)
    created = await cluster["n1"].create(count=30)
    fewest = len(created)

    async def watch() -> None:
        nonlocal fewest
        while True:
            assert all(len(nodes) == 1 for nodes in cluster.running().values())
            states = [cluster["n1"].get(c).state for c in created]
            fewest = min(fewest, states.count(S.AVAILABLE))
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        assert (await drain(cluster, "n3", "n1")).left == 0
        nursery.cancel_scope.cancel()
    assert fewest >= 30 - limits.MOVES_MAX


async def test_a_drain_goes_on_when_its_caller_is_gone_and_over_a_restart(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n2"].now = Behaviour(stop_s=2.0)
    created = await cluster["n1"].create(count=30)
    with trio.move_on_after(1):
        await drain(cluster, "n1", "n2")
    assert cluster["n1"].state.loads.count("n2")
    await cluster["n2"].stop_controller()
    cluster["n2"]._make_controller()
    await cluster["n2"].start()
    await trio.sleep(60)
    assert not cluster["n1"].state.loads.count("n2")
    assert all(cluster["n1"].get(c).state is S.AVAILABLE for c in created)


async def test_a_drain_says_at_the_deadline_what_is_left_and_why(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [pinned] = await cluster["n1"].create(constraints=["node=n2"])
    answer = await drain(cluster, "n1", "n2", timeout_s=5)
    assert answer.left == 1
    assert "constraint node=n2 does not hold" in answer.components[pinned]
    assert cluster["n1"].get(pinned).state is S.AVAILABLE
    assert cluster["n1"].get(pinned).incarnation == 1


async def test_a_drain_ends_when_the_node_takes_components_again(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    await cluster["n1"].create(constraints=["node=n2"])
    await drain(cluster, "n1", "n2", timeout_s=5)
    uncordon = ChangeNode(node="n2", event=NodeEvent.MARK_AVAILABLE)
    await cluster["n1"].log.propose(uncordon)
    assert not cluster["n1"].state.drains
    await cluster["n1"].create(count=6)
    await trio.sleep(10)
    assert cluster["n1"].state.loads.count("n2") == 2  # of seven on three nodes


async def test_a_component_that_is_destroyed_while_it_moves_stays_destroyed(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].now = Behaviour(stop_s=5)
    [component] = await cluster.on_node("n3")
    order = MoveInstance(component=component, incarnation=1, node="n3", grace_s=60)
    await cluster["n1"].log.propose(order)
    assert cluster["n1"].get(component).state is S.STOPPING
    await cluster["n1"].log.propose(EndInstance(component=component, grace_s=60))
    assert (await cluster["n1"].wait_state(component, S.DESTROYED)).reason == "destroyed"


async def test_a_node_that_is_lost_while_it_is_drained_is_done_with(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].now = Behaviour(hangs=True, stop_s=1_000)
    created = await cluster["n1"].create(count=9)
    with trio.move_on_after(2):
        await drain(cluster, "n1", "n3", grace=600)
    await cluster.lose("n3")
    for component in created:
        await cluster["n1"].wait_state(component, S.AVAILABLE)
        assert cluster["n1"].get(component).node != "n3"
    assert not cluster["n1"].state.drains


async def test_an_unknown_node_cannot_be_drained(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    with pytest.raises(PlatformError) as caught:
        await drain(cluster, "n1", "n9")
    assert caught.value.code == "no-such-target"
