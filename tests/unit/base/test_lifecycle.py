"""The shared life-cycle tables: their shape, their happy path, ends that nobody asked for."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from paas.base.fsm import IllegalTransition, Table
from paas.base.lifecycle import (
    CLUSTERED,
    INDEPENDENT,
    ClusteredModule,
    Module,
    ModuleEvent,
    without_peers,
)

TABLES = [INDEPENDENT, CLUSTERED]


def play(table: Table[Any, ModuleEvent], words: str) -> list[str]:
    state: enum.StrEnum = table.initial
    states = []
    for word in words.split():
        state = table.next(state, ModuleEvent(word))
        states.append(str(state))
    return states


def test_the_life_of_an_independent_module() -> None:
    words = "start process-started ready mark-unavailable mark-available stop exited cleared"
    assert play(INDEPENDENT, words) == [
        "preparing",
        "initializing",
        "available",
        "unavailable",
        "available",
        "stopping",
        "destroying",
        "destroyed",
    ]


def test_the_life_of_a_clustered_module() -> None:
    words = "start process-started ready joined contact-lost contact-found stop left exited cleared"
    assert play(CLUSTERED, words) == [
        "preparing",
        "initializing",
        "joining",
        "available",
        "offline",
        "unavailable",
        "leaving",
        "stopping",
        "destroying",
        "destroyed",
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_every_state_can_be_reached_and_ends_destroyed(table: Table[Any, ModuleEvent]) -> None:
    reached, frontier = {table.initial}, [table.initial]
    while frontier:
        for target in table.edges[frontier.pop()].values():
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == set(table.edges)
    assert [str(s) for s in table.states if table.final(s)] == ["destroyed"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_a_process_may_end_in_every_state_in_which_one_runs(
    table: Table[Any, ModuleEvent],
) -> None:
    for state in table.states:
        if state not in ("none", "destroying", "destroyed"):
            assert table.next(state, ModuleEvent.EXITED) == "destroying"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_no_way_leads_back_before_available(table: Table[Any, ModuleEvent]) -> None:
    early = {"none", "preparing", "initializing", "joining"}
    assert not [e for e in table.walk() if e[2] in early and e[0] not in early]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_what_the_table_does_not_have_is_refused(table: Table[Any, ModuleEvent]) -> None:
    for state in table.states:
        for event in ModuleEvent:
            if not table.allows(state, event):
                with pytest.raises(IllegalTransition):
                    table.next(state, event)


def test_peer_states_are_hidden_from_those_who_do_not_care() -> None:
    assert without_peers(ClusteredModule.JOINING) is Module.INITIALIZING
    assert without_peers(ClusteredModule.LEAVING) is Module.STOPPING
    assert without_peers(ClusteredModule.OFFLINE) is Module.UNAVAILABLE
    for state in Module:
        assert without_peers(ClusteredModule(state.value)) is state
