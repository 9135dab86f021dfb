"""`paas simulate`: the whole platform in one process, on virtual time, from a seed (io).

The simulation is not part of this command, which imports next to nothing; so this process is
replaced by that of the simulation, in which texts are hashed alike every time.
"""

from __future__ import annotations

import os
import sys

from paas.base.errors import invalid
from paas.cli.session import Session
from paas.cli.supervisor import environment


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
    if (seed is None) == (not seeds):
        raise invalid("seed", "give one of --seed and --seeds")
    words = [sys.executable, "-m", "paas.sim.platform", "--seconds", str(seconds)]
    words += ["--nodes", str(nodes), "--jobs", str(jobs)]
    words += ["--seeds", seeds] if seeds else ["--seed", str(seed)]
    words += ["--story", story] if story else []
    words += ["--quiet"] if quiet else []
    sys.stdout.flush()
    os.execve(sys.executable, words, {**environment(), "PYTHONHASHSEED": "0"})
