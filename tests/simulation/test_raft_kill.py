"""A real process on a real directory: killed with SIGKILL under writes, again and again; a real
disk that is full.  What it had acknowledged must be there when it starts again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

WRITER = """
import sys, trio
from paas.raft.log import ReplicatedLog
from paas.raft.machine import Machine
from paas.raft.settings import RaftSettings
from paas.base.errors import PlatformError
from paas.real.clock import SystemClock
from paas.real.entropy import SystemEntropy
from paas.real.files import SystemFiles
from paas.sim.replicas import Note, Words

directory, life, filler = sys.argv[1], sys.argv[2], int(sys.argv[3])

async def write(log, who):
    number = 0
    while True:
        word = f"{life}-{who}-{number}"
        try:
            await log.propose(Note(word=word, filler="x" * filler))
        except PlatformError as error:
            print("REFUSED", error.code, flush=True)
            return
        print("ACK", word, flush=True)
        number += 1

async def main():
    files, words = SystemFiles(directory), Words()
    files.lock()
    log = ReplicatedLog.open(
        files=files, clock=SystemClock(), entropy=SystemEntropy(), machine=Machine([words]),
        node="a", settings=RaftSettings(compaction_entries=1 << 30 if filler else 100),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        print("HAVE", *words.words, flush=True)
        async with trio.open_nursery() as writers:
            for who in range(4):
                writers.start_soon(write, log, who)
        await log.close()

trio.run(main)
"""


def start(directory: Path, life: int, filler: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(directory), str(life), str(filler)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def words_of(line: str) -> set[str]:
    head, *words = line.split()
    assert head == "HAVE", line
    return set(words)


@pytest.mark.simulation
def test_ten_kills_under_writes_lose_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(10)
    acknowledged: set[str] = set()
    for life in range(11):
        process = start(tmp_path, life)
        assert process.stdout is not None
        have = words_of(process.stdout.readline())
        assert acknowledged <= have
        for _ in range(chance.randrange(50, 400)):
            acknowledged.add(process.stdout.readline().split()[1])
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read()
        acknowledged |= {line.split()[1] for line in rest.splitlines() if line.count("-") == 2}
        process.wait()
        process.stdout.close()
    assert len(acknowledged) > 500


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.system
def test_a_real_disk_that_runs_full_is_noticed_in_time(small_disk: Path) -> None:
    process = start(small_disk, 0, 30_000)
    out, _ = process.communicate(timeout=60)
    lines = out.splitlines()
    assert process.returncode == 0
    assert lines[-1] == "REFUSED storage-full"
    acknowledged = {line.split()[1] for line in lines if line.startswith("ACK")}
    assert acknowledged
    again = start(small_disk, 1, 30_000)
    assert again.stdout is not None
    assert acknowledged <= words_of(again.stdout.readline())
    again.communicate(timeout=60)
