"""Virtual time for trio: order, determinism, pauses; the private names of trio that it uses."""

from __future__ import annotations

import pytest
import trio
from trio._core import _run as trio_run

from paas.sim.platform.process import Process
from paas.sim.platform.world import StandsStill, World


def test_the_private_names_of_trio_are_where_they_were() -> None:
    assert isinstance(trio_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert hasattr(trio_run._r, "seed")
    assert {"runq", "io_manager"} <= set(trio_run.Runner.__slots__)


def test_an_hour_passes_at_once_and_in_order() -> None:
    world, seen = World(1), []

    async def main() -> None:
        world.after(10.0, seen.append, "action")
        await trio.sleep(5.0)
        seen.append("five")
        await trio.sleep(3_595.0)
        seen.append("hour")

    world.run(main)
    assert seen == ["five", "action", "hour"]
    assert world.now_s == 3_600.0


def test_all_actions_of_one_moment_come_before_the_tasks_they_wake() -> None:
    world, seen = World(1), []

    async def main() -> None:
        event = trio.Event()
        world.after(1.0, event.set)
        world.after(1.0, seen.append, "second action")
        await event.wait()
        seen.append("task")

    world.run(main)
    assert seen == ["second action", "task"]


def shuffled(seed: int) -> list[int]:
    """In which order twenty tasks run that wake at the same time."""
    world, order = World(seed), []

    async def one(number: int) -> None:
        await trio.sleep(1.0)
        order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)

    world.run(main)
    return order


def test_the_order_of_tasks_is_the_seed_s() -> None:
    assert shuffled(1) == shuffled(1)
    assert shuffled(1) != shuffled(2)


def test_the_world_gives_trio_back_as_it_was() -> None:
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    shuffled(3)
    assert trio_run._ALLOW_DETERMINISTIC_SCHEDULING is before


def test_tasks_of_a_paused_process_stand_still_and_go_on_afterwards() -> None:
    world, seen = World(1), []

    async def ticking(name: str) -> None:
        while True:
            await trio.sleep(1.0)
            seen.append((name, world.now_s))

    async def main() -> None:
        one, two = Process(world, "one"), Process(world, "two")
        async with trio.open_nursery() as nursery:
            one.spawn(nursery, ticking, "one")
            two.spawn(nursery, ticking, "two")
            await trio.sleep(1.5)
            one.pause()
            one.post(seen.append, ("one", "message"))
            await trio.sleep(2.0)
            one.resume()
            await trio.sleep(1.1)
            nursery.cancel_scope.cancel()

    world.run(main)
    assert [entry for entry in seen if entry[0] == "two"] == [
        ("two", float(s)) for s in (1, 2, 3, 4)
    ]
    times = [entry[1] for entry in seen if entry[0] == "one"]
    assert sorted(times[1:3], key=str) == [3.5, "message"]
    assert (times[0], times[3]) == (1.0, 4.5)


def test_what_is_posted_to_a_dead_process_is_dropped() -> None:
    world, seen = World(1), []

    async def main() -> None:
        process = Process(world, "one")
        process.kill()
        process.post(seen.append, "message")
        await trio.sleep(1.0)

    world.run(main)
    assert seen == []


def test_tasks_that_turn_in_a_circle_are_found() -> None:
    world = World(1)

    async def main() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(StandsStill, match="time stands still"):
        world.run(main)


def test_a_failure_of_an_action_ends_the_run() -> None:
    world = World(1)

    def fail() -> None:
        raise ValueError("by the action")

    async def main() -> None:
        world.after(1.0, fail)
        await trio.sleep(10.0)

    with pytest.raises(ValueError, match="by the action"):
        world.run(main)
    assert world.now_s == 1.0


def test_a_failure_ends_the_run_though_a_process_is_paused() -> None:
    world, seen = World(1), []

    def fail() -> None:
        raise ValueError("by the action")

    async def working() -> None:
        try:
            await trio.sleep(3.0)
        finally:
            seen.append(world.now_s)

    async def main() -> None:
        process = Process(world, "one")
        async with trio.open_nursery() as nursery:
            process.spawn(nursery, working)
            world.after(1.0, process.pause)
            world.after(4.0, fail)

    with pytest.raises(ValueError, match="by the action"):
        world.run(main)
    assert seen == [4.0]
