"""Ends, restarts, destruction and adoption, over a fake node on virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import messages
from paas.controller.lifecycle import ComponentState as S
from paas.controller.ports import ExitFacts
from paas.harness.messages import PhaseChange
from paas.testing.controlled_node import ControlledNode
from paas.testing.fake_containers import Behaviour

# -- ends and restarts -----------------------------------------------------------------------------


async def test_a_crash_is_followed_by_the_next_incarnation(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create(groups=["g"])
    node.containers.end(component, "signal:SIGKILL")
    instance = await node.wait_state(component, S.AVAILABLE, incarnation=2)
    assert (instance.restarts, instance.reason) == (1, "signal:SIGKILL")
    [end] = node.ends(component)
    assert (end.incarnation, end.will_restart) == (1, True)
    assert node.groups.members("g") == [component]
    assert node.containers.starts == [(component, 1), (component, 2)]


async def test_a_crash_loop_ends_as_failed_with_its_reason(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register(max_restarts=4, within=60)
    node.now = Behaviour(exit_after_s=0.1, exit_reason="exit:7")
    [component] = await node.create()
    instance = await node.wait_state(component, S.FAILED)
    assert (instance.restarts, instance.reason) == (4, "exit:7")
    assert "4 restarts within 60 s" in instance.gave_up
    assert not node.containers.table


async def test_a_component_that_runs_well_for_long_is_restarted_for_ever(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register(max_restarts=2, within=10)
    node.now = Behaviour(exit_after_s=30, exit_reason="exit:1")
    [component] = await node.create()
    instance = await node.wait_state(component, S.AVAILABLE, incarnation=8)
    assert instance.attempt == 1


async def test_a_transient_component_that_ends_normally_is_destroyed(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create(restart="transient", name="job")
    node.containers.end(component, "normal")
    assert (await node.wait_state(component, S.DESTROYED)).reason == "normal"
    assert not node.containers.table


async def test_out_of_memory_is_named(autojump_clock: MockClock, node: ControlledNode) -> None:
    await node.register()
    [component] = await node.create(restart="temporary")
    node.containers.end(component, "out-of-memory")
    instance = await node.wait_state(component, S.DESTROYED)
    assert instance.reason == "out-of-memory"
    assert instance.facts == {"oom": True, "time_ms": 0}


async def test_unavailable_and_available_again_follow_the_component(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.controller.harness_phase(component, PhaseChange(phase="unavailable", reason="full"))
    assert (await node.wait_state(component, S.UNAVAILABLE)).reason == "full"
    node.controller.harness_phase(component, PhaseChange(phase="available"))
    await node.wait_state(component, S.AVAILABLE)


# -- terminate and destroy -------------------------------------------------------------------------


async def test_destroy_answers_when_nothing_is_left(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create(name="ada")
    await node.destroy("ada", grace=3)
    instance = node.get(component)
    assert (instance.state, instance.reason) == (S.DESTROYED, "destroyed")
    assert not node.containers.table
    assert node.harnesses.stops == [(component, 3)]
    await node.destroy(component)


async def test_destroy_of_one_that_hangs_uses_force_after_the_grace(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(hangs=True)
    [component] = await node.create()
    await node.destroy(component, grace=2)
    assert node.containers.kills == [component]


async def test_destroy_with_less_grace_overtakes_an_earlier_one(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(stop_s=1_000)
    [component] = await node.create()
    begin_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.destroy, component, 500.0)
        await trio.sleep(1)
        nursery.start_soon(node.destroy, component, 1.0)
    assert trio.current_time() - begin_s < 10


async def test_destroy_while_the_container_is_being_started(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(start_s=30)
    [component] = await node.create(wait="accepted")
    await trio.sleep(1)
    begin_s = trio.current_time()
    await node.destroy(component)
    assert trio.current_time() - begin_s < 1
    assert not node.containers.table
    assert node.get(component).reason == "destroyed"


async def test_destroy_while_waiting_for_the_next_incarnation(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.PREPARING)
    await node.destroy(component)
    assert node.containers.starts == [(component, 1)]


async def test_destroy_of_a_failed_one_clears_its_record(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register(max_restarts=0)
    [component] = await node.create()
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.FAILED)
    await node.destroy(component)
    assert node.get(component).state is S.DESTROYED


async def test_terminate_may_be_refused(autojump_clock: MockClock, node: ControlledNode) -> None:
    await node.register()
    node.now = Behaviour(refuses="draining 14 items")
    [component] = await node.create()
    params = messages.TerminateComponent(component=component)
    answer = await node.api.terminate(params, node.context())
    assert (answer.accepted, answer.reason) == (False, "draining 14 items")
    await trio.sleep(100)
    assert node.get(component).state is S.AVAILABLE


async def test_terminate_that_is_accepted_ends_a_permanent_component_for_good(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    params = messages.TerminateComponent(component=component)
    assert (await node.api.terminate(params, node.context())).accepted
    assert (await node.wait_state(component, S.DESTROYED)).reason == "normal"
    with pytest.raises(PlatformError) as caught:
        await node.api.terminate(params, node.context())
    assert caught.value.code == "not-available"


async def test_one_that_accepted_to_terminate_and_stays_is_stopped(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    container = node.containers.table[component]
    container.behaviour = Behaviour(stop_s=500)
    params = messages.TerminateComponent(component=component)
    assert (await node.api.terminate(params, node.context())).accepted
    await node.wait_state(component, S.DESTROYED)
    assert node.harnesses.stops


async def test_destroy_without_a_harness_uses_force(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.harnesses.detach(component)
    await node.destroy(component)
    assert node.containers.kills == [component]


# -- restarts of the agents ------------------------------------------------------------------------


async def test_killing_the_container_controller_leaves_components_available(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    created = await node.create(count=3)
    node.containers.go_down()
    await trio.sleep(30)
    assert all(node.get(c).state is S.AVAILABLE for c in created)
    node.containers.come_up()
    await trio.sleep(5)
    assert all(node.get(c).incarnation == 1 for c in created)
    assert len(node.containers.starts) == 3


async def test_an_end_while_the_container_controller_was_away_is_learnt(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.go_down()
    node.containers.end(component, "exit:9")
    await trio.sleep(10)
    assert node.get(component).state is S.AVAILABLE
    node.containers.come_up()
    instance = await node.wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.reason == "exit:9"


async def test_a_restarted_controller_adopts_what_runs(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    created = await node.create(count=5)
    await node.stop_controller()
    await trio.sleep(3)
    await node.restart_controller()
    await trio.sleep(3)
    assert all(node.get(c).state is S.AVAILABLE for c in created)
    assert all(node.get(c).incarnation == 1 for c in created)
    assert len(node.containers.starts) == 5
    assert node.controller.uid_of(created[0]) == node.containers.table[created[0]].uid_base
    await node.destroy(created[0])
    assert created[0] not in node.containers.table
    assert not node.bugs


async def test_a_restarted_controller_finishes_what_was_begun(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(stop_s=5)
    running, ended, stopping = await node.create(count=3)
    node.now = Behaviour(ready_after_s=10)
    [starting] = await node.create(wait="accepted")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.destroy, stopping)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    await node.stop_controller()
    node.containers.end(ended, "exit:1")
    await node.restart_controller()
    await node.wait_state(stopping, S.DESTROYED)
    await node.wait_state(starting, S.AVAILABLE)
    assert (await node.wait_state(ended, S.AVAILABLE, incarnation=2)).reason == "exit:1"
    assert node.get(starting).incarnation == node.get(running).incarnation == 1
    assert not node.bugs


async def test_what_is_gone_after_a_restart_of_the_machine_is_started_again(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [kept] = await node.create()
    [given_up] = await node.create(restart="temporary")
    await node.stop_controller()
    node.containers.table.clear()
    await node.restart_controller()
    assert (await node.wait_state(kept, S.AVAILABLE, incarnation=2)).reason == "node-lost"
    assert (await node.wait_state(given_up, S.DESTROYED)).reason == "node-lost"


async def test_containers_that_nobody_wants_are_removed(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    container = node.containers.table[component]
    node.containers.go_down()
    node.containers.table["f" * 40] = container
    node.containers.come_up()
    await trio.sleep(1)
    assert list(node.containers.table) == [component]


async def test_a_log_that_refuses_writes_delays_but_decides_nothing(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.log.refuse = PlatformError("storage-full")
    node.containers.end(component, "exit:1")
    await trio.sleep(60)
    assert node.get(component).state is S.AVAILABLE
    assert node.troubles
    node.log.refuse = None
    await node.wait_state(component, S.AVAILABLE, incarnation=2)


async def test_facts_about_unknown_components_are_ignored(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    stranger = "e" * 40
    node.controller.container_exited(ExitFacts(component=stranger, incarnation=1, reason="x"))
    node.controller.harness_phase(stranger, PhaseChange(phase="available"))
    node.controller.harness_detached(stranger)
    assert node.controller.uid_of(stranger) is None
