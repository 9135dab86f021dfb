"""Millions of damaged messages against every decoder of the platform, in processes of their own.

    python -m bench fuzz                       10 million inputs in 2 processes
    python -m bench fuzz --inputs 200000 --processes 1 --seed 7
    python -m bench fuzz --seed 7-0 --batch 1234      one batch of one process again, findings only

What is tried, and what must hold, is told in paas/testing/fuzzing.py.  Each process prints its seed
before it begins.  Its memory is looked at after a warm-up and at the end; a batch that takes longer
than 30 s of processor time ends the process with SIGVTALRM, which is a finding too.  The exit
status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paas.testing.fuzzing import BATCH, Found, Fuzzer

WARM_UP_BATCHES = 100
GROWTH_BYTES_MAX = 8 << 20
"""Of a process's resident memory after its warm-up, however many inputs there are."""

BATCH_S_MAX = 30.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def work(seed: str, batches: int) -> dict[str, Any]:
    """What one process does: its share of the batches."""
    sys.stderr.write(f"seed {seed}: {batches} batches of {BATCH}\n")
    fuzzer, found = Fuzzer(seed), Found()
    warm = slowest_s = 0.0
    for batch in range(batches):
        signal.setitimer(signal.ITIMER_VIRTUAL, BATCH_S_MAX)
        since_s = time.process_time()
        fuzzer.run(batch, found)
        slowest_s = max(slowest_s, time.process_time() - since_s)
        if batch <= min(WARM_UP_BATCHES, batches // 2):
            warm = resident_bytes()
        if batch % 500 == 0:
            sys.stderr.write(f"seed {seed}: batch {batch}, {len(found.findings)} findings\n")
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return {
        "seed": seed,
        **asdict(found),
        "processor_s": round(time.process_time(), 1),
        "slowest_batch_s": round(slowest_s, 3),
        "warm_bytes": warm,
        "growth_bytes": resident_bytes() - warm,
    }


def spread_out(inputs: int, processes: int, seed: str) -> list[dict[str, Any]]:
    batches = -(-inputs // (BATCH * processes))
    words = [sys.executable, "-m", "bench.fuzz", "--batches", str(batches), "--seed"]
    running = [
        subprocess.Popen([*words, f"{seed}-{number}"], stdout=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    results = []
    for number, one in enumerate(running):
        said, _ = one.communicate()
        if one.returncode:
            lost = {"target": "process", "what": f"ended with status {one.returncode}"}
            results.append({"seed": f"{seed}-{number}", "inputs": 0, "findings": [lost]})
        else:
            results.append(json.loads(said))
    return results


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """All processes together; `wrong` is what must not have been."""
    totals: dict[str, dict[str, int]] = {}
    wrong = [f for one in results for f in one["findings"]]
    for one in results:
        for verdict in ("accepted", "refused"):
            for target, count in one.get(verdict, {}).items():
                row = totals.setdefault(target, {"accepted": 0, "refused": 0})
                row[verdict] += count
        if one.get("growth_bytes", 0) > GROWTH_BYTES_MAX:
            wrong.append({"target": "memory", "what": f"grew by {one['growth_bytes']} bytes"})
    figures = ("seed", "processor_s", "slowest_batch_s", "warm_bytes", "growth_bytes")
    return {
        "inputs": sum(one["inputs"] for one in results),
        "targets": dict(sorted(totals.items())),
        "processes": [{key: one.get(key) for key in figures} for one in results],
        "wrong": wrong,
    }


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--batches", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=-1)
    given = parser.parse_args(words)
    if given.batches:
        sys.stdout.write(json.dumps(work(given.seed, given.batches)))
        return 0
    if given.batch >= 0:
        found = Found()
        Fuzzer(given.seed).run(given.batch, found)
        sys.stdout.write(json.dumps([asdict(f) for f in found.findings], indent=2) + "\n")
        return int(bool(found.findings))
    value = summary(spread_out(given.inputs, given.processes, given.seed))
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    return int(bool(value["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
