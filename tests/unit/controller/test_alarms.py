"""Alarms: one task for all who wait for a time."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from paas.controller.alarms import SPARE, Alarms


class Sleeper:
    def __init__(self) -> None:
        self.called_s: list[float] = []

    def due(self) -> None:
        self.called_s.append(trio.current_time())


@pytest.fixture
def alarms(nursery: trio.Nursery) -> Alarms:
    made = Alarms()
    nursery.start_soon(made.run)
    return made


async def test_each_is_called_at_its_time_and_once(
    alarms: Alarms, autojump_clock: trio.testing.MockClock
) -> None:
    began_s = trio.current_time()
    sleepers = [Sleeper() for _ in range(50)]
    for number, sleeper in enumerate(sleepers):
        alarms.set(sleeper, began_s + 60.0 - number)
    await trio.sleep(100.0)
    assert [s.called_s for s in sleepers] == [[began_s + 60.0 - n] for n in range(50)]
    assert len(alarms) == 0


async def test_the_earliest_time_counts(
    alarms: Alarms, autojump_clock: trio.testing.MockClock
) -> None:
    began_s, sleeper = trio.current_time(), Sleeper()
    for at_s in (30.0, 10.0, 20.0, math.inf):
        alarms.set(sleeper, began_s + at_s)
    await trio.sleep(50.0)
    assert sleeper.called_s == [began_s + 10.0]


async def test_one_who_is_called_may_ask_again(
    alarms: Alarms, autojump_clock: trio.testing.MockClock
) -> None:
    class Again(Sleeper):
        def due(self) -> None:
            super().due()
            if len(self.called_s) < 3:
                alarms.set(self, trio.current_time() + 5.0)

    began_s, sleeper = trio.current_time(), Again()
    alarms.set(sleeper, began_s + 5.0)
    await trio.sleep(50.0)
    assert sleeper.called_s == [began_s + 5.0, began_s + 10.0, began_s + 15.0]


async def test_who_is_forgotten_is_not_called_and_takes_no_room(
    alarms: Alarms, autojump_clock: trio.testing.MockClock
) -> None:
    began_s = trio.current_time()
    sleepers = [Sleeper() for _ in range(10 * SPARE)]
    stays = Sleeper()
    alarms.set(stays, began_s + 1.0)
    for sleeper in sleepers:
        alarms.set(sleeper, began_s + 3_600.0)
        alarms.forget(sleeper)
    assert len(alarms._heap) <= SPARE + 2
    await trio.sleep(4_000.0)
    assert not any(s.called_s for s in sleepers)
    assert stays.called_s == [began_s + 1.0]


async def test_for_ever_is_no_time(alarms: Alarms, autojump_clock: trio.testing.MockClock) -> None:
    alarms.set(Sleeper(), math.inf)
    assert len(alarms) == 0


async def test_after_clear_nobody_is_called(
    alarms: Alarms, autojump_clock: trio.testing.MockClock
) -> None:
    sleeper = Sleeper()
    alarms.set(sleeper, trio.current_time() + 1.0)
    alarms.clear()
    await trio.sleep(5.0)
    assert sleeper.called_s == []
