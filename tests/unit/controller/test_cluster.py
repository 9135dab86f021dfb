"""Several nodes on virtual time: loss, placing, return."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import limits, messages
from paas.controller.lifecycle import ComponentState as S
from paas.testing.controlled_node import ControlledCluster
from paas.testing.fake_containers import Behaviour

# -- loss and placing -----------------------------------------------------------------------------


async def test_components_are_spread_over_the_nodes(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=6)
    nodes = [cluster["n1"].get(c).node for c in created]
    assert sorted(nodes) == ["n1", "n1", "n2", "n2", "n3", "n3"]
    assert cluster.running() == {c: [node] for c, node in zip(created, nodes, strict=True)}


async def test_components_of_a_lost_node_run_elsewhere_soon(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=9, groups=["g"])
    lost = [c for c in created if cluster["n1"].get(c).node == "n3"]
    begin_s = trio.current_time()
    await cluster.lose("n3")
    for component in lost:
        instance = await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
        assert instance.node in ("n1", "n2")
        assert (instance.restarts, instance.reason) == (1, "node-lost")
        [end] = cluster["n1"].ends(component)
        assert (end.incarnation, end.reason, end.will_restart) == (1, "node-lost", True)
    assert trio.current_time() - begin_s < 0.5
    assert sorted(cluster["n1"].groups.members("g")) == sorted(created)
    assert all(len(nodes) == 1 for nodes in cluster.running().values())
    assert not cluster.bugs


async def test_a_temporary_component_ends_with_its_node(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster.on_node("n3", restart="temporary", name="job")
    await cluster.lose("n3")
    instance = cluster["n1"].get(component)
    assert (instance.state, instance.reason) == (S.DESTROYED, "node-lost")
    assert cluster["n1"].state.instances.holder(instance.name) is None


async def test_without_room_a_component_waits_and_says_why(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = ControlledCluster(nursery, ["n1", "n2"], memory_bytes=64 << 20)
    await cluster.start()
    await cluster["n1"].register()
    created = await cluster["n1"].create(count=8)
    await cluster.lose("n2")
    await trio.sleep(10)
    waiting = [c for c in created if cluster["n1"].get(c).state is S.PREPARING]
    assert len(waiting) == 4
    listed = await cluster["n1"].api.components(
        messages.ListComponents(filter={"node": ""}), cluster["n1"].context()
    )
    assert [info.id for info in listed.components] == waiting
    for info in listed.components:
        assert info.reason.startswith("no-placement: ")
        assert "memory" in info.reason
        assert "n2: offline" in info.reason
    gone = next(c for c in created if c not in waiting)
    await cluster["n1"].destroy(gone)
    await trio.sleep(limits.PLACING_RETRY_S / 2)
    assert len([c for c in waiting if cluster["n1"].get(c).state is S.PREPARING]) == 3
    await cluster.come_back("n2")
    for component in waiting:
        assert (await cluster["n1"].wait_state(component, S.AVAILABLE)).unplaced == ""
    assert not cluster.bugs


async def test_one_that_waits_for_a_node_can_be_destroyed(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(constraints=["node=n3"])
    await cluster.lose("n3")
    await trio.sleep(5)
    assert cluster["n1"].get(created[0]).unplaced.startswith("no-placement: ")
    await cluster["n1"].destroy(created[0])
    assert cluster["n1"].get(created[0]).state is S.DESTROYED


async def test_a_crash_of_the_primary_leaves_placing_to_the_next_one(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=9)
    await cluster["n2"].stop_controller()
    await cluster.lose("n3")
    await trio.sleep(5)
    still = [c for c in created if not cluster["n1"].get(c).node]
    assert still  # those that the stopped hub of n2 decides about
    await cluster.lose("n2")
    for component in created:
        await cluster["n1"].wait_state(component, S.AVAILABLE)
        assert cluster["n1"].get(component).node == "n1"


async def test_creates_from_two_hubs_at_once_never_overfill_a_node(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    cluster = ControlledCluster(nursery, ["n1", "n2", "n3"], memory_bytes=64 << 20)
    await cluster.start()
    await cluster["n1"].register()
    made: list[str] = []
    refused: list[str] = []

    async def create(name: str) -> None:
        try:
            made.extend(await cluster[name].create())
        except PlatformError as error:
            refused.append(error.code)

    async with trio.open_nursery() as several:
        for number in range(20):
            several.start_soon(create, f"n{number % 3 + 1}")
    assert len(made) == 12
    assert set(refused) <= {"no-placement", "conflict"}
    state = cluster["n1"].state
    assert [state.loads.count(name) for name in cluster.nodes] == [4, 4, 4]


# -- return ---------------------------------------------------------------------------------------


async def test_a_returning_node_removes_what_runs_elsewhere_by_now(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=6)
    there = [c for c in created if cluster["n1"].get(c).node == "n3"]
    await cluster.lose("n3")
    for component in there:
        await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    assert sorted(cluster["n3"].containers.table) == sorted(there)
    await cluster.come_back("n3")
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert all(cluster["n1"].get(c).incarnation == 2 for c in there)
    assert all(len(nodes) == 1 for nodes in cluster.running().values())
    await cluster["n1"].create(count=3)
    assert len(cluster["n3"].containers.running()) >= 1
    assert not cluster.bugs


async def test_a_returning_node_whose_hub_started_anew_removes_orphans(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    moved, gone = await cluster.on_node("n3", count=2)
    await cluster["n3"].stop_controller()
    await cluster.lose("n3")
    await cluster["n1"].wait_state(moved, S.AVAILABLE, incarnation=2)
    await cluster["n1"].destroy(gone)
    starts = len(cluster["n3"].containers.starts)
    cluster["n3"].view.come_back()
    await cluster.report("n3")
    cluster["n3"]._make_controller()
    await cluster["n3"].start()
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert len(cluster["n3"].containers.starts) == starts
    assert cluster["n1"].get(gone).state is S.DESTROYED


async def test_what_was_destroyed_and_forgotten_meanwhile_is_not_restarted(
    autojump_clock: MockClock, cluster: ControlledCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    [component] = await cluster.on_node("n3")
    await cluster.lose("n3")
    await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    monkeypatch.setattr(limits, "ENDED_KEPT_MAX", 0)
    await cluster["n1"].destroy(component)
    assert component not in cluster["n1"].state.instances
    await cluster.come_back("n3")
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert not cluster.bugs


async def test_a_node_that_was_away_but_not_lost_goes_on(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    created = await cluster["n1"].create(count=6)
    cluster["n3"].view.cut_off()
    await trio.sleep(1)
    cluster["n3"].view.come_back()
    await trio.sleep(5)
    assert all(cluster["n1"].get(c).incarnation == 1 for c in created)
    assert len(cluster.running()) == 6
    assert [len(n.containers.starts) for n in cluster.nodes.values()] == [2, 2, 2]
    assert not cluster.bugs


async def test_one_that_comes_back_to_the_same_node_is_started_after_its_past_is_removed(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster["n1"].create(constraints=["node=n3"])
    await cluster.lose("n3")
    await trio.sleep(3)
    await cluster.come_back("n3")
    instance = await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.node == "n3"
    assert cluster["n3"].containers.starts == [(component, 1), (component, 2)]
    assert cluster["n3"].containers.table[component].order.incarnation == 2


async def test_a_start_that_is_under_way_on_a_lost_node_is_given_up(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].now = Behaviour(start_s=30)
    [component] = await cluster["n1"].create(constraints=["node!=n1", "node!=n2"], wait="accepted")
    await trio.sleep(1)
    await cluster.declare_lost("n3")  # its hub hears of it at once
    await trio.sleep(1)
    assert not cluster["n3"].containers.table
    assert cluster["n1"].get(component).node == ""


async def test_a_start_of_a_past_incarnation_makes_way_for_the_next_one_on_the_same_node(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    cluster["n3"].by_incarnation[1] = Behaviour(start_s=30)
    [component] = await cluster["n1"].create(constraints=["node=n3"], wait="accepted")
    await trio.sleep(1)
    cluster["n3"].view.cut_off()
    await cluster.declare_lost("n3")
    await cluster.report("n3")
    await trio.sleep(3)
    instance = cluster["n1"].get(component)
    assert (instance.node, instance.incarnation) == ("n3", 2)
    cluster["n3"].view.come_back()
    await trio.sleep(1)
    assert instance.state is S.AVAILABLE
    assert cluster["n3"].containers.table[component].order.incarnation == 2
    assert not cluster.bugs
