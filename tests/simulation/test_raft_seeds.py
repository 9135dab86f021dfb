"""Two thousand seeds of the consensus simulation, as `make test` runs them.

A failing seed is told with the command that repeats it.  What the run must have done (every class
of faults fired, every invariant evaluated, equal traces under another hash seed) is checked by the
runner itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paas.sim.consensus import runner
from paas.sim.consensus.faults import Faults
from paas.sim.consensus.invariants import NAMES
from paas.sim.consensus.story import run_seed

SEEDS = 2_000
JOBS = 2
FIRED_MIN = 100
EVALUATED_MIN = {"linearizable": SEEDS, "leader-kept": SEEDS // 2}
"""How often, where a tenth of a thousand per seed would be too much to ask."""


@pytest.mark.simulation
@pytest.mark.timeout(3_000)
def test_two_thousand_seeds_hold_and_have_tested_what_they_claim() -> None:
    report = runner.run(0, SEEDS - 1, jobs=JOBS)
    text = "\n".join(report.lines())
    print(text)  # noqa: T201 -- shown when the test fails, and with -s
    assert report.ok, text
    assert report.seeds == SEEDS
    assert report.simulated_s == SEEDS * 90
    assert report.compared == SEEDS // runner.TWICE_EVERY
    assert all(report.fired[name] >= FIRED_MIN for name in Faults.names()), text
    for name in NAMES:
        assert report.evaluated[name] >= EVALUATED_MIN.get(name, 5 * SEEDS), name


@pytest.mark.simulation
def test_one_seed_is_the_same_run_in_another_process_with_another_hash_seed() -> None:
    script = "from paas.sim.consensus.story import run_seed as r; print(r(3).trace, r(4).trace)"
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert told == {f"{run_seed(3).trace} {run_seed(4).trace}\n"}
    assert run_seed(3).trace != run_seed(4).trace


def test_a_run_that_tested_too_little_fails() -> None:
    report = runner.Report(seeds=1)
    assert not report.ok
    assert len(report.never()) == len(Faults.names()) + len(NAMES)
    for name in Faults.names():
        report.fired[name] = 1
    for name in NAMES:
        report.evaluated[name] = 1
    assert report.ok
    report.broken[7] = "one-leader: a and b"
    assert not report.ok
    assert "    replay: python -m paas.sim.consensus --seeds 7-7" in report.lines()


def test_another_trace_of_the_same_seed_fails() -> None:
    report = runner.Report()
    line = '{"seed": 20, "trace": "%s"}'
    runner._compare(report, {20: "a"}, line % "a")
    assert report.compared == 1
    assert not report.broken
    runner._compare(report, {20: "a"}, line % "b")
    assert "determinism" in report.broken[20]


@pytest.mark.simulation
def test_the_command_exits_with_1_when_too_little_happened() -> None:
    command = [sys.executable, "-m", "paas.sim.consensus", "--seeds", "1-1", "--jobs", "1"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "never: fault" in done.stdout
