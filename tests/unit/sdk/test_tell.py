"""`tell`: a stream of casts, of which one now and then waits for the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from paas.sdk.paas_testing import Harness, HarnessError
from paas.sdk.python.core import TOLD_BYTES_MAX, TOLD_MAX

SDK = Path(__file__).parents[3] / "paas" / "sdk"

THREADS = """
from paas_component import Component

component = Component()

@component.operation("tell")
def tell(inputs, call):
    for number in range(inputs["count"]):
        said = {"n": number, "pad": "y" * inputs.get("pad", 0)}
        component.tell("x", "note", said, selector="all")

@component.operation("tell_inline", inline=True)
def tell_inline(inputs, call):
    component.tell("x", "note")

component.run()
"""

TASKS = """
import {library}
from paas_component import {kind}

component = {kind}()

@component.operation("tell")
async def tell(inputs, call):
    for number in range(inputs["count"]):
        await component.tell(
            "x", "note", {{"n": number, "pad": "y" * inputs.get("pad", 0)}}, selector="all"
        )

{run}
"""

PROGRAMS = {
    "threads": THREADS,
    "asyncio": TASKS.format(
        library="asyncio", kind="AsyncComponent", run="asyncio.run(component.run())"
    ),
    "trio": TASKS.format(library="trio", kind="TrioComponent", run="trio.run(component.run)"),
}


def harness_of(front: str, folder: Path) -> Harness:
    program = folder / "program.py"
    program.write_text(PROGRAMS[front])
    environment = {"PYTHONPATH": str(SDK)}
    return Harness((sys.executable, str(program)), environment=environment)


def casts(harness: Harness, operation: str, inputs: dict[str, Any]) -> tuple[int, int]:
    """All casts that an operation sends, in order, and how many of them want an answer."""
    pending = harness.begin(operation, inputs)
    confirmed = 0
    for number in range(inputs["count"]):
        request = harness.expect("hub.cast")
        assert request.params["inputs"]["n"] == number
        assert request.params["selector"] == "all"
        confirmed += request._id is not None
        request.answer({"accepted": 1})
    pending.result()
    return inputs["count"], confirmed


@pytest.mark.parametrize("front", sorted(PROGRAMS))
def test_many_casts_arrive_in_order_and_few_are_confirmed(front: str, tmp_path: Path) -> None:
    with harness_of(front, tmp_path) as harness:
        assert casts(harness, "tell", {"count": 2 * TOLD_MAX + 10}) == (2 * TOLD_MAX + 10, 2)


@pytest.mark.parametrize("front", sorted(PROGRAMS))
def test_large_casts_are_confirmed_by_their_bytes(front: str, tmp_path: Path) -> None:
    with harness_of(front, tmp_path) as harness:
        assert casts(harness, "tell", {"count": 5, "pad": TOLD_BYTES_MAX // 2}) == (5, 1)


@pytest.mark.parametrize("front", sorted(PROGRAMS))
def test_nobody_runs_ahead_of_a_hub_that_does_not_confirm(front: str, tmp_path: Path) -> None:
    with harness_of(front, tmp_path) as harness:
        pending = harness.begin("tell", {"count": TOLD_MAX + 50})
        for _ in range(TOLD_MAX):
            assert harness.expect("hub.cast")._id is None
        refused = harness.expect("hub.cast")
        with pytest.raises(HarnessError):
            harness.expect("hub.cast", timeout=0.2)
        refused.fail("limit-exceeded", "it does not read")
        with pytest.raises(HarnessError) as caught:
            pending.result()
        assert caught.value.code == "limit-exceeded"


def test_an_inline_operation_cannot_tell(tmp_path: Path) -> None:
    with harness_of("threads", tmp_path) as harness:
        with pytest.raises(HarnessError) as caught:
            harness.call("tell_inline")
        assert caught.value.code == "invalid"
