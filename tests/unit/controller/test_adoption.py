"""What runs against what should."""

from __future__ import annotations

import pytest

from paas.controller.adoption import Adopt, Ended, Missing, Remove, compare
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState as S
from paas.controller.ports import ContainerFact


def instance(state: S, node: str = "n1") -> Instance:
    return Instance(
        id="c", type="t@1", name="", node=node, created_ms=0, since_ms=0, state=state, incarnation=2
    )


def fact(*, running: bool, incarnation: int = 2) -> ContainerFact:
    return ContainerFact(component="c", incarnation=incarnation, running=running)


LIVING = [s for s in S if s not in (S.NONE, S.DESTROYED, S.FAILED)]


@pytest.mark.parametrize("state", LIVING)
def test_what_runs_and_should_is_adopted(state: S) -> None:
    assert compare("n1", [instance(state)], [fact(running=True)]) == [
        Adopt("c", fact(running=True))
    ]


@pytest.mark.parametrize("state", LIVING)
def test_what_ended_meanwhile_is_told_with_its_facts(state: S) -> None:
    ended = fact(running=False)
    assert compare("n1", [instance(state)], [ended]) == [Ended("c", ended)]


@pytest.mark.parametrize("state", LIVING)
def test_what_should_run_and_has_no_container_is_missing(state: S) -> None:
    assert compare("n1", [instance(state)], []) == [Missing("c")]


@pytest.mark.parametrize("running", [True, False])
def test_what_nobody_wants_is_removed(running: bool) -> None:
    container = fact(running=running)
    assert compare("n1", [], [container]) == [Remove("c")]
    assert compare("n1", [instance(S.DESTROYED)], [container]) == [Remove("c")]
    assert compare("n1", [instance(S.FAILED)], [container]) == [Remove("c")]
    assert compare("n1", [instance(S.AVAILABLE, "n2")], [container]) == [Remove("c")]


def test_components_of_other_nodes_are_not_missed() -> None:
    assert compare("n1", [instance(S.AVAILABLE, "n2")], []) == []
