"""The simulation's loop does what trio's does, step for step; trio's is what it was made from."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
import trio
from trio._core import _run as trio_run

from paas.raft import log as raft_log
from paas.raft.alarm import Alarm
from paas.sim.platform import loop, world
from paas.sim.platform.process import Process
from paas.sim.platform.story import Outcome, run_seed
from paas.sim.platform.world import World

SHORT_S = 110.0
READ = "044d22f60ec6d94c"
"""Of the texts that loop.py was written from: who changes this has compared them."""

Seen = list[Any]
Plot = Callable[[World, Seen], Awaitable[None]]


def test_what_is_replaced_is_what_was_read() -> None:
    texts: list[Any] = [trio_run, trio.sleep, trio.sleep_until, trio.current_time, Alarm]
    text = "".join(inspect.getsource(each) for each in texts)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == READ


def test_everything_is_as_before_behind_the_block() -> None:
    before = [getattr(where, name) for where, name, _ in loop.REPLACED]
    with loop.quick():
        assert [getattr(where, name) for where, name, _ in loop.REPLACED] != before
        assert isinstance(raft_log.Alarm(), loop.QuickAlarm)
    assert [getattr(where, name) for where, name, _ in loop.REPLACED] == before


@pytest.mark.parametrize("seed", [2, 9])
def test_a_seed_tells_the_same_story_on_trio_s_own_loop(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(outcome: Outcome) -> tuple[Any, ...]:
        assert outcome.broken == ""
        return outcome.trace, outcome.fired, outcome.evaluated, outcome.simulated_s

    quick = told(run_seed(seed, seconds=SHORT_S))
    monkeypatch.setattr(world, "quick", nullcontext)
    assert told(run_seed(seed, seconds=SHORT_S)) == quick


# -- plots: what is seldom in a seed -------------------------------------------------------------


async def _timeouts(here: World, seen: Seen) -> None:
    """Scopes in scopes, times that are over, a moment that ends two of them."""
    for outer_s, inner_s, sleep_s in [(3, 2, 1), (1, 2, 3), (2, 2, 2), (2, 1, 5), (0, 1, 1)]:
        with trio.move_on_after(outer_s) as outer:
            with trio.move_on_after(inner_s) as inner:
                await trio.sleep(sleep_s)
                seen.append("slept")
            seen.append(("inner", inner.cancelled_caught, here.now_s))
            await trio.lowlevel.checkpoint()
        seen.append(("outer", outer.cancelled_caught, outer.cancel_called, here.now_s))
    await trio.sleep_until(here.now_s - 1)
    with trio.move_on_at(here.now_s + 4):
        await trio.sleep(math.inf)
    seen.append(here.now_s)


async def _cancelled_meanwhile(here: World, seen: Seen) -> None:
    """Who wakes at the moment at which it is cancelled does nothing more."""

    async def sleeping(number: int) -> None:
        try:
            await trio.sleep(1.0)
            seen.append(("woke", number))
        except trio.Cancelled:
            seen.append(("cancelled", number))
            raise

    for _ in range(8):
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(sleeping, number)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        seen.append(here.now_s)


async def _failures(here: World, seen: Seen) -> None:
    """Errors of children, shields, and scopes that are left by them."""

    async def failing(after_s: float) -> None:
        with trio.move_on_after(5):
            await trio.sleep(after_s)
            raise ValueError(str(after_s))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing, 1.0)
            nursery.start_soon(failing, 1.0)
            try:
                await trio.sleep(3)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)
                    seen.append(("shielded", here.now_s))
    except ExceptionGroup as group:
        seen.append(sorted(str(each) for each in group.exceptions))


async def _alarms(here: World, seen: Seen) -> None:
    """Rung, timed out, put off, drawn near, stopped."""
    alarm = raft_log.Alarm()

    async def waiting() -> None:
        for until_s in (2.0, 9.0, 4.0, 12.0, 30.0, 6.5, 40.0):
            await alarm.wait(until_s)
            seen.append((until_s, here.now_s))

    async with trio.open_nursery() as nursery:
        alarm.ring()
        nursery.start_soon(waiting)
        nursery.start_soon(alarm.run)
        for at_s in (3.0, 5.0, 13.0, 13.0):
            await trio.sleep_until(at_s)
            alarm.ring()
        await trio.sleep_until(20.0)
        alarm.stop()


async def _paused(here: World, seen: Seen) -> None:
    """The timers of a paused process run out; one is killed while its tasks are put aside."""

    async def ticking(name: str) -> None:
        try:
            while True:
                await trio.sleep(1.0)
                seen.append((name, here.now_s))
        finally:
            seen.append((name, "over", here.now_s))

    async def living(process: Process) -> None:
        with process.scope:
            await ticking(process.name)

    async with trio.open_nursery() as nursery:
        processes = [Process(here, name) for name in ("one", "two")]
        for process in processes:
            process.spawn(nursery, living, process)
        await trio.sleep(1.5)
        for process in processes:
            process.pause()
        await trio.sleep(2.0)
        processes[0].resume()
        processes[1].kill()
        await trio.sleep(1.0)
        processes[0].kill()


@pytest.mark.parametrize("plot", [_timeouts, _cancelled_meanwhile, _failures, _alarms, _paused])
def test_a_plot_ends_alike_on_trio_s_own_loop(plot: Plot, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[Seen, float]:
        seen: Seen = []
        here = World(3)

        async def main() -> None:
            await plot(here, seen)

        here.run(main)
        return seen, here.now_s

    quick = told()
    monkeypatch.setattr(world, "quick", nullcontext)
    assert told() == quick
    assert quick[0]


def test_a_task_that_waits_in_another_way_is_told_so() -> None:
    class Strange:
        def __await__(self) -> Any:
            yield "for what?"

    async def main() -> None:
        await Strange()

    with pytest.raises(TypeError, match="for what"):
        World(1).run(main)
