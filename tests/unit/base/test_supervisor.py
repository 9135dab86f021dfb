"""The supervisor on virtual time: strategies, restarts, back-off, stop order, escalation."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from paas.base.errors import LocalError
from paas.base.retry import Backoff
from paas.base.supervisor import (
    Child,
    ChildStatus,
    Event,
    EventKind,
    Restart,
    RestartIntensityExceeded,
    State,
    Strategy,
    Supervisor,
    cleanup_scope,
)

QUICK = Backoff(0.0, cap_s=0.0)


ONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE
P, T, N = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY


@pytest.mark.parametrize(
    ("strategy", "restart", "crash", "story"),
    [
        (ONE, P, True, ["-b", "+b"]),
        (ONE, P, False, ["-b", "+b"]),
        (ONE, T, True, ["-b", "+b"]),
        (ONE, T, False, ["-b"]),
        (ONE, N, True, ["-b"]),
        (ONE, N, False, ["-b"]),
        (ALL, P, True, ["-b", "-c", "-a", "+a", "+b", "+c"]),
        (ALL, P, False, ["-b", "-c", "-a", "+a", "+b", "+c"]),
        (ALL, T, True, ["-b", "-c", "-a", "+a", "+b", "+c"]),
        (ALL, T, False, ["-b"]),
        (ALL, N, True, ["-b"]),
        (ALL, N, False, ["-b"]),
        (REST, P, True, ["-b", "-c", "+b", "+c"]),
        (REST, P, False, ["-b", "-c", "+b", "+c"]),
        (REST, T, True, ["-b", "-c", "+b", "+c"]),
        (REST, T, False, ["-b"]),
        (REST, N, True, ["-b"]),
        (REST, N, False, ["-b"]),
    ],
)
async def test_every_strategy_with_every_restart_kind(
    strategy: Strategy,
    restart: Restart,
    crash: bool,
    story: list[str],
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world(strategy=strategy, restart=restart)
    async with world.running():
        assert world.story == ["+a", "+b", "+c"]
        assert await world.end("b", crash=crash) == story
        expected = State.RUNNING if "+b" in story else State.ENDED
        assert world.states() == {"a": State.RUNNING, "b": expected, "c": State.RUNNING}
    assert world.failure is None


async def test_a_temporary_sibling_is_stopped_with_the_group_and_not_started_again(
    autojump_clock: MockClock,
    new_script: Any,
) -> None:
    story: list[str] = []
    a, b = new_script("a", story), new_script("b", story)
    children = [Child(name="a", run=a.run), Child(name="b", run=b.run, restart=N)]
    supervisor = Supervisor("root", children, strategy=ALL, backoff=QUICK)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        a.end(crash=True)
        await trio.sleep(1)
        assert story == ["+a", "+b", "-a", "-b", "+a"]
        supervisor.stop()


async def test_siblings_that_crash_together_count_once(
    autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world(strategy=ALL, max_restarts=1)
    async with world.running():
        for script in world.scripts.values():
            script.end(crash=True)
        await trio.sleep(1)
        assert set(world.states().values()) == {State.RUNNING}
        assert world.kinds().count(EventKind.RESTARTING) == 1


async def test_children_stop_in_reverse_order_each_after_the_last(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world()
    for script in world.scripts.values():
        script.clean_s = 1
    async with world.running():
        world.story.clear()
        began = trio.current_time()
    assert world.story == ["-c", "-b", "-a"]
    assert trio.current_time() - began == 3


async def test_cancellation_from_outside_keeps_the_order_and_is_no_crash(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world()
    for script in world.scripts.values():
        script.clean_s = 1
    with trio.move_on_after(10) as scope:
        await world.supervisor.run()
    assert scope.cancelled_caught
    assert world.story == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert EventKind.CRASHED not in world.kinds()
    assert world.kinds()[-3:] == [EventKind.STOPPED] * 3


async def test_children_start_in_order_each_when_the_one_before_is_ready(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world()
    world.scripts["a"].start_s = 5
    async with world.running():
        assert world.story == ["+a", "+b", "+c"]
        assert trio.current_time() >= 5


async def test_a_crash_while_the_others_are_being_stopped_is_not_restarted(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world("ac")
    world.scripts["c"].clean_s = 4
    async with trio.open_nursery() as nursery:
        await nursery.start(world.supervisor.run)
        world.supervisor.stop()
        await trio.sleep(1)
        world.scripts["a"].end(crash=True)
        await trio.sleep(1)
        assert world.scripts["a"].lives == 1
    assert EventKind.RESTARTING not in world.kinds()


async def test_intensity_is_exceeded_by_one_restart_more(
    autojump_clock: MockClock, new_world: Any, boom: Any
) -> None:
    world = new_world("ab", max_restarts=2, period_s=100)
    async with world.running():
        for _ in range(2):
            assert await world.end("b", crash=True) == ["-b", "+b"]
            assert world.failure is None
        assert await world.end("b", crash=True) == ["-b", "-a"]
    failure = world.failure
    assert isinstance(failure, RestartIntensityExceeded)
    assert isinstance(failure.__cause__, boom)
    assert world.kinds().count(EventKind.ESCALATED) == 1


async def test_restarts_out_of_the_period_do_not_count(
    autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world("a", max_restarts=1, period_s=10)
    async with world.running():
        for _ in range(5):
            await world.end("a", crash=True)
            await trio.sleep(9)
    assert world.failure is None


async def test_an_intensity_of_zero_escalates_at_the_first_crash(
    autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world("a", max_restarts=0)
    async with world.running():
        await world.end("a", crash=True)
    assert isinstance(world.failure, RestartIntensityExceeded)


async def test_the_back_off_grows_to_its_cap_and_begins_anew_after_a_healthy_run(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world(
        "a", max_restarts=100, healthy_s=50, backoff=Backoff(1, cap_s=4), jitter=lambda: 1.0
    )
    async with world.running():
        for _ in range(4):
            await trio.sleep(10)
            world.scripts["a"].end(crash=True)
        await trio.sleep(60)
        world.scripts["a"].end(crash=True)
        await trio.sleep(10)
    restarts = [e for e in world.events if e.kind is EventKind.RESTARTING]
    assert [e.delay_s for e in restarts] == [1, 2, 4, 4, 1]
    assert [e.attempt for e in restarts] == [1, 2, 3, 4, 1]


async def test_jitter_is_drawn_from_what_was_given(
    autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world("a", backoff=Backoff(8, cap_s=8), jitter=lambda: 0.0)
    async with world.running():
        world.scripts["a"].end(crash=True)
        await trio.sleep(3.9)
        assert world.states() == {"a": State.WAITING}
        await trio.sleep(0.2)
        assert world.states() == {"a": State.RUNNING}


@pytest.mark.parametrize("strategy", [ONE, ALL, REST])
async def test_a_crash_while_starting_is_tried_again_with_back_off(
    strategy: Strategy, autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world(strategy=strategy, backoff=Backoff(1, cap_s=10), jitter=lambda: 1.0)
    world.scripts["b"].crashes_before_ready = 2
    async with world.running():
        assert trio.current_time() == 3
        assert set(world.states().values()) == {State.RUNNING}
        assert world.scripts["b"].lives == 3
        assert world.scripts["a"].lives == (3 if strategy is ALL else 1)
        assert world.scripts["c"].lives == 1


async def test_a_child_that_never_starts_escalates_and_stops_its_siblings(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world("ab", max_restarts=2)
    world.scripts["b"].crashes_before_ready = 99
    with pytest.raises(RestartIntensityExceeded):
        await world.supervisor.run()
    assert world.scripts["b"].lives == 3
    assert world.story == ["+a", "-b", "-b", "-b", "-a"]


@pytest.mark.parametrize("strategy", [ONE, ALL, REST])
async def test_a_sibling_that_crashes_while_another_starts_is_not_lost(
    strategy: Strategy, autojump_clock: MockClock, new_world: Any
) -> None:
    world = new_world(strategy=strategy)
    world.scripts["b"].start_s = 10
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.supervisor.run)
        await trio.sleep(5)
        world.scripts["a"].end(crash=True)
        await trio.sleep(100)
        assert set(world.states().values()) == {State.RUNNING}
        assert world.scripts["a"].lives == 2
        assert world.scripts["b"].lives == (1 if strategy is ONE else 2)
        assert world.scripts["c"].lives == 1
        world.supervisor.stop()


async def test_a_transient_child_may_end_before_it_is_ready(autojump_clock: MockClock) -> None:
    async def once(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(1)

    supervisor = Supervisor("root", [Child(name="once", run=once, restart=T)])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert supervisor.which_children()[0].state is State.ENDED
        supervisor.stop()


async def test_a_child_that_hangs_in_clean_up_is_cut_off_in_time(autojump_clock: MockClock) -> None:
    async def hang(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with cleanup_scope():
                await trio.sleep_forever()

    events: list[Event] = []
    supervisor = Supervisor(
        "root", [Child(name="h", run=hang, stop_timeout_s=7)], on_event=events.append
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        began = trio.current_time()
        supervisor.stop()
    assert trio.current_time() - began == 7
    assert EventKind.HANGING not in [e.kind for e in events]


async def test_a_child_that_shields_itself_for_too_long_is_announced_as_hanging(
    autojump_clock: MockClock,
) -> None:
    async def shielded(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    events: list[Event] = []
    supervisor = Supervisor(
        "root", [Child(name="s", run=shielded, stop_timeout_s=7)], on_event=events.append
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.stop()
    assert EventKind.HANGING in [e.kind for e in events]


async def test_a_child_with_a_stop_ends_by_itself_or_is_cancelled_after_its_time(
    autojump_clock: MockClock,
) -> None:
    story: list[str] = []

    def worker(name: str, obeys: bool) -> Child:
        asked = trio.Event()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            try:
                await asked.wait()
                if not obeys:
                    await trio.sleep_forever()
                await trio.sleep(2)
                story.append(f"{name} done at {trio.current_time():g}")
            except trio.Cancelled:
                story.append(f"{name} cancelled at {trio.current_time():g}")
                raise

        return Child(name=name, run=run, stop=asked.set, stop_timeout_s=5)

    supervisor = Supervisor("root", [worker("rebel", False), worker("good", True)])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.stop()
    assert story == ["good done at 2", "rebel cancelled at 7"]


async def test_a_crash_while_stopping_is_announced_and_not_restarted(
    autojump_clock: MockClock,
    boom: Any,
) -> None:
    async def sore(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise boom("in clean-up")

    events: list[Event] = []
    supervisor = Supervisor("root", [Child(name="s", run=sore)], on_event=events.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.stop()
    assert [e.kind for e in events] == [EventKind.STARTED, EventKind.CRASHED]


async def test_escalation_through_two_levels(autojump_clock: MockClock, new_script: Any) -> None:
    story: list[str] = []
    leaf = new_script("leaf", story)
    beside = new_script("beside", story)
    inner = Supervisor("inner", [Child(name="leaf", run=leaf.run)], max_restarts=1, backoff=QUICK)
    middle = Supervisor("middle", [inner.as_child()], max_restarts=1, backoff=QUICK)
    outer = Supervisor(
        "outer", [Child(name="beside", run=beside.run), middle.as_child()], max_restarts=0
    )

    async def crash_forever() -> None:
        while True:
            await trio.sleep(1)
            leaf.end(crash=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash_forever)
        with pytest.raises(RestartIntensityExceeded, match="outer: middle") as caught:
            await outer.run()
        nursery.cancel_scope.cancel()
    causes: list[str] = []
    exc: BaseException | None = caught.value
    while exc is not None:
        causes.append(str(exc).split(" ended")[0])
        exc = exc.__cause__
    assert causes == ["outer: middle", "middle: inner", "inner: leaf", "leaf"]
    assert leaf.lives == 4  # (1 + 1 restart) of inner, twice
    assert beside.lives == 1
    assert story[-1] == "-beside"


async def test_nested_supervisors_show_their_children(
    autojump_clock: MockClock, new_script: Any
) -> None:
    story: list[str] = []
    inner = Supervisor("inner", [Child(name="leaf", run=new_script("leaf", story).run)])
    outer = Supervisor("outer", [inner.as_child()])
    async with trio.open_nursery() as nursery:
        await nursery.start(outer.run)
        (row,) = outer.which_children()
        assert (row.name, row.state) == ("inner", State.RUNNING)
        assert [status.name for status in row.inside] == ["leaf"]
        outer.stop()
    assert story == ["+leaf", "-leaf"]


async def test_which_children_tells_restarts_time_and_the_last_error(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world("a")
    async with world.running():
        await trio.sleep(4)
        await world.end("a", crash=True)
        (row,) = world.supervisor.which_children()
    assert row == ChildStatus(
        name="a", state=State.RUNNING, restart=P, restarts=1, since_s=4, last_error="Boom: a"
    )


async def test_two_children_of_one_name_are_a_bug(autojump_clock: MockClock) -> None:
    with pytest.raises(LocalError, match="same name"):
        Supervisor("root", [Child(name="a", run=trio.sleep_forever)] * 2)


async def test_a_supervisor_runs_once_at_a_time_and_can_run_again(
    autojump_clock: MockClock,
    new_world: Any,
) -> None:
    world = new_world("a")
    for _ in range(2):
        async with world.running():
            with pytest.raises(LocalError, match="runs already"):
                await world.supervisor.run()
    assert world.scripts["a"].lives == 2
