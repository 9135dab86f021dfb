"""The table of a component's life."""

from __future__ import annotations

import pytest

from paas.base.fsm import IllegalTransition
from paas.controller.lifecycle import COMPONENT, ENDED, PRESENT, RUNNING, ComponentEvent
from paas.controller.lifecycle import ComponentState as S

E = ComponentEvent


def walk(*events: ComponentEvent) -> list[S]:
    state, seen = COMPONENT.initial, []
    for event in events:
        state = COMPONENT.next(state, event)
        seen.append(state)
    return seen


def test_the_whole_life_of_the_document() -> None:
    assert walk(E.CREATE, E.STARTED, E.READY, E.PAUSE, E.READY, E.STOP, E.EXITED, E.CLEARED) == [
        S.PREPARING,
        S.INITIALIZING,
        S.AVAILABLE,
        S.UNAVAILABLE,
        S.AVAILABLE,
        S.STOPPING,
        S.DESTROYING,
        S.DESTROYED,
    ]


def test_a_restart_begins_anew_and_giving_up_is_failed() -> None:
    assert walk(E.CREATE, E.READY, E.EXITED, E.RESTART)[-1] is S.PREPARING
    assert walk(E.CREATE, E.EXITED, E.GIVE_UP, E.CLEARED)[-2:] == [S.FAILED, S.DESTROYED]


def test_whatever_is_present_may_exit_and_whatever_runs_may_be_stopped() -> None:
    for state in S:
        assert COMPONENT.allows(state, E.EXITED) is (state in PRESENT)
        assert COMPONENT.allows(state, E.STOP) is (state in RUNNING)


def test_a_lost_node_is_offline_until_found_or_given_up() -> None:
    assert walk(E.CREATE, E.READY, E.LOST, E.FOUND, E.READY)[-1] is S.AVAILABLE
    assert walk(E.CREATE, E.READY, E.LOST, E.EXITED)[-1] is S.DESTROYING


def test_every_state_is_reached_and_only_destroyed_is_final() -> None:
    assert {target for _, _, target in COMPONENT.walk()} | {S.NONE} == set(S)
    assert [s for s in S if COMPONENT.final(s)] == [S.DESTROYED]
    assert {S.DESTROYED, S.FAILED} == ENDED


def test_what_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        COMPONENT.next(S.DESTROYED, E.RESTART)
