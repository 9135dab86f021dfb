"""Which seed notices that a rule is switched off: every mutant against many seeds.

    python -m paas.sim.platform --mutants all --seeds 0-499

For each mutant the seeds are tried in their order until one breaks; a mutant that none of them
notices is a hole in the simulation, and fails the run.  Any change of the platform changes the
stories of the seeds, and with them which one is the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from paas.sim.platform.mutants import MUTANTS
from paas.sim.platform.runner import Worker


@dataclass(frozen=True, slots=True)
class Catch:
    """What became of the hunt for one mutant."""

    mutant: str
    tried: int
    core_s: float
    seed: int | None = None
    broken: str = ""
    at_s: float = 0.0

    @property
    def line(self) -> str:
        what = f"{self.mutant:22} {self.tried:4} tried, {self.core_s:7.1f} core-seconds: "
        if self.seed is None:
            return what + "NOT NOTICED"
        return what + f"seed {self.seed} at {self.at_s:.0f} s, {self.broken[:90]}"


def hunt(mutant: str, seeds: Sequence[int], *, nodes: int = 0, seconds: float) -> Catch:
    """Try these seeds, in their order, until one notices."""
    lines = [json.loads(line) for line in Worker(seeds, nodes, seconds, mutant=mutant).lines()]
    core_s, last = sum(line["core_s"] for line in lines), lines[-1]
    if not last["broken"]:
        return Catch(mutant, len(lines), core_s)
    seed, broken, at_s = last["seed"], last["broken"], last["simulated_s"]
    return Catch(mutant, len(lines), core_s, seed, broken, at_s)


def names(chosen: str) -> list[str]:
    """`all`, or names with commas between them.  Raises KeyError."""
    found = list(MUTANTS) if chosen == "all" else chosen.split(",")
    for name in found:
        MUTANTS[name]
    return found


def run(
    chosen: Sequence[str], seeds: Sequence[int], out: TextIO, *, nodes: int = 0, seconds: float
) -> bool:
    """Hunt all of them, and tell; was each one noticed?"""
    noticed = True
    for name in chosen:
        catch = hunt(name, seeds, nodes=nodes, seconds=seconds)
        out.write(catch.line + "\n")
        out.flush()
        noticed = noticed and catch.seed is not None
    return noticed
