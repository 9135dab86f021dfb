"""The driving task's sleep: until it is called, or a time has come, whichever is first."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from paas.raft.alarm import Alarm


@pytest.fixture
async def alarm(nursery: trio.Nursery, autojump_clock: MockClock) -> AsyncIterator[Alarm]:
    made = Alarm()
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    yield made
    made.stop()


async def slept_s(alarm: Alarm, period_s: float) -> float:
    began_s = trio.current_time()
    await alarm.wait(began_s + period_s)
    return round(trio.current_time() - began_s, 6)


async def test_a_wait_ends_at_its_time(autojump_clock: MockClock, alarm: Alarm) -> None:
    assert await slept_s(alarm, 2.0) == 2.0


async def test_a_later_time_than_the_last_one_counts(
    autojump_clock: MockClock, alarm: Alarm, nursery: trio.Nursery
) -> None:
    async def ring() -> None:
        await trio.sleep(0.5)
        alarm.ring()

    nursery.start_soon(ring)
    assert await slept_s(alarm, 1.0) == 0.5
    assert await slept_s(alarm, 3.0) == 3.0


async def test_an_earlier_time_than_the_last_one_counts(
    autojump_clock: MockClock, alarm: Alarm, nursery: trio.Nursery
) -> None:
    async def ring() -> None:
        await trio.sleep(0.5)
        alarm.ring()

    nursery.start_soon(ring)
    assert await slept_s(alarm, 10.0) == 0.5
    assert await slept_s(alarm, 0.25) == 0.25


async def test_a_time_that_has_passed_ends_the_wait_at_once(
    autojump_clock: MockClock, alarm: Alarm
) -> None:
    assert await slept_s(alarm, -1.0) == 0.0


async def test_a_ring_that_nobody_waits_for_ends_the_next_wait(
    autojump_clock: MockClock, alarm: Alarm
) -> None:
    alarm.ring()
    assert await slept_s(alarm, 5.0) == 0.0


async def test_what_was_heard_ends_no_wait(autojump_clock: MockClock, alarm: Alarm) -> None:
    alarm.ring()
    alarm.heard()
    assert await slept_s(alarm, 5.0) == 5.0


async def test_a_timer_that_ends_while_nobody_waits_is_forgotten(
    autojump_clock: MockClock, alarm: Alarm
) -> None:
    with trio.move_on_after(0.5):
        await alarm.wait(trio.current_time() + 1.0)
    await trio.sleep(2.0)
    assert await slept_s(alarm, 3.0) == 3.0


async def test_a_wait_may_be_cancelled(autojump_clock: MockClock, alarm: Alarm) -> None:
    with trio.move_on_after(1.0) as scope:
        await alarm.wait(math.inf)
    assert scope.cancelled_caught
    alarm.ring()
    assert await slept_s(alarm, 5.0) == 0.0


async def test_stopping_ends_the_wait(
    autojump_clock: MockClock, alarm: Alarm, nursery: trio.Nursery
) -> None:
    async def stop() -> None:
        await trio.sleep(1.0)
        alarm.stop()

    nursery.start_soon(stop)
    assert await slept_s(alarm, math.inf) == 1.0
