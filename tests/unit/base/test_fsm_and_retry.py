"""Transition tables and back-off, as data."""

from __future__ import annotations

import enum

import pytest

from paas.base.fsm import IllegalTransition, Table
from paas.base.retry import Backoff


class Lamp(enum.StrEnum):
    OFF = "off"
    ON = "on"
    BROKEN = "broken"


class Act(enum.StrEnum):
    PRESS = "press"
    DROP = "drop"


LAMP: Table[Lamp, Act] = Table(
    "lamp",
    Lamp,
    Lamp.OFF,
    {
        Lamp.OFF: {Act.PRESS: Lamp.ON, Act.DROP: Lamp.BROKEN},
        Lamp.ON: {Act.PRESS: Lamp.OFF},
        Lamp.BROKEN: {},
    },
)


def test_the_table_answers_and_refuses() -> None:
    assert LAMP.next(Lamp.OFF, Act.PRESS) is Lamp.ON
    assert LAMP.allows(Lamp.OFF, Act.DROP)
    assert not LAMP.allows(Lamp.ON, Act.DROP)
    assert LAMP.final(Lamp.BROKEN)
    with pytest.raises(IllegalTransition, match="lamp: drop is not allowed in on"):
        LAMP.next(Lamp.ON, Act.DROP)


def test_a_table_without_a_row_for_a_state_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="every state needs a row"):
        Table("lamp", Lamp, Lamp.OFF, {Lamp.OFF: {Act.PRESS: Lamp.ON}})


def test_the_diagram_shows_every_edge() -> None:
    assert LAMP.mermaid() == (
        "stateDiagram-v2\n    [*] --> off\n"
        "    off --> on: press\n    off --> broken: drop\n    on --> off: press"
    )


def test_a_back_off_grows_to_its_cap_and_keeps_to_the_upper_half() -> None:
    backoff = Backoff(1, factor=3, cap_s=10)
    assert [backoff.delay_s(n, 1.0) for n in (1, 2, 3, 4, 10_000)] == [1, 3, 9, 10, 10]
    assert backoff.delay_s(2, 0.0) == 1.5


@pytest.mark.parametrize("how", [(-1, 2, 3), (4, 2, 3), (1, 0.5, 3)])
def test_a_senseless_back_off_is_refused(how: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="back-off"):
        Backoff(*how)
