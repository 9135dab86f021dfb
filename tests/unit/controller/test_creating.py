"""Creating components, over a fake node on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.container.messages import Limits
from paas.controller.commands import RegisterType
from paas.controller.lifecycle import ComponentState as S
from paas.testing.controlled_node import BUNDLE, ControlledNode, manifest
from paas.testing.fake_containers import Behaviour


async def test_create_answers_when_the_component_is_available(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create(name="ada", configuration={"x": 1}, groups=["g"])
    instance = node.get(component)
    assert instance.state is S.AVAILABLE
    assert node.states(component) == ["preparing", "available"]
    assert instance.endpoints["http"]["port"] == 8000
    assert node.groups.members("g") == [component]
    order = node.containers.table[component].order
    assert (order.hostname, order.configuration, order.incarnation) == ("ada", {"x": 1}, 1)
    assert node.controller.uid_of(component) == node.containers.table[component].uid_base


async def test_every_limit_of_the_manifest_reaches_the_container(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    bounds = {"memory": "32M", "cpu": 0.25, "pids": 9, "disk": "16M", "io": "20M"}
    await node.log.propose(
        RegisterType(bundle=BUNDLE, manifest=manifest("greeter") | {"limits": bounds})
    )
    [component] = await node.create()
    assert node.containers.table[component].order.limits == Limits(
        memory_bytes=32 << 20, cpu=0.25, pids=9, disk_bytes=16 << 20, io_bytes_per_s=20 << 20
    )


async def test_a_quick_create_waits_for_two_commits_only(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    before = node.log.commits
    await node.create()
    assert node.log.commits - before == 2


async def test_a_slow_component_is_shown_as_initializing(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=2)
    [component] = await node.create()
    assert node.states(component) == ["preparing", "initializing", "available"]


async def test_wait_accepted_answers_before_the_component_is_available(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create(wait="accepted")
    assert node.get(component).state is S.PREPARING
    await node.wait_state(component, S.AVAILABLE)


async def test_fifty_at_once_share_their_commits(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    before = node.log.commits
    created = await node.create(count=50, name="w")
    assert len(set(created)) == 50
    assert all(node.get(c).state is S.AVAILABLE for c in created)
    assert node.get(created[49]).name == "w-50"
    assert node.log.commits - before < 20


async def test_fifty_requests_at_once_are_all_available(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    created: list[str] = []

    async def one() -> None:
        created.extend(await node.create())

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert len(set(created)) == 50


async def test_a_start_that_will_always_fail_gives_up_at_once(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


async def test_a_program_that_cannot_be_executed_gives_up_at_once(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(exit_after_s=0, ready_after_s=None, exit_reason="exec:no such file")
    with pytest.raises(PlatformError, match="start-failed:no such file"):
        await node.create()


async def test_a_start_that_fails_once_is_tried_again(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    error = PlatformError("limit-exceeded", "no address left")
    node.by_incarnation[1] = Behaviour(start_error=error)
    [component] = await node.create()
    assert node.get(component).restarts == 1
    assert node.ends(component)[0].reason == "start-failed:no address left"


async def test_a_component_that_exits_at_once_fails_with_its_reason(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


async def test_a_temporary_component_that_never_was_ready_fails(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=None, exit_after_s=0.001, exit_reason="exit:1")
    with pytest.raises(PlatformError, match="exit:1"):
        await node.create(restart="temporary")


async def test_a_job_that_is_done_at_once_was_available(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=0, exit_after_s=0.001, exit_reason="normal")
    [component] = await node.create(restart="temporary")
    assert (await node.wait_state(component, S.DESTROYED)).reason == "normal"


async def test_a_component_that_is_never_ready_is_a_timeout_and_is_undone(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(ready_after_s=None)
    with pytest.raises(PlatformError) as caught:
        await node.create(timeout_s=5)
    assert caught.value.code == "timeout"
    assert caught.value.data["log"] == node.log_lines.lines
    await node.wait_state(caught.value.data["component"], S.DESTROYED)
    assert not node.containers.table


async def test_one_that_is_not_ready_in_time_is_ended_by_force(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register(ready_timeout=3, max_restarts=0)
    node.now = Behaviour(ready_after_s=None)
    with pytest.raises(PlatformError, match="not-ready"):
        await node.create()
    assert node.containers.kills


async def test_a_failed_create_destroys_the_others_of_the_request(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register(max_restarts=0)
    calls = iter([Behaviour(), Behaviour(ready_after_s=None, exit_after_s=0, exit_reason="exit:1")])
    node.containers.behaviour = lambda _order: next(calls)
    with pytest.raises(PlatformError) as caught:
        await node.create(count=2)
    failed = caught.value.data["component"]
    [other] = [i.id for i in node.state.instances if i.id != failed]
    await node.wait_state(other, S.DESTROYED)
    assert node.get(failed).state is S.FAILED


async def test_a_repeated_request_creates_nothing_new(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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
        ({"links": ["x"] * 257}, "invalid", "links"),
    ],
)
async def test_a_bad_create_is_refused_and_names_the_field(
    autojump_clock: MockClock,
    node: ControlledNode,
    fields: dict[str, Any],
    code: str,
    field: str | None,
) -> None:
    await node.register()
    with pytest.raises(PlatformError) as caught:
        await node.create(**fields)
    assert caught.value.code == code
    assert caught.value.data.get("field") == field
    assert not len(node.state.instances)


async def test_an_unknown_type_is_answered_with_the_nearest(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    with pytest.raises(PlatformError) as caught:
        await node.create("greter")
    assert caught.value.code == "no-such-type"
    assert "greeter" in caught.value.data["did_you_mean"]


async def test_create_waits_for_a_container_controller_that_is_away(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


async def test_a_start_whose_answer_was_lost_is_found_running(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    node.now = Behaviour(start_s=1)
    [component] = await node.create(wait="accepted")
    await trio.sleep(0.5)
    node.containers.go_down()
    await trio.sleep(2)
    node.containers.come_up()
    await node.wait_state(component, S.AVAILABLE)
    assert node.containers.starts == [(component, 1)]
