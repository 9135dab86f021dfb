"""Half of the possible load for ten minutes, while hub, harnesses and components are killed.

    python -m bench soak                          600 s; finds out first what is half
    python -m bench soak --seconds 60 --rate 1500 --seed 7

What is killed, and what must hold, is told in paas/testing/soak.py and soak_judge.py.  Prints
figures as JSON; under "wrong" stands what was lost, twice, out of order, or at the wrong one, and
the exit status is 1 if that is anything, or if there was too little to have tested something.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from bench.cluster import COMPONENTS, Cluster
from paas.testing.soak import Report, Soak
from paas.testing.soak_judge import HUB

KILLS_MIN_PER_S = 0.2
CALLS_MIN_PER_S = 50.0


def figures(report: Report, possible: float) -> dict[str, Any]:
    verdict = report.verdict
    return {
        "seconds": round(report.seconds, 1),
        "seed": report.seed,
        "possible_per_s": round(possible),
        "messages_per_s": round(report.rate),
        "answers_per_s": round(report.calls_per_s),
        "kills": dict(report.kills),
        "down_s": {
            name: {"median": round(statistics.median(values), 2), "max": round(max(values), 2)}
            for name, values in report.down_s.items()
        },
        "incarnations": report.incarnations,
        "pairs": verdict.pairs,
        "records": report.records,
        "calls": verdict.calls,
        "answered": verdict.answered,
        "casts": verdict.casts,
        "accepted": verdict.accepted,
        "arrived": verdict.arrived,
        "errors": dict(verdict.errors),
        "unfinished": verdict.unfinished,
        "casts_lost": verdict.casts_lost,
        "wrong": dict(verdict.wrong),
        "examples": verdict.examples[:20],
        "troubles": _told(report) if verdict.wrong else [],
    }


def _told(report: Report) -> list[str]:
    """Whom the findings can be compared with."""
    return [
        f"{'hub' if t.who == HUB else t.who}: {t.from_s:.3f} to {t.until_s:.3f}"
        for t in report.troubles
    ]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--components", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; 0: half")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(words)
    with Cluster() as cluster:
        kind = cluster.push(COMPONENTS / "soaker")
        soak = Soak(str(cluster.state), kind, count=given.components, seed=given.seed)
        try:
            possible = 0.0 if given.rate else soak.calibrate()
            report = soak.run(given.seconds, given.rate or possible / 2)
        except BaseException:
            sys.stderr.write((cluster.state / "agents" / "hub.log").read_text()[-5_000:])
            raise
        finally:
            soak.close()
    value = figures(report, possible)
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    idle = sum(report.kills.values()) < KILLS_MIN_PER_S * report.seconds
    idle = idle or report.calls_per_s < CALLS_MIN_PER_S
    return int(bool(report.verdict.wrong) or idle)


if __name__ == "__main__":
    sys.exit(main())
