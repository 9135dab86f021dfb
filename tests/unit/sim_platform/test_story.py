"""A run as a whole: short ones, the same again, what is told of a failure."""

from __future__ import annotations

import io
import json

from paas.sim.platform import runner
from paas.sim.platform.invariants import NAMES
from paas.sim.platform.runner import Report, Worker
from paas.sim.platform.story import run_seed

SHORT_S = 130.0


def test_a_peaceful_run_holds_and_tells_its_story() -> None:
    text = io.StringIO()
    outcome = run_seed(1, nodes=3, seconds=SHORT_S, text=text, peace=True)
    assert outcome.broken == ""
    assert outcome.simulated_s == SHORT_S
    assert {"outcome-ok", "client-ok", "seen-far-message"} <= outcome.fired.keys()
    lines = text.getvalue().splitlines()
    assert any("node n3 available" in line for line in lines)
    assert lines[-1].partition(" ")[2].startswith("messages")


def test_one_seed_is_one_trace_in_every_process_and_another_seed_another() -> None:
    workers = [Worker(seeds, 3, SHORT_S) for seeds in ([5, 6], [6, 5])]
    told = [
        {line["seed"]: line["trace"] for line in map(json.loads, worker.lines())}
        for worker in workers
    ]
    assert told[0] == told[1]
    assert told[0][5] != told[0][6]


def test_a_mutant_is_caught_and_the_command_to_repeat_it_is_told() -> None:
    line = json.loads(Worker([0], 3, SHORT_S, mutant="cast-sent-twice").lines()[0])
    assert line["broken"].startswith("pair-order")
    report = Report(seconds=SHORT_S, nodes=3, broken={0: line["broken"]})
    out = io.StringIO()
    report.write(out)
    assert "replay: paas simulate --seed 0 --nodes 3 --seconds 130" in out.getvalue()
    assert not report.ok


def test_a_run_in_which_something_never_happened_fails() -> None:
    report = Report()
    assert len(report.never()) == len(runner.fault_classes()) + len(NAMES)
    report.fired.update(runner.fault_classes())
    report.evaluated.update(NAMES)
    assert report.ok
    del report.fired["power-cut"]
    assert report.never() == ["fault power-cut"]
