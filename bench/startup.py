"""How long a person waits: `paas dev --detach` until ready, `paas down`, `paas --help`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from bench.cluster import Cluster, paas_command
from bench.figures import Figure, spread

READY_BAR_S = 5.0
HELP_BAR_MS = 150.0


def ready(quick: bool) -> list[Figure]:
    """From nothing to a cluster in which components can be created, and back to nothing."""
    up: list[float] = []
    down: list[float] = []
    for _ in range(2 if quick else 5):
        cluster = Cluster()
        up.append(cluster.start())
        down.append(cluster.end())
    return [
        Figure(
            what="`paas dev --detach` until ready",
            value=statistics.median(up),
            unit="s",
            bar=READY_BAR_S,
            samples=spread(up),
        ),
        Figure(
            what="`paas down --purge` until nothing is left",
            value=statistics.median(down),
            unit="s",
            samples=spread(down),
        ),
    ]


def help_text(quick: bool) -> list[Figure]:
    """`paas --help` in turns with an interpreter that does nothing."""
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(5 if quick else 20):
        ours.append(_run_ms([*paas_command(), "--help"]))
        bare.append(_run_ms([sys.executable, "-c", "pass"]))
    return [
        Figure(
            what="`paas --help`",
            value=statistics.median(ours),
            unit="ms",
            bar=HELP_BAR_MS,
            peer=statistics.median(bare),
            peer_name="`python -c pass`",
            samples=spread(ours),
        )
    ]


def _run_ms(words: list[str]) -> float:
    since = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - since) * 1e3
