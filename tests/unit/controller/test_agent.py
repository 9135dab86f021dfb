"""The component controller with real state and keepers over a fake node, on virtual time."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

from paas.base.errors import PlatformError
from paas.controller import messages
from paas.controller.lifecycle import ComponentState as S
from paas.controller.messages import ComponentChanged, ComponentEnded
from paas.controller.ports import ExitFacts, StartOrder
from paas.harness.messages import PhaseChange
from paas.testing.controlled_node import ControlledNode, RecordingPeer
from paas.testing.fake_containers import Behaviour


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


class Node(ControlledNode):
    """The behaviour of components can be changed while the node runs."""

    def __init__(self, nursery: trio.Nursery, **options: Any) -> None:
        self.now = Behaviour()
        self.by_incarnation: dict[int, Behaviour] = {}
        super().__init__(nursery, self._choose, **options)

    def _choose(self, order: StartOrder) -> Behaviour:
        return self.by_incarnation.get(order.incarnation, self.now)


@pytest.fixture
async def node(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> Node:
    made = Node(nursery)
    await made.start()
    return made


def states(node: ControlledNode, component: str) -> list[str]:
    return [
        e.state for e in node.events if isinstance(e, ComponentChanged) and e.component == component
    ]


def ends(node: ControlledNode, component: str) -> list[ComponentEnded]:
    return [e for e in node.events if isinstance(e, ComponentEnded) and e.component == component]


# -- creating ------------------------------------------------------------------------------------


async def test_create_answers_when_the_component_is_available(node: Node) -> None:
    await node.register()
    [component] = await node.create(name="ada", configuration={"x": 1}, groups=["g"])
    instance = node.get(component)
    assert instance.state is S.AVAILABLE
    assert states(node, component) == ["preparing", "available"]
    assert instance.endpoints["http"]["port"] == 8000
    assert node.groups.members("g") == [component]
    order = node.containers.table[component].order
    assert (order.hostname, order.configuration, order.incarnation) == ("ada", {"x": 1}, 1)
    assert node.controller.uid_of(component) == node.containers.table[component].uid_base


async def test_a_quick_create_waits_for_two_commits_only(node: Node) -> None:
    await node.register()
    before = node.log.commits
    await node.create()
    assert node.log.commits - before == 2


async def test_a_slow_component_is_shown_as_initializing(node: Node) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=2)
    [component] = await node.create()
    assert states(node, component) == ["preparing", "initializing", "available"]


async def test_wait_accepted_answers_before_the_component_is_available(node: Node) -> None:
    await node.register()
    [component] = await node.create(wait="accepted")
    assert node.get(component).state is S.PREPARING
    await node.wait_state(component, S.AVAILABLE)


async def test_fifty_at_once_share_their_commits(node: Node) -> None:
    await node.register()
    before = node.log.commits
    created = await node.create(count=50, name="w")
    assert len(set(created)) == 50
    assert all(node.get(c).state is S.AVAILABLE for c in created)
    assert node.get(created[49]).name == "w-50"
    assert node.log.commits - before < 20


async def test_fifty_requests_at_once_are_all_available(node: Node) -> None:
    await node.register()
    created: list[str] = []

    async def one() -> None:
        created.extend(await node.create())

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert len(set(created)) == 50


async def test_a_start_that_will_always_fail_gives_up_at_once(node: Node) -> None:
    await node.register()
    node.now = Behaviour(start_error=PlatformError("corrupt", "the bundle is damaged"))
    with pytest.raises(PlatformError) as caught:
        await node.create(name="ada")
    assert caught.value.code == "failed"
    assert "start-failed:the bundle is damaged" in caught.value.message
    assert caught.value.data["log"] == node.log_lines.lines
    component = caught.value.data["component"]
    assert (await node.wait_state(component, S.FAILED)).restarts == 0
    assert node.state.instances.holder("ada") is None


async def test_a_program_that_cannot_be_executed_gives_up_at_once(node: Node) -> None:
    await node.register()
    node.now = Behaviour(exit_after_s=0, ready_after_s=None, exit_reason="exec:no such file")
    with pytest.raises(PlatformError, match="start-failed:no such file"):
        await node.create()


async def test_a_start_that_fails_once_is_tried_again(node: Node) -> None:
    await node.register()
    error = PlatformError("limit-exceeded", "no address left")
    node.by_incarnation[1] = Behaviour(start_error=error)
    [component] = await node.create()
    assert node.get(component).restarts == 1
    assert ends(node, component)[0].reason == "start-failed:no address left"


async def test_a_component_that_exits_at_once_fails_with_its_reason(node: Node) -> None:
    await node.register(max_restarts=3)
    node.now = Behaviour(ready_after_s=None, exit_after_s=0.001, exit_reason="exit:3")
    with pytest.raises(PlatformError) as caught:
        await node.create()
    assert caught.value.code == "failed"
    assert "exit:3" in caught.value.message
    assert "3 restarts" in caught.value.message
    assert caught.value.data["log"] == node.log_lines.lines
    component = caught.value.data["component"]
    instance = await node.wait_state(component, S.FAILED)
    assert (instance.reason, instance.restarts) == ("exit:3", 3)
    assert not node.containers.table


async def test_a_temporary_component_that_never_was_ready_fails(node: Node) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=None, exit_after_s=0.001, exit_reason="exit:1")
    with pytest.raises(PlatformError, match="exit:1"):
        await node.create(restart="temporary")


async def test_a_job_that_is_done_at_once_was_available(node: Node) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=0, exit_after_s=0.001, exit_reason="normal")
    [component] = await node.create(restart="temporary")
    assert (await node.wait_state(component, S.DESTROYED)).reason == "normal"


async def test_a_component_that_is_never_ready_is_a_timeout_and_is_undone(node: Node) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=None)
    with pytest.raises(PlatformError) as caught:
        await node.create(timeout_s=5)
    assert caught.value.code == "timeout"
    assert caught.value.data["log"] == node.log_lines.lines
    await node.wait_state(caught.value.data["component"], S.DESTROYED)
    assert not node.containers.table


async def test_one_that_is_not_ready_in_time_is_ended_by_force(node: Node) -> None:
    await node.register(ready_timeout=3, max_restarts=0)
    node.now = Behaviour(ready_after_s=None)
    with pytest.raises(PlatformError, match="not-ready"):
        await node.create()
    assert node.containers.kills


async def test_a_failed_create_destroys_the_others_of_the_request(node: Node) -> None:
    await node.register(max_restarts=0)
    calls = iter([Behaviour(), Behaviour(ready_after_s=None, exit_after_s=0, exit_reason="exit:1")])
    node.containers.behaviour = lambda _order: next(calls)
    with pytest.raises(PlatformError) as caught:
        await node.create(count=2)
    failed = caught.value.data["component"]
    [other] = [i.id for i in node.state.instances if i.id != failed]
    await node.wait_state(other, S.DESTROYED)
    assert node.get(failed).state is S.FAILED


async def test_a_repeated_request_creates_nothing_new(node: Node) -> None:
    await node.register()
    first = await node.create(request_id="r1", count=2)
    assert await node.create(request_id="r1", count=2) == first
    assert len(node.state.instances) == 2


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"count": 0}, "invalid", "count"),
        ({"count": 501}, "invalid", "count"),
        ({"name": "-x"}, "invalid", "name"),
        ({"name": "deadbeef01"}, "invalid", "name"),
        ({"groups": ["a:b"]}, "invalid", "groups"),
        ({"groups": ["g"] * 65}, "invalid", "groups"),
        ({"links": ["nobody"]}, "no-such-target", None),
        ({"constraints": ["zone=a"]}, "invalid", "constraints"),
        ({"constraints": ["node=n2"]}, "no-placement", None),
        ({"constraints": ["node=n1"] * 33}, "invalid", "constraints"),
        ({"request_id": "r" * 129}, "invalid", "request_id"),
        ({"configuration": {"x": "y" * 20_000}}, "invalid", "configuration"),
        ({"links": ["x"] * 257}, "no-such-target", None),
    ],
)
async def test_a_bad_create_is_refused_and_names_the_field(
    node: Node, fields: dict[str, Any], code: str, field: str | None
) -> None:
    await node.register()
    with pytest.raises(PlatformError) as caught:
        await node.create(**fields)
    assert caught.value.code == code
    assert caught.value.data.get("field") == field
    assert not len(node.state.instances)


async def test_an_unknown_type_is_answered_with_the_nearest(node: Node) -> None:
    await node.register()
    with pytest.raises(PlatformError) as caught:
        await node.create("greter")
    assert caught.value.code == "no-such-type"
    assert "greeter" in caught.value.data["did_you_mean"]


async def test_create_waits_for_a_container_controller_that_is_away(node: Node) -> None:
    await node.register()
    node.containers.go_down()
    created: list[str] = []

    async def create() -> None:
        created.extend(await node.create())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create)
        await trio.sleep(5)
        assert not created
        node.containers.come_up()
    assert node.get(created[0]).state is S.AVAILABLE


async def test_a_start_whose_answer_was_lost_is_found_running(node: Node) -> None:
    await node.register()
    node.now = Behaviour(start_s=1)
    [component] = await node.create(wait="accepted")
    await trio.sleep(0.5)
    node.containers.go_down()
    await trio.sleep(2)
    node.containers.come_up()
    await node.wait_state(component, S.AVAILABLE)
    assert node.containers.starts == [(component, 1)]


# -- ends and restarts ---------------------------------------------------------------------------


async def test_a_crash_is_followed_by_the_next_incarnation(node: Node) -> None:
    await node.register()
    [component] = await node.create(groups=["g"])
    node.containers.end(component, "signal:SIGKILL")
    instance = await node.wait_state(component, S.AVAILABLE, incarnation=2)
    assert (instance.restarts, instance.reason) == (1, "signal:SIGKILL")
    [end] = ends(node, component)
    assert (end.incarnation, end.will_restart) == (1, True)
    assert node.groups.members("g") == [component]
    assert node.containers.starts == [(component, 1), (component, 2)]


async def test_a_crash_loop_ends_as_failed_with_its_reason(node: Node) -> None:
    await node.register(max_restarts=4, within=60)
    node.now = Behaviour(exit_after_s=0.1, exit_reason="exit:7")
    [component] = await node.create()
    instance = await node.wait_state(component, S.FAILED)
    assert (instance.restarts, instance.reason) == (4, "exit:7")
    assert "4 restarts within 60 s" in instance.gave_up
    assert not node.containers.table


async def test_a_component_that_runs_well_for_long_is_restarted_for_ever(node: Node) -> None:
    await node.register(max_restarts=2, within=10)
    node.now = Behaviour(exit_after_s=30, exit_reason="exit:1")
    [component] = await node.create()
    instance = await node.wait_state(component, S.AVAILABLE, incarnation=8)
    assert instance.attempt == 1


async def test_a_transient_component_that_ends_normally_is_destroyed(node: Node) -> None:
    await node.register()
    [component] = await node.create(restart="transient", name="job")
    node.containers.end(component, "normal")
    assert (await node.wait_state(component, S.DESTROYED)).reason == "normal"
    assert not node.containers.table


async def test_out_of_memory_is_named(node: Node) -> None:
    await node.register()
    [component] = await node.create(restart="temporary")
    node.containers.end(component, "out-of-memory")
    instance = await node.wait_state(component, S.DESTROYED)
    assert instance.reason == "out-of-memory"
    assert instance.facts == {"oom": True, "time_ms": 0}


async def test_unavailable_and_available_again_follow_the_component(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    node.controller.harness_phase(component, PhaseChange(phase="unavailable", reason="full"))
    assert (await node.wait_state(component, S.UNAVAILABLE)).reason == "full"
    node.controller.harness_phase(component, PhaseChange(phase="available"))
    await node.wait_state(component, S.AVAILABLE)


# -- terminate and destroy -----------------------------------------------------------------------


async def test_destroy_answers_when_nothing_is_left(node: Node) -> None:
    await node.register()
    [component] = await node.create(name="ada")
    await node.destroy("ada", grace=3)
    instance = node.get(component)
    assert (instance.state, instance.reason) == (S.DESTROYED, "destroyed")
    assert not node.containers.table
    assert node.harnesses.stops == [(component, 3)]
    await node.destroy(component)


async def test_destroy_of_one_that_hangs_uses_force_after_the_grace(node: Node) -> None:
    await node.register()
    node.now = Behaviour(hangs=True)
    [component] = await node.create()
    await node.destroy(component, grace=2)
    assert node.containers.kills == [component]


async def test_destroy_with_less_grace_overtakes_an_earlier_one(node: Node) -> None:
    await node.register()
    node.now = Behaviour(stop_s=1_000)
    [component] = await node.create()
    begin_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.destroy, component, 500.0)
        await trio.sleep(1)
        nursery.start_soon(node.destroy, component, 1.0)
    assert trio.current_time() - begin_s < 10


async def test_destroy_while_the_container_is_being_started(node: Node) -> None:
    await node.register()
    node.now = Behaviour(start_s=30)
    [component] = await node.create(wait="accepted")
    await trio.sleep(1)
    begin_s = trio.current_time()
    await node.destroy(component)
    assert trio.current_time() - begin_s < 1
    assert not node.containers.table
    assert node.get(component).reason == "destroyed"


async def test_destroy_while_waiting_for_the_next_incarnation(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.PREPARING)
    await node.destroy(component)
    assert node.containers.starts == [(component, 1)]


async def test_destroy_of_a_failed_one_clears_its_record(node: Node) -> None:
    await node.register(max_restarts=0)
    [component] = await node.create()
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.FAILED)
    await node.destroy(component)
    assert node.get(component).state is S.DESTROYED


async def test_terminate_may_be_refused(node: Node) -> None:
    await node.register()
    node.now = Behaviour(refuses="draining 14 items")
    [component] = await node.create()
    params = messages.TerminateComponent(component=component)
    answer = await node.api.terminate(params, node.context())
    assert (answer.accepted, answer.reason) == (False, "draining 14 items")
    await trio.sleep(100)
    assert node.get(component).state is S.AVAILABLE


async def test_terminate_that_is_accepted_ends_a_permanent_component_for_good(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    params = messages.TerminateComponent(component=component)
    assert (await node.api.terminate(params, node.context())).accepted
    assert (await node.wait_state(component, S.DESTROYED)).reason == "normal"
    with pytest.raises(PlatformError) as caught:
        await node.api.terminate(params, node.context())
    assert caught.value.code == "not-available"


async def test_one_that_accepted_to_terminate_and_stays_is_stopped(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    container = node.containers.table[component]
    container.behaviour = Behaviour(stop_s=500)
    params = messages.TerminateComponent(component=component)
    assert (await node.api.terminate(params, node.context())).accepted
    await node.wait_state(component, S.DESTROYED)
    assert node.harnesses.stops


async def test_destroy_without_a_harness_uses_force(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    node.harnesses.detach(component)
    await node.destroy(component)
    assert node.containers.kills == [component]


# -- restarts of the agents ----------------------------------------------------------------------


async def test_killing_the_container_controller_leaves_components_available(node: Node) -> None:
    await node.register()
    created = await node.create(count=3)
    node.containers.go_down()
    await trio.sleep(30)
    assert all(node.get(c).state is S.AVAILABLE for c in created)
    node.containers.come_up()
    await trio.sleep(5)
    assert all(node.get(c).incarnation == 1 for c in created)
    assert len(node.containers.starts) == 3


async def test_an_end_while_the_container_controller_was_away_is_learnt(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.go_down()
    node.containers.end(component, "exit:9")
    await trio.sleep(10)
    assert node.get(component).state is S.AVAILABLE
    node.containers.come_up()
    instance = await node.wait_state(component, S.AVAILABLE, incarnation=2)
    assert instance.reason == "exit:9"


async def test_a_restarted_controller_adopts_what_runs(node: Node) -> None:
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


async def test_a_restarted_controller_finishes_what_was_begun(node: Node) -> None:
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


async def test_what_is_gone_after_a_restart_of_the_machine_is_started_again(node: Node) -> None:
    await node.register()
    [kept] = await node.create()
    [given_up] = await node.create(restart="temporary")
    await node.stop_controller()
    node.containers.table.clear()
    await node.restart_controller()
    assert (await node.wait_state(kept, S.AVAILABLE, incarnation=2)).reason == "node-lost"
    assert (await node.wait_state(given_up, S.DESTROYED)).reason == "node-lost"


async def test_containers_that_nobody_wants_are_removed(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    container = node.containers.table[component]
    node.containers.go_down()
    node.containers.table["f" * 40] = container
    node.containers.come_up()
    await trio.sleep(1)
    assert list(node.containers.table) == [component]


async def test_a_log_that_refuses_writes_delays_but_decides_nothing(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    node.log.refuse = PlatformError("storage-full")
    node.containers.end(component, "exit:1")
    await trio.sleep(60)
    assert node.get(component).state is S.AVAILABLE
    assert node.troubles
    node.log.refuse = None
    await node.wait_state(component, S.AVAILABLE, incarnation=2)


async def test_facts_about_unknown_components_are_ignored(node: Node) -> None:
    stranger = "e" * 40
    node.controller.container_exited(ExitFacts(component=stranger, incarnation=1, reason="x"))
    node.controller.harness_phase(stranger, PhaseChange(phase="available"))
    node.controller.harness_detached(stranger)
    assert node.controller.uid_of(stranger) is None


# -- links ---------------------------------------------------------------------------------------


async def test_a_crash_ends_all_that_are_linked_once(node: Node) -> None:
    await node.register()
    a, b, c = await node.create(count=3)
    for one, other in ((a, b), (b, c), (c, a)):
        await node.api.link(messages.Link(a=one, b=other), node.context())
    node.containers.end(a, "exit:4")
    for component in (a, b, c):
        await node.wait_state(component, S.AVAILABLE, incarnation=2)
    await trio.sleep(100)
    for component in (a, b, c):
        [end] = ends(node, component)
        assert end.reason == "exit:4"
        assert end.because == ("" if component == a else a)


async def test_a_normal_end_and_a_destroy_end_nobody_else(node: Node) -> None:
    await node.register()
    a, b, c = await node.create(count=3, restart="transient")
    await node.api.link(messages.Link(a=a, b=b), node.context())
    await node.api.link(messages.Link(a=b, b=c), node.context())
    node.containers.end(a, "normal")
    await node.wait_state(a, S.DESTROYED)
    await node.destroy(c)
    await trio.sleep(10)
    assert node.get(b).incarnation == 1
    assert node.state.links.of(b) == []


async def test_unlinked_components_do_not_fall_together(node: Node) -> None:
    await node.register()
    [a] = await node.create()
    [b] = await node.create(links=[a])
    await node.api.unlink(messages.Unlink(a=a, b=b), node.context())
    node.containers.end(a, "exit:1")
    await node.wait_state(a, S.AVAILABLE, incarnation=2)
    assert node.get(b).incarnation == 1


# -- monitors ------------------------------------------------------------------------------------


async def test_a_monitor_fires_once_with_the_reason(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    peer = RecordingPeer()
    params = messages.Monitor(component=component)
    result = node.api.monitor(params, node.context(peer))
    node.containers.end(component, "signal:SIGSEGV")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.AVAILABLE, incarnation=3)
    [event] = peer.events
    assert (event.watch, event.event, event.reason) == (result.watch, "down", "signal:SIGSEGV")
    assert event.component == component
    assert len(node.watches) == 0


async def test_a_monitor_of_one_that_is_gone_fires_after_the_answer(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    await node.destroy(component)
    peer = RecordingPeer()
    node.api.monitor(messages.Monitor(component=component), node.context(peer))
    assert not peer.events
    await trio.sleep(1)
    [event] = peer.events
    assert event.reason == "destroyed"


async def test_a_monitor_of_a_forgotten_identifier_fires_too(node: Node) -> None:
    peer = RecordingPeer()
    node.api.monitor(messages.Monitor(component="a" * 40), node.context(peer))
    await trio.sleep(1)
    assert [e.reason for e in peer.events] == ["unknown"]


async def test_a_monitor_of_an_unknown_name_is_an_error(node: Node) -> None:
    with pytest.raises(PlatformError) as caught:
        node.api.monitor(messages.Monitor(component="nobody"), node.context())
    assert caught.value.code == "no-such-target"


async def test_a_renewed_monitor_fires_when_its_incarnation_is_over(node: Node) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    peer = RecordingPeer()
    params = messages.Monitor(component=component, incarnation=1)
    assert node.api.monitor(params, node.context(peer)).incarnation == 2
    await trio.sleep(1)
    assert [e.reason for e in peer.events] == ["exit:1"]


async def test_every_monitor_fires_exactly_once_under_random_ends(node: Node) -> None:
    """200 sequences of kills, destroys and monitors, from one seed."""
    await node.register(max_restarts=1_000)
    chance = random.Random(42)
    expected: list[tuple[RecordingPeer, str, int]] = []

    async def sequence() -> None:
        [component] = await node.create()
        for _ in range(chance.randrange(1, 5)):
            peer = RecordingPeer()
            result = node.api.monitor(messages.Monitor(component=component), node.context(peer))
            expected.append((peer, component, result.watch))
            await trio.sleep(chance.random() * 0.3)
            if chance.random() < 0.7:
                node.containers.end(component, chance.choice(["exit:1", "normal", "killed"]))
            await trio.sleep(chance.random() * 0.3)
        await node.destroy(component, grace=chance.random())
        peer = RecordingPeer()
        result = node.api.monitor(messages.Monitor(component=component), node.context(peer))
        expected.append((peer, component, result.watch))

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(sequence)
            await trio.sleep(0.01)
    await trio.sleep(10)
    assert len(expected) > 500
    for peer, component, watch in expected:
        assert [(e.component, e.watch) for e in peer.events] == [(component, watch)]
    assert len(node.watches) == 0
    assert not node.containers.table
    assert not node.bugs


# -- looking, and who may ------------------------------------------------------------------------


async def test_components_are_listed_with_memory_and_filters(node: Node) -> None:
    await node.register()
    await node.register("other")
    a, b = await node.create(count=2, groups=["g"], name="a")
    [c] = await node.create("other")
    await node.destroy(c)

    async def listed(**fields: Any) -> list[str]:
        params = messages.ListComponents(**fields)
        result = await node.api.components(params, node.context())
        return [info.id for info in result.components]

    assert await listed() == [a, b]
    assert await listed(all=True) == [a, b, c]
    assert await listed(filter={"type": "other"}, all=True) == [c]
    assert await listed(filter={"type": "greeter@1.0.0", "group": "g"}) == [a, b]
    assert await listed(filter={"name": "a-2"}) == [b]
    assert await listed(filter={"state": "failed"}) == []
    assert await listed(filter={"node": "n1"}) == [a, b]
    with pytest.raises(PlatformError, match="colour"):
        await listed(filter={"colour": "red"})
    assert node.containers.stats_asked == 1
    info = await node.api.component(messages.DescribeComponent(component=a[:8]), node.context())
    assert (info.memory, info.groups, info.state) == (4096, ["g"], "available")
    assert info.pid == node.containers.table[a].pid


async def test_memory_is_unknown_while_the_container_controller_is_away(node: Node) -> None:
    await node.register()
    await node.create()
    node.containers.go_down()
    result = await node.api.components(messages.ListComponents(), node.context())
    assert [info.memory for info in result.components] == [None]


async def test_status_counts_components_and_nodes(node: Node) -> None:
    await node.register()
    await node.create(count=2)
    status = node.api.status(messages.Status(), node.context())
    assert status.components == {"available": 2}
    assert status.nodes == [{"name": "n1", "state": "available", "components": 2}]
    assert (status.types, status.cluster) == (1, "test")


async def test_types_are_registered_described_and_forgotten(node: Node) -> None:
    from paas.testing.controlled_node import BUNDLE, manifest

    params = messages.RegisterType(bundle=BUNDLE, manifest=manifest())
    assert (await node.api.register_type(params, node.context())).type == "greeter@1.0.0"
    await node.api.register_type(params, node.context())
    [component] = await node.create()
    [info] = node.api.types(messages.ListTypes(), node.context()).types
    assert (info.type, info.running) == ("greeter@1.0.0", 1)
    assert node.api.type(messages.DescribeType(type="greeter"), node.context()) == info
    unregister = messages.UnregisterType(type="greeter@1.0.0")
    with pytest.raises(PlatformError) as caught:
        await node.api.unregister_type(unregister, node.context())
    assert caught.value.code == "conflict"
    await node.destroy(component)
    await node.api.unregister_type(unregister, node.context())
    assert not len(node.state.types)


async def test_a_type_of_an_unknown_bundle_is_refused(node: Node) -> None:
    from paas.testing.controlled_node import manifest

    params = messages.RegisterType(bundle="sha256:none", manifest=manifest())
    with pytest.raises(PlatformError) as caught:
        await node.api.register_type(params, node.context())
    assert caught.value.code == "no-such-bundle"


async def test_a_component_may_end_only_what_it_created_and_itself(node: Node) -> None:
    await node.register()
    parent, stranger = await node.create(count=2)
    context = node.context(RecordingPeer(parent))
    created = await node.api.create(messages.Create(type="greeter"), context)
    [child] = created.components
    assert node.get(child).created_by == parent
    await node.api.link(messages.Link(a=parent, b=child), context)
    for call in (
        node.api.destroy(messages.Destroy(component=stranger), context),
        node.api.terminate(messages.TerminateComponent(component=stranger), context),
        node.api.link(messages.Link(a=child, b=stranger), context),
        node.api.unlink(messages.Unlink(a=stranger, b=child), context),
        node.api.create(messages.Create(type="greeter", links=[stranger]), context),
    ):
        with pytest.raises(PlatformError) as caught:
            await call
        assert caught.value.code == "denied"
    await node.api.destroy(messages.Destroy(component=child), context)
    await node.api.destroy(messages.Destroy(component=parent), context)
