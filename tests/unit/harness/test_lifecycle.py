"""The tables of the harness: every edge, and what is not one."""

from __future__ import annotations

from typing import get_args

import pytest

from paas.base.fsm import IllegalTransition
from paas.harness.lifecycle import COMPONENT, UPLINK, Phase, PhaseEvent, UplinkEvent, UplinkState
from paas.harness.messages import HarnessPhase


def test_phases_are_those_that_a_hub_is_told() -> None:
    assert {p.value for p in Phase} == set(get_args(HarnessPhase))


def test_every_edge_of_the_component_leads_on() -> None:
    edges = {(s.value, e.value, t.value) for s, e, t in COMPONENT.walk()}
    assert ("initializing", "ready", "available") in edges
    assert ("unavailable", "ready", "available") in edges
    assert ("available", "mark_unavailable", "unavailable") in edges
    assert ("unavailable", "mark_available", "available") in edges
    assert {s for s, e, t in edges if e == "exit" and t == "exited"} == {
        "initializing",
        "available",
        "unavailable",
        "stopping",
    }
    assert len(edges) == 11


def test_an_ended_component_stays_ended() -> None:
    assert COMPONENT.final(Phase.EXITED)
    with pytest.raises(IllegalTransition):
        COMPONENT.next(Phase.EXITED, PhaseEvent.READY)


def test_a_stopping_component_cannot_become_available() -> None:
    assert not COMPONENT.allows(Phase.STOPPING, PhaseEvent.READY)
    assert not COMPONENT.allows(Phase.STOPPING, PhaseEvent.MARK_AVAILABLE)


def test_the_way_to_the_hub_begins_with_a_greeting() -> None:
    assert [(s, e, t) for s, e, t in UPLINK.walk()] == [
        (UplinkState.DISCONNECTED, UplinkEvent.CONNECT, UplinkState.GREETING),
        (UplinkState.GREETING, UplinkEvent.ACCEPT, UplinkState.ATTACHED),
        (UplinkState.GREETING, UplinkEvent.LOSE, UplinkState.DISCONNECTED),
        (UplinkState.ATTACHED, UplinkEvent.LOSE, UplinkState.DISCONNECTED),
    ]
