"""Several hubs and one mailbox: who delivers, and what happens when that changes."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.hub import limits
from tests.unit.hub.mailbox_world import (
    GROUP,
    world_of,
)


async def test_only_the_primary_delivers(autojump_clock: MockClock) -> None:
    async with world_of("n1", "n2", "n3") as world:
        world.members.add("m")
        world.put("x")
        await world.empty()
        assert len(world.members.seen) == 1
        keeping = [n for n, (_, boxes, _) in world.hubs.items() if boxes.keeper(GROUP)]
        assert keeping == [world.primary]


async def test_without_a_lease_nothing_is_delivered(autojump_clock: MockClock) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.leases["n1"] = False
        world.put("x")
        await trio.sleep(10)
        assert world.members.seen == []
        world.leases["n1"] = True
        await world.empty()
        assert world.members.seen == [("m", "x", 1)]


async def test_a_primary_of_the_past_stops_when_the_log_refuses_it(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", "n2", "n3") as world:
        old = world.primary
        replica, boxes, _ = world.hubs[old]
        replica.lags = True  # it does not hear that it was lost
        world.lose(old)
        assert world.primary != old
        world.members.add("m")
        world.put("w")
        await world.empty()
        assert world.members.done == ["w"]
        replica.lags = False
        replica.catch_up()
        await trio.sleep(10)
        assert boxes.keeper(GROUP) is None
        assert world.members.done == ["w"]


async def test_a_stale_primary_that_delivers_is_refused_and_waits_until_it_knows_better(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", "n2", "n3") as world:
        world.put("x", "y")
        old = world.primary
        replica, boxes, _ = world.hubs[old]
        replica.lags = True
        world.lose(old)
        world.members.add("m")
        await world.empty()
        await trio.sleep(100)
        # Both delivered: at least once.  Then the old one was refused, and did nothing more.
        assert sorted(set(world.members.done)) == ["x", "y"]
        assert len(world.members.done) <= 4
        replica.catch_up()
        await trio.sleep(20)
        assert boxes.keeper(GROUP) is None
        assert world.box.counts.acknowledged == 2


async def test_a_primary_that_was_refused_wrongly_begins_again(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1") as world:
        world.members.add("m")
        world.log.trouble += [PlatformError("conflict")]
        world.put("x")
        await world.empty()
        assert world.members.done == ["x", "x"]
        assert world.box.counts.acknowledged == 1


async def test_handing_over_under_load_loses_nothing_and_keeps_first_deliveries_in_order(
    autojump_clock: MockClock,
) -> None:
    async with world_of("n1", "n2", "n3", backoff_s=0.1) as world:
        world.members.add("m1")
        world.members.add("m2")

        async def cast(sender: str) -> None:
            for number in range(60):
                world.put(f"{sender}-{number:03}", sender=sender)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            for sender in ("a", "b", "c"):
                nursery.start_soon(cast, sender)
            await trio.sleep(0.2)
            first = world.primary
            world.hubs[first][0].lags = True
            world.lose(first)
            await trio.sleep(0.2)
            world.hubs[first][0].catch_up()
            world.kill(first)
            second = world.primary
            world.kill(second)
            world.lose(second)
        await world.empty()
        assert len({first, second, world.primary}) == 3
        for sender in ("a", "b", "c"):
            mine = [one for one in world.members.done if one.startswith(sender)]
            assert sorted(set(mine)) == [f"{sender}-{number:03}" for number in range(60)]
            firsts = list(dict.fromkeys(mine))
            assert firsts == sorted(firsts)
        assert world.box.counts.acknowledged == 180
        assert len(world.members.done) < 180 + 2 * limits.DURABLE_IN_FLIGHT_MAX
