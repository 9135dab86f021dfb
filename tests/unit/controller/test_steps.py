"""The next step for every state and everything that may be seen."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from paas.controller import creating, ending, limits
from paas.controller.instances import Instance
from paas.controller.lifecycle import COMPONENT, ComponentEvent
from paas.controller.lifecycle import ComponentState as S
from paas.controller.ports import ExitFacts, Started
from paas.controller.restarts import Outcome
from paas.controller.steps import (
    AskStop,
    Clear,
    Container,
    Done,
    Inspect,
    Kill,
    Observed,
    Propose,
    Start,
    Step,
    Wait,
)

C = Container
E = ComponentEvent
READY_S = 30.0
STARTED = Started(uid_base=1, pid=2, address="a", endpoints={"http": {"port": 8000}})


def instance(state: S, **fields: Any) -> Instance:
    base: dict[str, Any] = {"id": "c" * 40, "type": "t@1", "name": "", "node": "n1"}
    return Instance(**base, created_ms=0, since_ms=0, state=state, incarnation=2, **fields)


def seen(container: Container, **fields: Any) -> Observed:
    values = {"container_incarnation": 2, "connected": True, **fields}
    return Observed(container=container, **values)


def creating_step(state: S, observed: Observed, now_s: float = 0.0, **fields: Any) -> Step:
    return creating.next_step(instance(state, **fields), READY_S, observed, now_s)


def ending_step(state: S, observed: Observed, now_s: float = 0.0, **fields: Any) -> Step:
    return ending.next_step(instance(state, **fields), observed, now_s)


def exit_facts(reason: str = "exit:1") -> ExitFacts:
    return ExitFacts(component="c" * 40, incarnation=2, reason=reason, code=1)


def test_nothing_is_started_before_its_time_or_without_the_container_controller() -> None:
    assert creating_step(S.PREPARING, seen(C.ABSENT)) == Start()
    assert creating_step(S.PREPARING, seen(C.ABSENT, not_before_s=9.0)) == Wait(9.0)
    assert creating_step(S.PREPARING, seen(C.ABSENT, connected=False)) == Wait()
    assert creating_step(S.PREPARING, seen(C.UNKNOWN)) == Inspect()
    assert creating_step(S.PREPARING, seen(C.UNKNOWN, connected=False)) == Wait()


def test_the_container_of_another_incarnation_is_cleared_first() -> None:
    for state, container in itertools.product((S.PREPARING, S.AVAILABLE), (C.RUNNING, C.ENDED)):
        assert creating_step(state, seen(container, container_incarnation=1)) == Clear()


@pytest.mark.parametrize("state", [S.PREPARING, S.INITIALIZING, S.UNAVAILABLE])
def test_a_ready_component_becomes_available(state: S) -> None:
    observed = seen(C.RUNNING, phase="available", started=STARTED)
    assert creating_step(state, observed) == Propose(event=E.READY, endpoints=STARTED.endpoints)


def test_an_available_component_is_left_alone() -> None:
    assert creating_step(S.AVAILABLE, seen(C.RUNNING, phase="available")) == Wait()
    assert creating_step(S.AVAILABLE, seen(C.RUNNING, connected=False)) == Wait()
    assert creating_step(S.UNAVAILABLE, seen(C.RUNNING, phase="unavailable")) == Wait()


def test_a_component_that_pauses_is_unavailable() -> None:
    observed = seen(C.RUNNING, phase="unavailable", phase_reason="full")
    assert creating_step(S.AVAILABLE, observed) == Propose(event=E.PAUSE, reason="full")


def test_a_slow_start_is_initializing_and_then_ended_by_force() -> None:
    observed = seen(C.RUNNING, running_since_s=10.0)
    slow_s = 10.0 + limits.INITIALIZING_AFTER_S
    late_s = 10.0 + READY_S + limits.READY_MARGIN_S
    assert creating_step(S.PREPARING, observed, 10.0) == Wait(slow_s)
    assert creating_step(S.PREPARING, observed, slow_s) == Propose(event=E.STARTED)
    assert creating_step(S.INITIALIZING, observed, slow_s) == Wait(late_s)
    assert creating_step(S.INITIALIZING, observed, late_s) == Kill("not-ready")
    observed.killed_s = late_s
    assert creating_step(S.INITIALIZING, observed, late_s) == Wait(late_s + limits.READY_MARGIN_S)
    again_s = late_s + limits.READY_MARGIN_S
    assert creating_step(S.INITIALIZING, observed, again_s) == Kill("not-ready")


@pytest.mark.parametrize("state", [S.PREPARING, S.INITIALIZING, S.AVAILABLE, S.UNAVAILABLE])
def test_an_end_is_proposed_with_its_facts(state: S) -> None:
    step = creating_step(state, seen(C.ENDED, exit=exit_facts()))
    assert step == Propose(event=E.EXITED, reason="exit:1", facts={"code": 1, "time_ms": 0})


def test_an_end_without_a_container_is_a_lost_node() -> None:
    step = creating_step(S.AVAILABLE, seen(C.ABSENT))
    assert step == Propose(event=E.EXITED, reason="node-lost")


def test_a_failed_start_ends_the_incarnation() -> None:
    observed = seen(C.ENDED, start_error="start-failed:no", start_fatal=True)
    step = creating_step(S.PREPARING, observed)
    assert step == Propose(event=E.EXITED, reason="start-failed:no", fatal=True)


def test_a_quick_ordinary_end_was_available_first() -> None:
    observed = seen(C.ENDED, exit=exit_facts("normal"), was_ready=True)
    assert creating_step(S.PREPARING, observed) == Propose(event=E.READY)
    assert creating_step(S.AVAILABLE, observed, ready_ms=1) == Propose(
        event=E.EXITED, reason="normal", facts={"code": 1, "time_ms": 0}
    )


def test_out_of_memory_and_not_ready_are_named() -> None:
    facts = ExitFacts(component="c", incarnation=2, reason="signal:SIGKILL", signal=9, oom=True)
    step = creating_step(S.AVAILABLE, seen(C.ENDED, exit=facts))
    assert isinstance(step, Propose)
    assert (step.reason, step.facts["oom"]) == ("out-of-memory", True)
    late = seen(C.ENDED, exit=exit_facts("killed"), kill_reason="not-ready")
    assert isinstance(again := creating_step(S.INITIALIZING, late), Propose)
    assert again.reason == "not-ready"


def test_stopping_asks_then_waits_then_uses_force() -> None:
    observed = seen(C.RUNNING, attached=True)
    assert ending_step(S.STOPPING, observed, grace_s=3.0) == AskStop(3.0)
    observed.stop_sent_s, observed.stop_grace_s = 10.0, 3.0
    force_s = 13.0 + limits.STOP_MARGIN_S
    assert ending_step(S.STOPPING, observed, 11.0, grace_s=3.0) == Wait(force_s)
    assert ending_step(S.STOPPING, observed, force_s, grace_s=3.0) == Kill()
    assert ending_step(S.STOPPING, observed, 11.0, grace_s=1.0) == AskStop(1.0)
    observed.killed_s = force_s
    assert ending_step(S.STOPPING, observed, force_s, grace_s=3.0) == Wait(
        force_s + limits.READY_MARGIN_S
    )


def test_stopping_without_a_harness_waits_a_little_then_uses_force() -> None:
    observed = seen(C.RUNNING, state_since_s=10.0)
    silent_s = 10.0 + limits.HARNESS_WAIT_S
    assert ending_step(S.STOPPING, observed, 10.0) == Wait(silent_s)
    assert ending_step(S.STOPPING, observed, silent_s) == Kill()
    observed.connected = False
    assert ending_step(S.STOPPING, observed, silent_s) == Wait()


def test_one_that_agreed_to_terminate_gets_its_time() -> None:
    observed = seen(C.RUNNING, attached=True, state_since_s=10.0)
    patience_s = 10.0 + limits.TERMINATE_PATIENCE_S
    assert ending_step(S.STOPPING, observed, 10.0, mode="terminate") == Wait(patience_s)
    assert ending_step(S.STOPPING, observed, patience_s, mode="terminate", grace_s=5.0) == AskStop(
        5.0
    )
    observed.attached = False
    assert ending_step(S.STOPPING, observed, patience_s, mode="terminate") == Wait(
        patience_s + limits.HARNESS_WAIT_S
    )


@pytest.mark.parametrize("container", [C.ENDED, C.ABSENT])
def test_stopping_ends_with_the_container(container: Container) -> None:
    step = ending_step(S.STOPPING, seen(container))
    assert isinstance(step, Propose)
    assert step.event is E.EXITED
    assert ending_step(S.STOPPING, seen(C.UNKNOWN)) == Inspect()


@pytest.mark.parametrize(
    ("outcome", "event"),
    [(Outcome.RESTART, E.RESTART), (Outcome.FAIL, E.GIVE_UP), (Outcome.END, E.CLEARED)],
)
def test_destroying_clears_and_then_does_what_was_decided(
    outcome: Outcome, event: ComponentEvent
) -> None:
    for container in (C.UNKNOWN, C.RUNNING, C.ENDED):
        assert ending_step(S.DESTROYING, seen(container), outcome=outcome) == Clear()
        away = seen(container, connected=False)
        assert ending_step(S.DESTROYING, away, outcome=outcome) == Wait()
    assert ending_step(S.DESTROYING, seen(C.ABSENT), outcome=outcome) == Propose(event=event)


def test_what_ended_for_good_needs_nothing() -> None:
    assert ending_step(S.DESTROYED, seen(C.ABSENT)) == Done()
    assert ending_step(S.FAILED, seen(C.ABSENT)) == Done()


def test_what_is_left_of_one_that_ended_for_good_is_removed() -> None:
    for container in (C.UNKNOWN, C.RUNNING, C.ENDED):
        assert ending_step(S.FAILED, seen(container)) == Clear()
    assert ending_step(S.DESTROYED, seen(C.RUNNING, connected=False)) == Wait()


def test_whatever_is_seen_the_step_is_allowed_by_the_life_cycle() -> None:
    """No proposal is ever one that the table refuses; and no step needs who is not connected."""
    options: dict[str, list[Any]] = {
        "container_incarnation": [1, 2],
        "connected": [False, True],
        "attached": [False, True],
        "phase": ["", "initializing", "available", "unavailable", "exited"],
        "was_ready": [False, True],
        "exit": [None, exit_facts(), exit_facts("normal")],
        "start_error": ["", "start-failed:x"],
        "killed_s": [None, 0.0],
    }
    endings = (S.STOPPING, S.DESTROYING)
    for state in (S.PREPARING, S.INITIALIZING, S.AVAILABLE, S.UNAVAILABLE, *endings):
        ready_ms = int(state in (S.AVAILABLE, S.UNAVAILABLE))
        for container, *values in itertools.product(C, *options.values()):
            observed = seen(container, **dict(zip(options, values, strict=True)))
            for now_s in (0.0, 1e6):
                if state in endings:
                    step = ending_step(state, observed, now_s)
                else:
                    step = creating_step(state, observed, now_s, ready_ms=ready_ms)
                if isinstance(step, Propose):
                    assert COMPONENT.allows(state, step.event)
                if isinstance(step, Start | Kill | Clear | Inspect):
                    assert observed.connected
                if isinstance(step, Start):
                    assert container is C.ABSENT


def test_host_names_are_valid() -> None:
    assert creating.host_name(instance(S.PREPARING)) == "c" * 8
    named = instance(S.PREPARING)
    named.name = "Web_1.a"
    assert creating.host_name(named) == "web-1-a"
