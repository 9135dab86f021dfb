"""The decision for every combination of record and kernel fact."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from paas.container.journal import Phase, Record
from paas.container.recovery import Decisions, KernelFacts, decide

ID = "a" * 40
RECORD = Record(
    component=ID, incarnation=1, phase="running", boot="now", since_ms=1, link="v2", pid=7
)


def facts(**changes: object) -> KernelFacts:
    given: dict[str, object] = {
        "boot": "now", "alive": (), "groups": (), "links": (), "directories": ()
    }  # fmt: skip
    return KernelFacts(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phase", "boot", "alive", "decision"),
    [
        ("running", "now", True, "adopt"),
        ("running", "now", False, "report"),
        ("exited", "now", True, "keep"),
        ("exited", "now", False, "keep"),
        ("preparing", "now", True, "destroy"),
        ("preparing", "now", False, "destroy"),
        ("destroying", "now", True, "destroy"),
        ("destroying", "now", False, "destroy"),
        ("running", "earlier", False, "destroy"),
        ("exited", "earlier", False, "destroy"),
    ],
)
def test_each_record_gets_one_decision(phase: Phase, boot: str, alive: bool, decision: str) -> None:
    record = replace(RECORD, phase=phase, boot=boot)
    found = decide([record], [], facts(alive=(ID,) if alive else ()))
    by_name = {n: getattr(found, n) for n in ("adopt", "report", "keep", "destroy")}
    assert {name for name, records in by_name.items() if records} == {decision}
    assert by_name[decision] == [record]


def test_what_nobody_recorded_is_stray() -> None:
    found = decide(
        [RECORD],
        ["d" * 40],
        facts(alive=(ID,), groups=(ID, "b" * 40), directories=("c" * 40, ID), links=("v2", "v3")),
    )
    assert found.stray_components == ["b" * 40, "c" * 40, "d" * 40]
    assert found.stray_links == ["v3"]


def test_a_link_of_an_earlier_boot_owns_nothing() -> None:
    found = decide([replace(RECORD, boot="earlier")], [], facts(links=("v2",)))
    assert found.stray_links == ["v2"]


def test_nothing_there_nothing_to_do() -> None:
    assert decide([], [], facts()) == Decisions()
