"""`paas simulate`: the whole platform in one process, on virtual time, from a seed (io).

The simulation is not part of this command, which imports next to nothing; so this process is
replaced by that of the simulation, in which texts are hashed alike every time.  What was asked for
is checked here, before.
"""

from __future__ import annotations

import os
import re
import sys

from paas.base.errors import invalid
from paas.cli.session import Session
from paas.cli.supervisor import environment

NODES_MAX = 9
"""More nodes make a run slow, and show nothing else."""

_SEEDS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def simulate(
    session: Session,
    *,
    seed: int | None,
    seeds: str,
    nodes: int,
    seconds: int,
    jobs: int,
    story: str,
    quiet: bool,
) -> int:
    """Never returns when it works; exit status 1 when something did not hold."""
    words = arguments(seed, seeds, nodes=nodes, seconds=seconds, jobs=jobs)
    words += ["--story", story] if story else []
    words += ["--quiet"] if quiet else []
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *words], {**environment(), "PYTHONHASHSEED": "0"})


def arguments(seed: int | None, seeds: str, *, nodes: int, seconds: int, jobs: int) -> list[str]:
    """For the interpreter: what to simulate.  Raises `invalid`."""
    if (seed is None) == (not seeds):
        raise invalid("seed", "give one of --seed and --seeds")
    if seed is not None and seed < 0:
        raise invalid("seed", "not below 0")
    if seeds:
        found = _SEEDS.fullmatch(seeds)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise invalid("seeds", "first and last seed, such as 0-199")
    if not 0 <= nodes <= NODES_MAX:
        raise invalid("nodes", f"1 to {NODES_MAX}, or 0 to have the seed draw 3 to 5")
    if seconds < 1:
        raise invalid("seconds", "at least 1")
    if jobs < 1:
        raise invalid("jobs", "at least 1")
    words = ["-m", "paas.sim.platform", "--seconds", str(seconds)]
    words += ["--nodes", str(nodes), "--jobs", str(jobs)]
    return words + (["--seeds", seeds] if seeds else ["--seed", str(seed)])
