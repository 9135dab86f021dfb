"""`python -m paas.sim.consensus --seeds A-B [--jobs N]`: exit status 1 when anything failed."""

from __future__ import annotations

import argparse
import sys

from paas.sim.consensus import runner


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m paas.sim.consensus")
    parser.add_argument("--seeds", default="0-99", help="first and last seed, such as 0-1999")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        runner.work(sys.stdin, sys.stdout)
        return 0
    first, _, last = arguments.seeds.partition("-")
    report = runner.run(int(first), int(last or first), jobs=arguments.jobs)
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
