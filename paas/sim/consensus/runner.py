"""Many seeds on several processes: adds up what happened, and does not believe a quiet run.

    python -m paas.sim.consensus --seeds 0-1999 --jobs 2

A run fails when a seed broke an invariant, when two runs of one seed differ (one seed in twenty is
run a second time, in a process with another hash seed), when a class of faults never fired, or when
an invariant was never evaluated: a simulation that tested nothing must not look like one that found
nothing.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from paas.sim.consensus import limits
from paas.sim.consensus.faults import Faults
from paas.sim.consensus.invariants import NAMES
from paas.sim.consensus.story import Outcome, run_seed
from paas.sim.workers import WorkerProcess, take_order

TWICE_EVERY = 20
"""One seed in so many is run a second time."""


@dataclass(slots=True)
class Report:
    """The sum over all seeds."""

    seeds: int = 0
    simulated_s: float = 0.0
    core_s: float = 0.0
    wall_s: float = 0.0
    compared: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    evaluated: Counter[str] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)

    def never(self) -> list[str]:
        """Fault classes that never fired, invariants that were never evaluated."""
        faults = [f"fault {name}" for name in Faults.names() if not self.fired[name]]
        return faults + [f"invariant {name}" for name in NAMES if not self.evaluated[name]]

    def lines(self) -> list[str]:
        """For people."""
        names = set(Faults.names())
        lines = [
            f"{self.seeds} seeds, {self.simulated_s / 3600:.1f} simulated hours, "
            f"{self.core_s / max(1, self.seeds):.3f} core-seconds each, {self.wall_s:.0f} s; "
            f"{self.compared} run twice",
            *_table("faults", {n: self.fired[n] for n in sorted(names)}),
            *_table("seen", {n: c for n, c in sorted(self.fired.items()) if n not in names}),
            *_table("invariants evaluated", {n: self.evaluated[n] for n in NAMES}),
        ]
        for seed, text in sorted(self.broken.items()):
            lines.append(f"seed {seed}: {text}")
            lines.append(f"    replay: python -m paas.sim.consensus --seeds {seed}-{seed}")
        return lines + [f"never: {name}" for name in self.never()]

    @property
    def ok(self) -> bool:
        return not self.broken and not self.never()


def _table(title: str, counts: dict[str, int]) -> list[str]:
    return [f"{title}:", *(f"    {name:32} {count:12,}" for name, count in counts.items())]


def run(first: int, last: int, *, jobs: int = 1) -> Report:
    """All seeds from first to last."""
    report = Report()
    began_s = time.monotonic()
    workers = [_Worker(range(first + n, last + 1, jobs), number=n) for n in range(jobs)]
    traces: dict[int, str] = {}
    for worker in workers:
        for line in worker.lines():
            _add(report, traces, line)
    again = [seed for seed in range(first, last + 1) if seed % TWICE_EVERY == 0]
    for number in range(jobs):
        for line in _Worker(again[number::jobs], number=number + 100).lines():
            _compare(report, traces, line)
    report.wall_s = time.monotonic() - began_s
    return report


def _add(report: Report, traces: dict[int, str], line: str) -> None:
    told = json.loads(line)
    report.seeds += 1
    report.simulated_s += told["simulated_s"]
    report.core_s += told["core_s"]
    report.fired.update(told["fired"])
    report.evaluated.update(told["evaluated"])
    traces[told["seed"]] = told["trace"]
    if told["broken"]:
        report.broken[told["seed"]] = told["broken"]


def _compare(report: Report, traces: dict[int, str], line: str) -> None:
    told = json.loads(line)
    report.compared += 1
    if traces[told["seed"]] != told["trace"]:
        report.broken.setdefault(told["seed"], "determinism: another trace in another process")


class _Worker:
    """A process of its own, with a hash seed of its own, that tells a line for each seed."""

    def __init__(self, seeds: Sequence[int], *, number: int) -> None:
        self._seeds = seeds
        self._process = WorkerProcess("paas.sim.consensus", list(seeds), hash_seed=number)

    def lines(self) -> list[str]:
        status, lines = self._process.wait()
        if status or len(lines) != len(self._seeds):
            raise RuntimeError(f"a process of the simulation ended early, after {len(lines)} seeds")
        return lines


def work(source: TextIO, out: TextIO) -> None:
    """A worker's life: seeds in, lines out."""
    logging.disable(logging.CRITICAL)  # torn tails and the like are what we make on purpose
    for seed in take_order(source):
        began_s = time.process_time()
        outcome = run_seed(seed)
        out.write(_line(outcome, time.process_time() - began_s) + "\n")
        out.flush()


def _line(outcome: Outcome, core_s: float) -> str:
    return json.dumps(
        {
            "seed": outcome.seed,
            "trace": outcome.trace,
            "broken": outcome.broken,
            "fired": outcome.fired,
            "evaluated": outcome.evaluated,
            "simulated_s": outcome.simulated_s,
            "core_s": core_s,
        }
    )


assert limits.LEADER_WITHIN_S < limits.DRAIN_S < limits.HEALED_S
