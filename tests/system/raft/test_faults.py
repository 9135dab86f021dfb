"""Disks that lose, damage or refuse what is written, and processes that are killed: a little of
what `python -m bench.faults` does for hours, and the bare library under the same power cuts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from paas.testing import replica_faults as faults
from paas.testing.replicas import CUT_STATUS, ROOT, Shim, free_ports

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SEED = 20_260
STOCK = Path(__file__).with_name("stock_replica.py")


async def test_power_cuts_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    found = await faults.power(tmp_path, 30, SEED)
    assert found["wrong"] == []
    assert found["processes_cut"] == 50
    assert found["acknowledged"] > 1_500
    lost = found["changes"]
    assert lost["torn"] > 0
    assert lost["dropped"] > 0  # else the shim is blind


async def test_a_damaged_disk_is_noticed_and_the_node_comes_back_by_itself(tmp_path: Path) -> None:
    found = await faults.damage(tmp_path, 40, SEED)
    assert found["wrong"] == []
    assert found["times"] == 40
    assert {kind.split()[1] for kind in found["kinds"]} == {"journal", "snapshot", "returned"}
    assert {kind.split()[0] for kind in found["kinds"]} == {"bit", "truncate", "zero"}


async def test_a_process_whose_sync_failed_ends_before_it_acknowledges(tmp_path: Path) -> None:
    found = await faults.eio(tmp_path, 8, SEED)
    assert found["wrong"] == []


async def test_a_leader_with_a_full_disk_yields_and_follows_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    found = await faults.full(tmp_path, 4, SEED)
    assert found["wrong"] == []


async def test_killed_replicas_lose_nothing_and_what_clients_saw_is_linearizable(
    tmp_path: Path,
) -> None:
    found = await faults.kill(tmp_path, 20, SEED)
    assert found["wrong"] == []
    assert found["kills"] >= 10
    assert found["history"]["operations"] > 100


async def test_a_replica_with_many_entries_is_back_soon(tmp_path: Path) -> None:
    found = await faults.restart(tmp_path, 3_000, snapshot=False)
    assert found["wrong"] == []
    assert found["entries"] >= 3_000


# -- the bare library under the same power cuts ----------------------------------------------------


class Stock:
    """Three replicas of the library, each under the shim."""

    def __init__(self, directory: Path, shim: Shim) -> None:
        self._directory, self._shim = directory, shim
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self.processes: list[subprocess.Popen[str]] = []
        self._orders: list[int] = []
        for number in range(3):
            (directory / str(number)).mkdir()

    def start(self) -> None:
        self.processes, self._orders = [], []
        for number, own in enumerate(self._addresses):
            others = [address for address in self._addresses if address != own]
            home = self._directory / str(number)
            order, control = os.pipe()
            with (self._directory / f"{number}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, str(STOCK), own, *others, str(home / "journal")],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                        cwd=ROOT,
                        env={**os.environ, **self._shim.environment(home, order)},
                        pass_fds=(order,),
                    )
                )
            os.close(order)
            self._orders.append(control)

    def say(self, number: int, line: str) -> None:
        stdin = self.processes[number].stdin
        assert stdin is not None
        stdin.write(line + "\n")
        stdin.flush()

    def hear(self, number: int, wanted: Callable[[str], bool]) -> list[str]:
        """Its lines up to the first that is wanted; fewer when it ends."""
        stdout = self.processes[number].stdout
        assert stdout is not None
        lines = []
        for line in stdout:
            lines.append(line.strip())
            if wanted(lines[-1]):
                break
        return lines

    def cut(self) -> list[int]:
        """The power fails for all at once; how the processes ended."""
        for control in self._orders:
            os.write(control, b"c")
            os.close(control)
        self._orders = []
        return [process.wait(timeout=60) for process in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        for control in self._orders:
            os.close(control)
        self._orders = []


def write(stock: Stock, words: list[str]) -> set[str]:
    """Commit these; what was acknowledged."""
    stock.hear(0, lambda line: line == "READY")
    for word in words:
        stock.say(0, word)
    left = set(words)

    def acknowledged(line: str) -> bool:
        left.discard(line.removeprefix("ACK "))
        return not left

    lines = stock.hear(0, acknowledged)
    return {line.removeprefix("ACK ") for line in lines if line.startswith("ACK ")}


def missing(stock: Stock, acknowledged: set[str], patience_s: float = 10.0) -> set[str]:
    """The words that none of them has, however long one waits."""
    end_s, held = time.monotonic() + patience_s, set[str]()
    while time.monotonic() < end_s and not acknowledged <= held:
        time.sleep(0.2)
        for number, process in enumerate(stock.processes):
            if process.poll() is None:
                try:
                    stock.say(number, "?")
                except BrokenPipeError:
                    continue
                lines = stock.hear(number, lambda line: line.startswith("HAVE"))
                held |= set(lines[-1].split()[1:]) if lines else set()
    return acknowledged - held


def lost_by(end: Callable[[Stock], object], directory: Path, shim: Shim) -> int:
    """How many acknowledged words of the bare library do not survive this end of all replicas."""
    directory.mkdir()
    stock = Stock(directory, shim)
    try:
        stock.start()
        acknowledged = write(stock, [f"w{number}" for number in range(200)])
        assert len(acknowledged) == 200
        end(stock)
        stock.stop()
        stock.start()
        return len(missing(stock, acknowledged))
    finally:
        stock.stop()


def test_the_bare_library_loses_acknowledged_words_in_the_same_cuts(tmp_path: Path) -> None:
    shim = Shim(tmp_path, SEED)
    assert lost_by(Stock.kill, tmp_path / "killed", shim) == 0  # what follows is the disk's doing

    def cut(stock: Stock) -> None:
        assert stock.cut() == [CUT_STATUS] * 3

    assert any(lost_by(cut, tmp_path / f"cut-{attempt}", shim) > 0 for attempt in range(5))
