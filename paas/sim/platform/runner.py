"""Many seeds on several processes: adds up what happened, and does not believe a quiet run.

    paas simulate --seeds 0-199 --jobs 2

A run fails when a seed broke an invariant, when two runs of one seed differ (one seed in twenty is
run a second time, in another process), when a class of faults never fired, or when an invariant was
never evaluated: a simulation that tested nothing must not look like one that found nothing.
"""

from __future__ import annotations

import gc
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TextIO

from paas.sim.platform.cluster import Cluster
from paas.sim.platform.faults import DRAWN, Faults
from paas.sim.platform.invariants import NAMES
from paas.sim.platform.mischief import Orders
from paas.sim.platform.mutants import switched_off
from paas.sim.platform.story import SECONDS_DEFAULT, Outcome, run_seed
from paas.sim.platform.world import World
from paas.sim.workers import WorkerProcess, take_order

TWICE_EVERY = 20
"""One seed in so many is run a second time."""

HASH_SEED = 0
"""Of every process that simulates: sets of texts have one order."""

ENDS = (
    *("exit-normal", "exit-exit", "exit-signal", "exit-out-of-memory", "exit-not-ready"),
    *("exit-killed", "exit-destroyed", "exit-node-lost", "exit-moved"),
)
"""Ways in which components end."""


def fault_classes() -> list[str]:
    """Every class there is."""
    faults = Faults(Cluster(World(0), None), end_s=0.0)  # type: ignore[arg-type]
    return sorted({*faults.classes(), *DRAWN, *Orders.NAMES, *ENDS, "type-registered"})


@dataclass(slots=True)
class Report:
    """The sum over all seeds."""

    seconds: float = SECONDS_DEFAULT
    nodes: int = 0
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
        faults = [f"fault {name}" for name in fault_classes() if not self.fired[name]]
        return faults + [f"invariant {name}" for name in NAMES if not self.evaluated[name]]

    def write(self, out: TextIO) -> None:
        seeds = max(1, self.seeds)
        out.write(
            f"{self.seeds} seeds, {self.simulated_s / 3600:.1f} simulated hours, "
            f"{self.core_s / seeds:.2f} core-seconds each, "
            f"{self.simulated_s / max(self.core_s, 1e-9):.0f} simulated seconds a core-second, "
            f"{self.wall_s:.0f} s; {self.compared} run twice\n"
        )
        names = set(fault_classes())
        table(out, "faults", {n: self.fired[n] for n in sorted(names)})
        table(out, "seen", {n: c for n, c in sorted(self.fired.items()) if n not in names})
        table(out, "invariants evaluated", {n: self.evaluated[n] for n in NAMES})
        for seed, text in sorted(self.broken.items()):
            out.write(f"seed {seed}: {text}\n")
            out.write(f"    replay: {replay(seed, self.nodes, self.seconds)}\n")
        out.writelines(f"never: {name}\n" for name in self.never())

    @property
    def ok(self) -> bool:
        return not self.broken and not self.never()


def replay(seed: int, nodes: int, seconds: float) -> str:
    """The command that runs this seed again."""
    chosen = f" --nodes {nodes}" if nodes else ""
    return f"paas simulate --seed {seed}{chosen} --seconds {seconds:g}"


def table(out: TextIO, title: str, counts: dict[str, int]) -> None:
    out.write(f"{title}:\n")
    out.writelines(f"    {name:36} {count:12,}\n" for name, count in counts.items())


def run(
    first: int, last: int, *, jobs: int = 1, nodes: int = 0, seconds: float = SECONDS_DEFAULT
) -> Report:
    """All seeds from first to last."""
    report = Report(seconds=seconds, nodes=nodes)
    began_s = time.monotonic()
    traces: dict[int, str] = {}
    workers = [Worker(range(first + n, last + 1, jobs), nodes, seconds) for n in range(jobs)]
    for line in (line for worker in workers for line in worker.lines()):
        _add(report, traces, line)
    again = [seed for seed in range(first, last + 1) if seed % TWICE_EVERY == 0]
    workers = [Worker(again[number::jobs], nodes, seconds) for number in range(jobs)]
    for line in (line for worker in workers for line in worker.lines()):
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


class Worker:
    """A process of its own that tells a line for each seed; with a mutant, until one is broken."""

    def __init__(
        self, seeds: Sequence[int], nodes: int, seconds: float, *, mutant: str = ""
    ) -> None:
        self._seeds = seeds
        self._mutant = mutant
        order = {"seeds": list(seeds), "nodes": nodes, "seconds": seconds, "mutant": mutant}
        self._process = WorkerProcess("paas.sim.platform", order, hash_seed=HASH_SEED)

    def lines(self) -> list[str]:
        status, lines = self._process.wait()
        caught = self._mutant and lines and json.loads(lines[-1])["broken"]
        if status or not (caught or len(lines) == len(self._seeds)):
            raise RuntimeError(f"a process of the simulation ended early, after {len(lines)} seeds")
        return lines


def work(source: TextIO, out: TextIO) -> None:
    """A worker's life: an order in, lines out."""
    order = take_order(source)
    gc.freeze()
    for seed in order["seeds"]:
        began_s = time.process_time()
        with switched_off(order["mutant"]) if order["mutant"] else nullcontext():
            outcome = run_seed(seed, nodes=order["nodes"], seconds=order["seconds"])
        out.write(_line(outcome, time.process_time() - began_s) + "\n")
        out.flush()
        if outcome.broken and order["mutant"]:
            return
        gc.collect()  # a world is a knot of references; most of it is garbage now


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
