"""`paas simulate`, as a process of its own: exit status 1 when anything failed.

    --seed N [--nodes K] [--seconds S] [--story FILE] [--quiet]      one seed
    --seeds A-B [--jobs J] [--nodes K] [--seconds S]                 many
    --mutants all|NAME,NAME --seeds A-B [--nodes K] [--seconds S]    which seed notices which

Texts are hashed alike in every process that simulates (PYTHONHASHSEED=0): one that was started
otherwise starts itself again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from typing import TextIO

from paas.sim.platform import hunting, runner
from paas.sim.platform.story import SECONDS_DEFAULT, Outcome, run_seed
from paas.sim.workers import environment


def main() -> int:
    arguments = _parser().parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "paas.sim.platform", *sys.argv[1:]]
        os.execve(sys.executable, command, environment(runner.HASH_SEED))
    if arguments.worker:
        runner.work(sys.stdin, sys.stdout)
        return 0
    if arguments.seeds:
        first, last = _range(arguments.seeds)
        if arguments.mutants:
            noticed = hunting.run(
                hunting.names(arguments.mutants),
                range(first, last + 1),
                sys.stdout,
                nodes=arguments.nodes,
                seconds=arguments.seconds,
            )
            return 0 if noticed else 1
        report = runner.run(
            first,
            last,
            jobs=arguments.jobs,
            nodes=arguments.nodes,
            seconds=arguments.seconds,
        )
        report.write(sys.stdout)
        return 0 if report.ok else 1
    return _one(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paas simulate")
    parser.add_argument("--seed", type=int, default=0, help="the seed to run")
    parser.add_argument("--seeds", default="", help="first and last seed, such as 0-199")
    parser.add_argument("--mutants", default="", help="rules to switch off, or: all")
    parser.add_argument("--nodes", type=int, default=0, help="3 to 5 are drawn by default")
    parser.add_argument("--seconds", type=float, default=SECONDS_DEFAULT, help="simulated time")
    parser.add_argument("--jobs", type=int, default=2, help="processes, for many seeds")
    parser.add_argument("--story", default="", help="write a line for each event to this file")
    parser.add_argument("--quiet", action="store_true", help="one line")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _range(text: str) -> tuple[int, int]:
    """`3-7` or `3`."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _one(arguments: argparse.Namespace) -> int:
    story = arguments.story
    began_s = time.process_time()
    with open(story, "w", encoding="utf-8") if story else nullcontext() as text:
        outcome = run_seed(
            arguments.seed, nodes=arguments.nodes, seconds=arguments.seconds, text=text
        )
    core_s = time.process_time() - began_s
    out = sys.stdout
    if not arguments.quiet:
        _tell(outcome, out)
    rate = outcome.simulated_s / max(core_s, 1e-9)
    word = "broken" if outcome.broken else "held"
    out.write(
        f"seed {outcome.seed}: {word}, {outcome.nodes} nodes, {outcome.simulated_s:.0f} simulated"
        f" seconds at {rate:.0f} a second, trace {outcome.trace}\n"
    )
    if not outcome.broken:
        return 0
    again = runner.replay(outcome.seed, arguments.nodes, arguments.seconds)
    out.write(f"{outcome.broken}\nreplay: {again}\n")
    return 1


def _tell(outcome: Outcome, out: TextIO) -> None:
    for title, counts in (("happened", outcome.fired), ("checked", outcome.evaluated)):
        runner.table(out, title, dict(sorted(counts.items())))


if __name__ == "__main__":
    sys.exit(main())
