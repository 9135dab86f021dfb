"""`python -m bench [NAME…] [--quick] [--json FILE] [--write FILE]`: all measurements, or some.

`python -m bench soak|fuzz|crowd [OPTION…]` are programs with options of their own.

Needs root, as the platform does; every measurement has a cluster of its own, and leaves nothing.
Prints one row for each figure, beside what docs/benchmarks.md says was measured before.  The exit
status is 1 when a bar is not kept (bars hold for whole runs, not for --quick ones).
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import (
    application,
    attachments,
    call,
    create,
    dns,
    feeds,
    gateway,
    gateway_haproxy,
    idle,
    living,
    nodes,
    peers,
    recover,
    startup,
)
from bench.figures import Figure, cells, machine, markdown

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- figures: made by python -m bench --write -->"
END = "<!-- end of figures -->"

MEASUREMENTS: dict[str, Callable[[bool], list[Figure]]] = {
    "ready": startup.ready,
    "help": startup.help_text,
    "create": create.sequence,
    "many": create.many,
    "call": call.calls,
    "idle": idle.idle,
    "living": living.living,
    "feeds": feeds.feeds,
    "recover": recover.recover,
    "nodes": nodes.nodes,
    "messages": call.messages,
    "attachments": attachments.attachments,
    "application": application.application,
    "gateway": gateway.gateway,
    "gateway_haproxy": gateway_haproxy.haproxy,
    "peers": peers.peers,
    "dns": dns.dns,
}
OPTIONAL = ("dns", "gateway", "gateway_haproxy", "peers")
"""Measured when they are named: other programs are needed for them."""

PARTS = ("container", "hub", "raft", "commits")
"""Programs of their own beside this file: one part of the platform without the others."""

TOOLS = ("soak", "fuzz", "crowd", "density", "churn", "gateway_stops")
"""Programs with options of their own, which take long: `python -m bench soak --help`."""


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in TOOLS:
        tool = importlib.import_module(f"bench.{sys.argv[1]}")
        return int(tool.main(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the platform.")
    names = [*MEASUREMENTS, *(p for p in PARTS if (HERE / f"{p}.py").exists())]
    parser.add_argument(
        "name", nargs="*", help=f"any of {', '.join(names)}; default: all but {', '.join(OPTIONAL)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; bars do not bind")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there")
    parser.add_argument("--write", metavar="FILE", help="replace the figures in this document")
    given = parser.parse_args()
    wanted = given.name or [name for name in names if name not in OPTIONAL]
    if unknown := set(wanted) - set(names):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        sys.stderr.write("error: containers need root; run it as root\n")
        return 1
    where = machine()
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    say(f"{where}\n{when}\n")
    before = measured_before()
    figures: list[Figure] = []
    parts: dict[str, Any] = {}
    failed = False
    for name in wanted:
        try:
            if name in PARTS:
                parts[name] = run_part(name)
                say(f"{name}: {json.dumps(parts[name], indent=2)}\n")
                continue
            since = time.perf_counter()
            found = MEASUREMENTS[name](given.quick)
            say(f"{name} ({time.perf_counter() - since:.0f} s)\n")
            for figure in found:
                show(figure, before)
            figures += found
        except Exception as exc:  # the others are still worth measuring
            say(f"{name}: FAILED: {type(exc).__name__}: {exc}\n")
            failed = True
    facts = {"machine": where, "time": when, "quick": given.quick, "parts": parts}
    if given.json:
        plain = {**facts, "figures": [f.to_plain() for f in figures]}
        Path(given.json).write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    if given.write:
        write(Path(given.write), figures, facts)
    missed = [f.what for f in figures if f.holds is False]
    if missed:
        say(f"bars not kept: {'; '.join(missed)}\n")
    return int(failed or (bool(missed) and not given.quick))


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def show(figure: Figure, before: dict[str, str]) -> None:
    what, bar, measured, peer, ratio, kept, many, note = cells(figure)
    facts = [f"bar {bar}" if bar else "", kept and f"kept: {kept}", peer and f"peer {peer}"]
    facts += [ratio and f"ratio {ratio}", many and f"({many})", note]
    if figure.what in before:
        facts.append(f"before: {before[figure.what]}")
    say(f"  {what:<62} {measured:>18}  {'  '.join(filter(None, facts))}\n")


def run_part(name: str) -> Any:
    """One of the programs beside this file; what it prints as JSON."""
    words = [sys.executable, str(HERE / f"{name}.py")]
    if name != "raft":  # which prints its figures for people only
        words.append("--json")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "no reason")
    return done.stdout.splitlines() if name == "raft" else json.loads(done.stdout)


def measured_before() -> dict[str, str]:
    """What the document says of each figure."""
    if not DOCUMENT.exists():
        return {}
    rows = [line.split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    return {row[1].strip(): row[3].strip() for row in rows if len(row) > 4}


def write(document: Path, figures: list[Figure], facts: dict[str, Any]) -> None:
    """Put the figures, and where they are from, between the two marks."""
    text = document.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    words = "python -m bench" + (" --quick" if facts["quick"] else "")
    lines = f"Made by `{words}`, {facts['time']}, on: {facts['machine']}.\n\n{markdown(figures)}"
    for name, found in facts["parts"].items():
        lines += f"\n`python bench/{name}.py`:\n\n```json\n{json.dumps(found, indent=1)}\n```\n"
    document.write_text(f"{head}{BEGIN}\n{lines}{END}{tail}")


if __name__ == "__main__":
    sys.exit(main())
