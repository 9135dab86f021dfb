"""Watches of the hub: a snapshot and then every event once, whenever a watch begins or ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from paas.hub import messages
from paas.testing.hub_in_memory import Far, World, hub_world, settled


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with hub_world() as made:
        yield made


async def test_a_watch_of_a_group_is_a_snapshot_and_then_every_event_once(world: World) -> None:
    a, b = await world.component("a"), await world.component("b")
    await a.call(messages.JOIN, messages.Join(groups=["g"]))
    far = world.operator()
    result = await far.call(messages.WATCH, messages.Watch(group="g"))
    assert [m["component"] for m in result.snapshot] == ["a"]
    assert result.index == world.log.applied()
    await b.call(messages.JOIN, messages.Join(groups=["g", "other"]))
    world.becomes("b", "unavailable", "available")
    await a.call(messages.LEAVE, messages.Leave(groups=["g"]))
    world.ends("b")
    await settled()
    assert far.told == [
        (result.watch, "joined", "b"),
        (result.watch, "changed", "b"),
        (result.watch, "left", "a"),
        (result.watch, "left", "b"),
    ]
    changed = far.events[1]
    assert (changed.state, changed.previous, changed.reason) == (
        "unavailable",
        "available",
        "because",
    )
    assert (changed.name, changed.group, changed.time) == ("name-b", "g", 1_700_000_000.0)
    indices = [e.index for e in far.events]
    assert indices == sorted(set(indices))
    assert all(i > result.index for i in indices)


async def test_watching_while_others_join_misses_and_repeats_nothing(world: World) -> None:
    """At whatever moment a watch begins: snapshot and events are what there is in the end."""
    joiners = [await world.component(f"c{n}") for n in range(12)]
    seen: list[set[str]] = []

    async def join(far: Far) -> None:
        await far.call(messages.JOIN, messages.Join(groups=["g"]))

    async def watch() -> None:
        far = world.operator()
        result = await far.call(messages.WATCH, messages.Watch(group="g"))
        await settled()
        story = [m["component"] for m in result.snapshot] + [e.component for e in far.events]
        assert len(story) == len(set(story))
        seen.append(set(story))

    async with trio.open_nursery() as nursery:
        for far in joiners:
            nursery.start_soon(join, far)
            nursery.start_soon(watch)
    assert seen == [{f"c{n}" for n in range(12)}] * 12


async def test_events_of_the_snapshot_s_own_index_are_not_repeated(world: World) -> None:
    """The log publishes after it has applied: a watch that began between has them already."""
    far = world.operator()
    await world.component("a")
    events: list[tuple[int, Sequence[object]]] = []
    world.log.subscribers[:] = [lambda index, what: events.append((index, what))]
    world.becomes("a", "available")
    await far.call(messages.WATCH, messages.Watch(components=True))
    for index, what in events:
        world.hub.state_changed(index, what)
    await settled()
    assert far.events == []


async def test_all_components_can_be_watched(world: World) -> None:
    far = world.operator()
    result = await far.call(messages.WATCH, messages.Watch(components=True))
    assert result.snapshot == []
    world.exists("a", groups=["g"])
    world.becomes("a", "available")
    await settled()
    assert far.told == [(result.watch, "changed", "a")]


async def test_a_component_that_is_forgotten_already_does_not_stop_the_news(world: World) -> None:
    far = world.operator()
    await world.component("a")
    await far.call(messages.WATCH, messages.Watch(components=True))
    world.log.subscribers.insert(0, lambda *_: world.lives.states.clear())
    world.becomes("a", "destroyed", "destroying")
    await settled()
    assert [(e.state, e.name) for e in far.events] == [("destroyed", "")]


async def test_unwatch_ends_the_events(world: World) -> None:
    a, far = await world.component("a"), world.operator()
    result = await far.call(messages.WATCH, messages.Watch(group="g"))
    await far.call(messages.UNWATCH, messages.Unwatch(watch=result.watch))
    await a.call(messages.JOIN, messages.Join(groups=["g"]))
    await settled()
    assert far.events == []
    error = await far.error(messages.UNWATCH, messages.Unwatch(watch=result.watch))
    assert error.code == "no-such-target"


@pytest.mark.parametrize(
    "params",
    [
        messages.Watch(),
        messages.Watch(group="g", components=True),
        messages.Watch(components=False),
        messages.Watch(group=""),
    ],
)
async def test_a_watch_is_of_exactly_one_thing(world: World, params: messages.Watch) -> None:
    assert (await world.operator().error(messages.WATCH, params)).code == "invalid"
    assert world.hub.statistics()["watches"] == 0


async def test_watches_end_with_their_connection(world: World) -> None:
    far, a = world.operator(), await world.component("a")
    await far.call(messages.WATCH, messages.Watch(group="g"))
    await far.call(messages.WATCH, messages.Watch(components=True))
    await a.call(messages.WATCH, messages.Watch(group="g"))
    assert world.hub.statistics()["watches"] == 3
    far.peer.close()
    await settled()
    assert world.hub.statistics()["watches"] == 1
    a.peer.close()
    await settled()
    assert world.hub.statistics()["watches"] == 0
