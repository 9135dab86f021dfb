"""Whether components may run here now: by a lease, a clock and a fence that is told."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.fence import Fence


class Place:
    """Where a lease is written, without a file or a process."""

    def __init__(self, found: float = math.inf) -> None:
        self.found = found
        self.marked = False
        self.calls: list[object] = []
        self.on_grant: Callable[[], None] = lambda: None

    def load(self) -> float:
        return self.found

    def fenced(self) -> bool:
        return self.marked

    async def guard(self) -> None:
        self.calls.append("guard")

    async def grant(self, deadline_s: float) -> None:
        self.marked = False
        self.calls.append(deadline_s)
        self.on_grant()

    async def drop(self) -> None:
        self.calls.append("drop")


class World:
    """A node whose time is set by the test."""

    def __init__(self, found: float = math.inf, now_s: float = 100.0) -> None:
        self.now_s = now_s
        self.place = Place(found)
        self.during_stop: Callable[[], Awaitable[None]] | None = None
        self.fence = Fence(self.place, self.stop, lambda: self.now_s)
        self.fence.load()

    async def stop(self) -> None:
        self.place.calls.append("stop")
        if self.during_stop is not None:
            await self.during_stop()

    def refusal(self) -> str:
        with pytest.raises(PlatformError) as caught:
            self.fence.require()
        return f"{caught.value.code}: {caught.value.message}"


async def test_without_leases_everything_may_run_for_ever() -> None:
    world = World()
    await world.fence.open()
    world.now_s = 1e9
    world.fence.require()
    assert world.fence.left_s == math.inf
    assert not world.fence.killing
    assert world.place.calls == ["drop"], "what an earlier lease left is removed"


async def test_a_lease_lasts_until_its_deadline_and_not_longer() -> None:
    world = World()
    await world.fence.extend(102.5)
    world.now_s = 102.4999
    world.fence.require()
    world.now_s = 102.5
    assert world.fence.ended
    assert world.fence.killing
    assert world.fence.left_s == 0.0
    assert world.refusal() == "not-available: the node's lease has ended"


async def test_an_extension_in_time_kills_nothing() -> None:
    world = World()
    for step in range(5):
        world.now_s = 100.0 + step
        await world.fence.extend(102.5 + step)
    assert world.place.calls == [102.5, 103.5, 104.5, 105.5, 106.5]


async def test_after_the_end_all_is_killed_before_the_next_lease_counts() -> None:
    world = World()
    await world.fence.extend(102.5)
    world.now_s = 103.0

    async def look() -> None:
        assert world.fence.ended
        assert world.refusal().startswith("not-available")

    world.during_stop = look
    await world.fence.extend(105.0)
    assert world.place.calls == [102.5, "stop", 105.0]
    world.fence.require()


async def test_a_lease_that_ends_while_the_old_components_die_is_not_put_in_force() -> None:
    world = World()
    await world.fence.extend(102.5)
    world.now_s = 103.0

    async def last_long() -> None:
        world.now_s = 106.0

    world.during_stop = last_long
    with pytest.raises(PlatformError) as caught:
        await world.fence.extend(105.0)
    assert caught.value.code == "not-available"
    assert 105.0 not in world.place.calls
    assert world.fence.ended


async def test_a_deadline_of_the_past_is_refused_and_the_lease_in_force_stays() -> None:
    world = World()
    await world.fence.extend(102.5)
    with pytest.raises(PlatformError) as caught:
        await world.fence.extend(99.0)
    assert caught.value.code == "not-available"
    world.fence.require()


@pytest.mark.parametrize("deadline_s", [math.nan, math.inf, 100.0 + limits.LEASE_S_MAX + 1, 1.7e9])
async def test_a_deadline_of_another_clock_is_refused(deadline_s: float) -> None:
    world = World()
    with pytest.raises(PlatformError) as caught:
        await world.fence.extend(deadline_s)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid", "deadline_s")
    assert world.place.calls == []


async def test_a_fence_that_began_while_the_lease_was_extended_has_all_killed() -> None:
    world = World()
    await world.fence.extend(102.5)

    def begin_once() -> None:
        world.place.on_grant = lambda: None
        world.place.marked = True

    world.place.on_grant = begin_once
    await world.fence.extend(103.0)
    assert world.place.calls == [102.5, 103.0, "stop", 103.0]
    world.fence.require()


async def test_no_lease_needed_any_more_after_one_that_held_and_one_that_ended() -> None:
    world = World()
    await world.fence.extend(102.5)
    await world.fence.extend(None)
    assert world.place.calls == [102.5, "drop"]
    await world.fence.extend(102.5)
    world.now_s = 200.0
    await world.fence.extend(None)
    assert world.place.calls[2:] == [102.5, "stop", "drop"]
    world.fence.require()


async def test_a_controller_that_begins_again_keeps_a_lease_that_holds() -> None:
    world = World(found=101.0)
    await world.fence.open()
    world.fence.require()
    assert world.place.calls == ["guard"]
    world.now_s = 101.0
    assert world.fence.ended


@pytest.mark.parametrize("found", [-math.inf, 99.0])
async def test_a_controller_that_begins_again_finds_a_lease_that_has_ended(found: float) -> None:
    world = World(found=found)
    assert world.fence.ended
    await world.fence.open()
    assert world.place.calls == [], "nothing to guard"
    assert world.refusal().startswith("not-available")
    await world.fence.extend(103.0)
    assert world.place.calls == ["stop", 103.0]


async def test_clearing_kills_under_a_lease_that_holds_and_lets_nothing_start_meanwhile() -> None:
    world = World()

    async def look() -> None:
        assert world.fence.killing
        assert world.refusal() == "not-available: the node is being cleared"

    world.during_stop = look
    await world.fence.clear()
    assert world.place.calls == ["stop"]
    world.fence.require()


async def test_enforcing_does_nothing_while_the_lease_holds() -> None:
    world = World()
    await world.fence.extend(102.5)
    await world.fence.enforce()
    world.now_s = 102.5
    await world.fence.enforce()
    assert world.place.calls == [102.5, "stop"]
