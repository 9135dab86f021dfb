"""Other bounds, standing still, and why: commands, keepers, answers, on virtual time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.bundle.manifest import from_plain
from paas.container.messages import Limits
from paas.controller import commands, messages
from paas.controller.bounds import check_changes, container_limits
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState as S
from paas.controller.standing import FROZEN
from paas.controller.why import explain
from paas.testing.controlled_node import ControlledCluster, ControlledNode, RecordingPeer, manifest
from paas.testing.fake_containers import Behaviour

MIB = 1 << 20


def operator() -> RecordingPeer:
    peer = RecordingPeer()
    peer.info["roles"] = frozenset({"operator"})
    return peer


async def resize(node: ControlledNode, component: str, **limits: Any) -> messages.Resized:
    params = messages.Resize(component=component, limits=limits)
    return await node.living.resize(params, node.context(operator()))


async def freeze(node: ControlledNode, component: str) -> messages.Frozen:
    params = messages.Freeze(component=component)
    return await node.living.freeze(params, node.context(operator()))


async def thaw(node: ControlledNode, component: str) -> messages.Frozen:
    params = messages.Thaw(component=component)
    return await node.living.thaw(params, node.context(operator()))


def in_force(node: ControlledNode, component: str) -> Limits:
    container = node.containers.table[component]
    return container.limits or container.order.limits


async def settled() -> None:
    await trio.sleep(1)


# -- bounds --------------------------------------------------------------------------------------


def test_changes_are_in_words_of_the_manifest_and_checked_by_name() -> None:
    assert check_changes({"memory": "128M", "cpu": 0.25, "io": 0}) == {
        "memory": 128 * MIB,
        "cpu": 0.25,
        "io": 0,
    }
    for wanted, field in (
        ({"memory": "1K"}, "limits.memory"),
        ({"cpu": -1}, "limits.cpu"),
        ({"pids": 0}, "limits.pids"),
        ({"cpu_weight": 10_001}, "limits.cpu_weight"),
        ({"disk": "1G"}, "limits.disk"),
        ({"x" * 100: 1}, "limits." + "x" * 32),
        ({}, "limits"),
    ):
        with pytest.raises(PlatformError) as caught:
            check_changes(wanted)
        assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)


def test_every_bound_of_a_manifest_reaches_the_container() -> None:
    limits = {"memory": "32M", "cpu": 0.1, "pids": 9, "disk": "8M", "io": "1M", "cpu_weight": 7}
    found = container_limits(from_plain({**manifest(), "limits": limits}), {})
    assert found == Limits(
        memory_bytes=32 * MIB,
        cpu=0.1,
        pids=9,
        disk_bytes=8 * MIB,
        io_bytes_per_s=MIB,
        cpu_weight=7,
    )


# -- resize --------------------------------------------------------------------------------------


async def test_other_bounds_are_in_force_at_once_and_hold_over_restarts(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    answer = await resize(node, component, memory="128M", cpu_weight=300)
    assert (answer.limits["memory"], answer.limits["pids"]) == (128 * MIB, 64)
    wanted = in_force(node, component)
    assert (wanted.memory_bytes, wanted.cpu_weight) == (128 * MIB, 300)
    await resize(node, component, pids=10)  # what is not named stays
    assert in_force(node, component) == msgspec.structs.replace(wanted, pids=10)
    node.containers.end(component, "signal:SIGKILL")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    order = node.containers.table[component].order
    assert order.limits == msgspec.structs.replace(wanted, pids=10)
    await node.stop_controller()
    await node.restart_controller()
    await settled()
    assert in_force(node, component) == order.limits
    assert not node.bugs


async def test_what_is_in_use_cannot_be_taken_away_and_nothing_is_written_down(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    before = in_force(node, component)
    node.containers.table[component].uses_bytes = 50 * MIB
    with pytest.raises(PlatformError, match=r"\[conflict\]"):
        await resize(node, component, memory="16M")
    assert in_force(node, component) == before
    assert node.get(component).resized == {}


async def test_bounds_that_cannot_be_written_down_are_taken_back(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    before = in_force(node, component)
    node.view.cut_off()
    with pytest.raises(PlatformError):
        await resize(node, component, memory="128M")
    assert in_force(node, component) == before
    node.view.come_back()


async def test_a_crash_between_doing_and_writing_down_is_made_good(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    """The hub died after the container had other bounds, and before the log had them."""
    await node.register()
    [component] = await node.create()
    before = in_force(node, component)
    await node.stop_controller()
    node.containers.table[component].limits = msgspec.structs.replace(before, pids=3)
    await node.restart_controller()
    await settled()
    assert in_force(node, component) == before


async def test_bounds_that_a_container_refuses_do_not_hold_up_its_life(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.table[component].uses_bytes = 50 * MIB
    await node.log.propose(
        commands.ResizeInstance(component=component, limits={"memory": 16 * MIB})
    )
    await settled()
    assert len([t for t in node.troubles if "in use" in t]) == 1
    await freeze(node, component)
    assert node.containers.table[component].frozen
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    assert node.containers.table[component].order.limits.memory_bytes == 16 * MIB


async def test_without_a_container_the_next_one_has_the_bounds(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.by_incarnation = {2: Behaviour(start_s=5.0)}
    [component] = await node.create()
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.PREPARING, incarnation=2)
    await resize(node, component, memory="256M")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    await settled()
    assert in_force(node, component).memory_bytes == 256 * MIB


async def test_a_node_gives_no_more_than_it_has_and_counts_the_difference(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster.on_node("n1")
    node = cluster["n1"]
    load = node.state.loads.of("n1")
    await resize(node, component, memory="1G")
    grown = node.state.loads.of("n1").memory_bytes - load.memory_bytes
    assert grown == (1 << 30) - 64 * MIB
    with pytest.raises(PlatformError, match="no room on n1") as caught:
        await resize(node, component, memory="5G")
    assert caught.value.code == "conflict"
    assert in_force(node, component).memory_bytes == 1 << 30
    await node.destroy(component)
    assert node.state.loads.of("n1").memory_bytes == load.memory_bytes - 64 * MIB


async def test_any_hub_can_be_asked(autojump_clock: MockClock, cluster: ControlledCluster) -> None:
    [component] = await cluster.on_node("n2")
    answer = await resize(cluster["n1"], component, memory="128M")
    assert answer.limits["memory"] == 128 * MIB
    assert in_force(cluster["n2"], component).memory_bytes == 128 * MIB
    assert (await freeze(cluster["n3"], component)).frozen
    assert cluster["n2"].containers.table[component].frozen
    assert not (await thaw(cluster["n1"], component)).frozen
    assert not cluster["n2"].containers.table[component].frozen
    assert not cluster.bugs


# -- standing still ------------------------------------------------------------------------------


async def test_frozen_is_unavailable_for_that_reason_until_it_is_thawed(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create(groups=["g"])
    answer = await freeze(node, component)
    assert (answer.state, answer.frozen) == ("unavailable", True)
    assert (node.get(component).state, node.get(component).reason) == (S.UNAVAILABLE, FROZEN)
    assert component in node.state.living.frozen
    await freeze(node, component)  # repeating it changes nothing
    await settled()
    assert node.get(component).state is S.UNAVAILABLE  # its harness says available all the time
    answer = await thaw(node, component)
    assert (answer.state, answer.frozen) == ("available", False)
    assert node.get(component).reason == ""
    assert not node.state.living.frozen
    assert node.groups.members("g") == [component]
    assert not node.containers.table[component].frozen
    await thaw(node, component)
    await settled()
    assert node.states(component)[-2:] == ["unavailable", "available"]


async def test_it_stays_frozen_over_restarts_of_the_hub_and_of_the_component(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    await freeze(node, component)
    await node.stop_controller()
    node.containers.table[component].frozen = False  # somebody else thawed it meanwhile
    await node.restart_controller()
    await settled()
    assert node.containers.table[component].frozen
    assert component in node.state.living.frozen
    node.containers.end(component, "signal:SIGKILL")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    await node.wait_state(component, S.UNAVAILABLE, incarnation=2)
    await settled()
    assert node.containers.table[component].frozen
    assert (await thaw(node, component)).state == "available"
    assert not node.bugs


async def test_a_thaw_that_the_hub_did_not_see_through_is_finished(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    await freeze(node, component)
    await node.stop_controller()
    await node.log.propose(commands.ThawInstance(component=component, incarnation=1))
    await node.restart_controller()
    await node.wait_state(component, S.AVAILABLE)
    await settled()
    assert not node.containers.table[component].frozen


async def test_the_container_controller_may_be_away_meanwhile(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.go_down()
    with pytest.raises(PlatformError):
        await freeze(node, component)
    assert node.get(component).frozen  # written down first: nobody sends to it any more
    node.containers.come_up()
    await settled()
    assert node.containers.table[component].frozen


async def test_what_is_to_end_is_thawed_so_that_it_hears_the_signal(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    await freeze(node, component)
    container = node.containers.table[component]
    await node.destroy(component)
    assert not container.frozen
    assert node.get(component).state is S.DESTROYED
    assert component not in node.state.living.frozen


async def test_what_cannot_be_stopped_goes_on(
    autojump_clock: MockClock, node: ControlledNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.register()
    [component] = await node.create()

    async def never(_component: str) -> None:
        await trio.sleep(5)
        raise PlatformError("timeout", "did not come to a stop")

    monkeypatch.setattr(node.containers, "freeze", never)
    with pytest.raises(PlatformError, match=r"\[timeout\]"):
        await freeze(node, component)
    await settled()
    assert not node.get(component).frozen
    assert node.get(component).state is S.AVAILABLE


async def test_only_what_has_been_available_is_frozen(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(start_s=30.0)
    [component] = await node.create(wait="accepted")
    with pytest.raises(PlatformError, match="preparing"):
        await freeze(node, component)
    await node.destroy(component)
    with pytest.raises(PlatformError, match=r"\[not-available\]"):
        await freeze(node, component)
    with pytest.raises(PlatformError, match=r"\[no-such-target\]"):
        await freeze(node, "f" * 40)


async def test_a_lost_node_takes_its_frozen_components_along(
    autojump_clock: MockClock, cluster: ControlledCluster
) -> None:
    [component] = await cluster.on_node("n2")
    await freeze(cluster["n1"], component)
    await resize(cluster["n1"], component, memory="128M")
    await cluster.lose("n2")
    await cluster["n1"].wait_state(component, S.AVAILABLE, incarnation=2)
    where = cluster["n1"].get(component).node
    assert where != "n2"
    await cluster["n1"].wait_state(component, S.UNAVAILABLE, incarnation=2)
    await settled()
    container = cluster[where].containers.table[component]
    assert container.frozen
    assert container.order.limits.memory_bytes == 128 * MIB


# -- why -----------------------------------------------------------------------------------------


def record(**changes: Any) -> Instance:
    given = {"id": "a" * 40, "type": "t@1", "name": "web", "node": "n1"}
    return Instance(created_ms=0, since_ms=0, **(given | changes))


def test_an_end_for_want_of_memory_is_told_with_its_figures() -> None:
    facts = {
        "oom": True,
        "memory_limit": 64 * MIB,
        "memory_peak": 63 * MIB,
        "starved": "python3 (process 7)",
    }
    text = explain(
        record(state=S.FAILED, reason="out-of-memory", facts=facts, gave_up="5 restarts")
    )
    assert text == [
        "web is failed: out-of-memory",
        "the kernel ended python3 (process 7), which wanted more memory than the component may"
        " have: the limit is 64.0 MiB, the most that it used 63.0 MiB",
        "it is not started again: 5 restarts",
    ]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"state": S.PREPARING, "unplaced": "no-placement: n1: offline"}, "waits for a node: n1"),
        ({"state": S.UNAVAILABLE, "frozen": True, "reason": FROZEN}, "paas thaw aaaaaaaa"),
        ({"state": S.DESTROYING, "facts": {"code": 3}}, "ended with exit code 3"),
        ({"state": S.DESTROYING, "facts": {"signal": 11}}, "ended by signal 11"),
        ({"state": S.FAILED, "because": "b" * 40}, "it fell with bbbbbbbb"),
        ({"state": S.AVAILABLE, "reason": "exit:1", "restarts": 1}, "its last end was: exit:1"),
        ({"state": S.AVAILABLE, "resized": {"pids": 5}}, "limits: pids 5"),
    ],
)
def test_every_cause_is_said(changes: dict[str, Any], wanted: str) -> None:
    assert wanted in " / ".join(explain(record(**changes)))


async def test_why_is_answered_with_facts_and_log(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register(max_restarts=0)
    [component] = await node.create()
    node.containers.end(component, "out-of-memory")
    await node.wait_state(component, S.FAILED)
    answer = node.living.why(messages.Why(component=component), node.context())
    assert (answer.reason, answer.facts["oom"]) == ("out-of-memory", True)
    assert answer.text
    assert answer.log == node.log_lines.tail(component, 20)
