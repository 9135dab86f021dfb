"""Children that come and go at run time, on virtual time; and histories from seeds."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import PlatformError
from paas.base.retry import Backoff
from paas.base.supervisor import Child, Restart, RestartIntensityExceeded, State, Strategy

ONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE
P, T, N = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY


async def test_a_child_started_at_run_time_is_kept_and_stopped_last_in_first_out(
    autojump_clock: MockClock,
    new_world: Any,
    new_script: Any,
) -> None:
    world = new_world("a")
    late = new_script("late", world.story)
    async with world.running():
        await world.supervisor.start_child(Child(name="late", run=late.run))
        late.end(crash=True)
        await trio.sleep(1)
        assert late.lives == 2
        world.story.clear()
    assert world.story == ["-late", "-a"]


async def test_a_child_started_at_run_time_that_crashes_before_ready_is_not_kept(
    autojump_clock: MockClock,
    new_world: Any,
    new_script: Any,
    boom: Any,
) -> None:
    world = new_world("a")
    late = new_script("late", world.story)
    late.crashes_before_ready = 1
    async with world.running():
        with pytest.raises(boom, match="while starting"):
            await world.supervisor.start_child(Child(name="late", run=late.run))
        assert list(world.states()) == ["a"]


async def test_a_permanent_child_started_at_run_time_that_ends_before_ready_is_an_error(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    async def nothing(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()

    world = new_world("a")
    async with world.running():
        with pytest.raises(PlatformError, match="before it was ready"):
            await world.supervisor.start_child(Child(name="n", run=nothing))
        await world.supervisor.start_child(Child(name="n", run=nothing, restart=T))
        assert list(world.states()) == ["a"]


async def test_giving_up_start_child_ends_the_child(
    autojump_clock: MockClock, new_world: Any, new_script: Any
) -> None:
    world = new_world("a")
    late = new_script("late", world.story)
    late.start_s = 100
    async with world.running():
        with trio.move_on_after(1):
            await world.supervisor.start_child(Child(name="late", run=late.run))
        assert late.alive == 0
        assert list(world.states()) == ["a"]


async def test_children_at_run_time_that_end_for_good_are_forgotten(
    autojump_clock: MockClock,
    new_world: Any,
    new_script: Any,
) -> None:
    world = new_world("a")
    async with world.running():
        for number in range(10):
            late = new_script(f"late-{number}", world.story)
            await world.supervisor.start_child(Child(name=late.name, run=late.run, restart=T))
            late.end(crash=False)
        await trio.sleep(1)
        assert list(world.states()) == ["a"]


@pytest.mark.parametrize("strategy", [ONE, ALL, REST])
async def test_terminate_child_stops_it_and_only_it(
    strategy: Strategy, autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world(strategy=strategy)
    async with world.running():
        world.story.clear()
        await world.supervisor.terminate_child("b")
        await trio.sleep(1)
        assert world.story == ["-b"]
        assert list(world.states()) == ["a", "c"]
        await world.supervisor.start_child(Child(name="b", run=world.scripts["b"].run))
        assert list(world.states()) == ["a", "c", "b"]


@pytest.mark.parametrize("strategy", [ONE, ALL, REST])
async def test_terminating_a_child_during_its_back_off_leaves_the_others(
    strategy: Strategy, autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world(strategy=strategy, backoff=Backoff(10, cap_s=10))
    async with world.running():
        world.scripts["b"].end(crash=True)
        await trio.sleep(1)
        await world.supervisor.terminate_child("b")
        await trio.sleep(20)
        assert world.states() == {"a": State.RUNNING, "c": State.RUNNING}
        assert world.scripts["b"].lives == 1


async def test_errors_of_dynamic_children_name_what_is_wrong(
    autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world("a")
    child = Child(name="a", run=world.scripts["a"].run)
    with pytest.raises(PlatformError, match="not running"):
        await world.supervisor.start_child(child)
    async with world.running():
        with pytest.raises(PlatformError, match="already") as caught:
            await world.supervisor.start_child(child)
        assert caught.value.code == "conflict"
        with pytest.raises(PlatformError, match="no child x"):
            await world.supervisor.terminate_child("x")


async def test_too_many_children_are_refused(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world("a")
    monkeypatch.setattr("paas.base.supervisor.CHILDREN_MAX", 1)
    async with world.running():
        with pytest.raises(PlatformError, match="has 1 children"):
            await world.supervisor.start_child(Child(name="b", run=world.scripts["a"].run))


@pytest.mark.parametrize("strategy", [ONE, ALL, REST])
@pytest.mark.parametrize("seed", range(25))
async def test_random_crashes_keep_the_invariants(
    strategy: Strategy, seed: int, autojump_clock: MockClock, new_world: Any
) -> None:
    """One seed is one history: crashes at random times, random start and clean-up times.

    Held: never two lives of a child at once (Script asserts it); never more restarts within the
    period than allowed; once the crashes stop, either all run or the supervisor gave up with
    nothing left running; the back-off never exceeds its cap.
    """
    draw = random.Random(seed)
    names = "abcdefgh"[: draw.randint(1, 8)]
    max_restarts, period_s = draw.randint(1, 30), draw.choice([5.0, 30.0])
    world = new_world(
        names,
        strategy=strategy,
        max_restarts=max_restarts,
        period_s=period_s,
        backoff=Backoff(draw.choice([0.0, 0.1, 1.0]), cap_s=2.0),
        jitter=draw.random,
    )
    for script in world.scripts.values():
        script.start_s = draw.choice([0.0, 0.0, 0.5, 3.0])
        script.clean_s = draw.choice([0.0, 0.0, 0.5, 3.0])
        script.crashes_before_ready = draw.choice([0, 0, 0, 1, 2])

    async def disturb(stable: Callable[[], Awaitable[None]]) -> None:
        for _ in range(draw.randint(1, 40)):
            await trio.sleep(draw.choice([0.0, 0.0, 0.1, 1.0, 5.0]))
            for victim in draw.sample(names, draw.randint(1, min(2, len(names)))):
                world.scripts[victim].end(crash=draw.random() < 0.8)
        await stable()

    async def stable() -> None:
        await trio.sleep(1000)
        if world.failure is None:
            assert set(world.states().values()) == {State.RUNNING}
            assert all(script.alive == 1 for script in world.scripts.values())
        else:
            assert all(script.alive == 0 for script in world.scripts.values())
        world.supervisor.stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(disturb, stable)
        try:
            await world.supervisor.run()
        except RestartIntensityExceeded as exc:
            world.failure = exc
    assert all(script.alive == 0 for script in world.scripts.values())
    restarts = [t for t, e in zip(world.times, world.events, strict=True) if e.delay_s]
    assert all(event.delay_s <= 2.0 for event in world.events)
    # A recovery announces itself when its group is stopped, which takes time: the window is wider.
    slack_s = 3.0 * len(names)
    for begin in restarts:
        within = sum(begin <= t < begin + period_s - slack_s for t in restarts)
        assert within <= max_restarts
