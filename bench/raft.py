"""Durable commits of a single voter: how many a second, how long one takes.

    python bench/raft.py [DIRECTORY]

The directory should be on the disk that a node would use.  Each figure is of `propose` from call to
result: encode, append, fdatasync in a worker thread, commit, apply.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time

import trio

from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.sim.replicas import Note, Words

SECONDS = 3.0
IDLE_SECONDS = 5.0


def report(text: str) -> None:
    sys.stdout.write(text + "\n")


async def measure(log: ReplicatedLog, writers: int, label: str) -> None:
    took_s: list[float] = []
    end_s = time.perf_counter() + SECONDS

    async def write(who: int) -> None:
        number = 0
        while time.perf_counter() < end_s:
            began_s = time.perf_counter()
            await log.propose(Note(word=f"{label}-{who}-{number}", filler="x" * 200))
            took_s.append(time.perf_counter() - began_s)
            number += 1

    syncs = log.status()["syncs"]
    async with trio.open_nursery() as nursery:
        for who in range(writers):
            nursery.start_soon(write, who)
    syncs = log.status()["syncs"] - syncs
    took_s.sort()
    p50_ms, p99_ms = (took_s[int(len(took_s) * q)] * 1e3 for q in (0.5, 0.99))
    rate = len(took_s) / SECONDS
    report(
        f"{writers:3} writers: {rate:8.0f} commits/s   p50 {p50_ms:6.2f} ms   p99 {p99_ms:6.2f} ms"
        f"   {len(took_s) / max(1, syncs):5.1f} commits a sync"
    )


async def idle(log: ReplicatedLog) -> None:
    began_s = time.process_time()
    await trio.sleep(IDLE_SECONDS)
    used_s = time.process_time() - began_s
    report(f"idle: {used_s / IDLE_SECONDS * 100:.3f} % of a core")


async def main(directory: str) -> None:
    log = ReplicatedLog.open(
        files=SystemFiles(directory),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        machine=Machine([Words()]),
        node="bench",
    )
    async with trio.open_nursery() as nursery:
        began_s = time.perf_counter()
        await nursery.start(log.run)
        report(f"start of an empty log: {(time.perf_counter() - began_s) * 1e3:.1f} ms")
        for writers in (1, 64):
            await measure(log, writers, f"w{writers}")
        await log.snapshot()
        await idle(log)
        await log.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", nargs="?", help="where to write; default: a temporary one")
    parent = parser.parse_args().directory
    place = tempfile.mkdtemp(prefix="raft-bench-", dir=parent)
    try:
        trio.run(main, place)
    finally:
        shutil.rmtree(place)
