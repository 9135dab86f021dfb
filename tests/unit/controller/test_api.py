"""Links, monitors, what is shown and who may, over a fake node on virtual time."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.controller import messages
from paas.controller.lifecycle import ComponentState as S
from paas.testing.controlled_node import BUNDLE, ControlledNode, RecordingPeer, manifest

# -- links -----------------------------------------------------------------------------------------


async def test_a_crash_ends_all_that_are_linked_once(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    a, b, c = await node.create(count=3)
    for one, other in ((a, b), (b, c), (c, a)):
        await node.api.link(messages.Link(a=one, b=other), node.context())
    node.containers.end(a, "exit:4")
    for component in (a, b, c):
        await node.wait_state(component, S.AVAILABLE, incarnation=2)
    await trio.sleep(100)
    for component in (a, b, c):
        [end] = node.ends(component)
        assert end.reason == "exit:4"
        assert end.because == ("" if component == a else a)


async def test_a_normal_end_and_a_destroy_end_nobody_else(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


async def test_unlinked_components_do_not_fall_together(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [a] = await node.create()
    [b] = await node.create(links=[a])
    await node.api.unlink(messages.Unlink(a=a, b=b), node.context())
    node.containers.end(a, "exit:1")
    await node.wait_state(a, S.AVAILABLE, incarnation=2)
    assert node.get(b).incarnation == 1


# -- monitors --------------------------------------------------------------------------------------


async def test_a_monitor_fires_once_with_the_reason(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


async def test_a_monitor_of_one_that_is_gone_fires_after_the_answer(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    await node.destroy(component)
    peer = RecordingPeer()
    node.api.monitor(messages.Monitor(component=component), node.context(peer))
    assert not peer.events
    await trio.sleep(1)
    [event] = peer.events
    assert event.reason == "destroyed"


async def test_a_monitor_of_a_forgotten_identifier_fires_too(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    peer = RecordingPeer()
    node.api.monitor(messages.Monitor(component="a" * 40), node.context(peer))
    await trio.sleep(1)
    assert [e.reason for e in peer.events] == ["unknown"]


async def test_a_monitor_of_an_unknown_name_is_an_error(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    with pytest.raises(PlatformError) as caught:
        node.api.monitor(messages.Monitor(component="nobody"), node.context())
    assert caught.value.code == "no-such-target"


async def test_a_renewed_monitor_fires_when_its_incarnation_is_over(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    [component] = await node.create()
    node.containers.end(component, "exit:1")
    await node.wait_state(component, S.AVAILABLE, incarnation=2)
    peer = RecordingPeer()
    params = messages.Monitor(component=component, incarnation=1)
    assert node.api.monitor(params, node.context(peer)).incarnation == 2
    await trio.sleep(1)
    assert [e.reason for e in peer.events] == ["exit:1"]


async def test_every_monitor_fires_exactly_once_under_random_ends(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


# -- looking, and who may --------------------------------------------------------------------------


async def test_components_are_listed_with_memory_and_filters(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


async def test_memory_is_unknown_while_the_container_controller_is_away(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    await node.create()
    node.containers.go_down()
    result = await node.api.components(messages.ListComponents(), node.context())
    assert [info.memory for info in result.components] == [None]


async def test_status_counts_components_and_nodes(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    await node.register()
    await node.create(count=2)
    status = node.api.status(messages.Status(), node.context())
    assert status.components == {"available": 2}
    assert status.nodes == [{"name": "n1", "state": "available", "components": 2}]
    assert (status.types, status.cluster) == (1, "test")


async def test_types_are_registered_described_and_forgotten(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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


async def test_a_type_of_an_unknown_bundle_is_refused(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
    params = messages.RegisterType(bundle="sha256:none", manifest=manifest())
    with pytest.raises(PlatformError) as caught:
        await node.api.register_type(params, node.context())
    assert caught.value.code == "no-such-bundle"


async def test_a_component_may_end_only_what_it_created_and_itself(
    autojump_clock: MockClock, node: ControlledNode
) -> None:
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
