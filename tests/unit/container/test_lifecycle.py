"""Every edge of the table, and what is not in it."""

from __future__ import annotations

import pytest

from paas.base.fsm import IllegalTransition
from paas.container.lifecycle import CONTAINER, ContainerEvent, ContainerState

S, E = ContainerState, ContainerEvent


def test_every_edge() -> None:
    assert set(CONTAINER.walk()) == {
        (S.NONE, E.PREPARE, S.PREPARING),
        (S.NONE, E.ADOPT_RUNNING, S.RUNNING),
        (S.NONE, E.ADOPT_EXITED, S.EXITED),
        (S.NONE, E.ABANDON, S.DESTROYING),
        (S.PREPARING, E.STARTED, S.RUNNING),
        (S.PREPARING, E.DESTROY, S.DESTROYING),
        (S.RUNNING, E.EXIT, S.EXITED),
        (S.RUNNING, E.DESTROY, S.DESTROYING),
        (S.EXITED, E.DESTROY, S.DESTROYING),
        (S.DESTROYING, E.CLEARED, S.DESTROYED),
    }


def test_destroyed_is_the_only_end() -> None:
    assert [s for s in S if CONTAINER.final(s)] == [S.DESTROYED]


def test_an_exit_is_told_once() -> None:
    with pytest.raises(IllegalTransition):
        CONTAINER.next(S.EXITED, E.EXIT)
