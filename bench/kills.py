"""kill -9 of a random agent of a random node every second, under load, for minutes.

    python -m bench.kills [--seconds 300] [--seed 1]

Prints figures as JSON; under "wrong" stands what was lost or done twice, and the exit status is 1
if that is anything, or if there was too little of either kills or load to have tested something.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from paas.testing.dev_cluster import dev_cluster
from paas.testing.registrars import run

COMPONENT = Path(__file__).resolve().parents[1] / "examples" / "echo"
KILLS_MIN_PER_S = 0.5
COMMANDS_MIN_PER_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with dev_cluster(3) as cluster:
        kind = cluster.api("controller.type", type=cluster.push(COMPONENT))
        found = run(cluster, kind, given.seconds, given.seed)
    kills = sum(found.kills.values())
    value = {
        **dataclasses.asdict(found),
        "asked_per_s": round(found.asked / found.seconds, 1),
        "commands_per_s": round(found.commands / found.seconds, 1),
    }
    value["wrong"] = found.wrong[:20]
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    idle = kills < KILLS_MIN_PER_S * found.seconds
    idle = idle or found.commands < COMMANDS_MIN_PER_S * found.seconds
    sys.exit(1 if found.wrong or idle else 0)


if __name__ == "__main__":
    main()
