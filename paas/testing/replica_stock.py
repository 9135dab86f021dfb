"""Three replicas of the library as it was made, under the same power cuts as ours (replicas.py).

The positive control of `replica_faults.power`: acknowledged words must get lost here, else the shim
takes nothing back and the cuts prove nothing.  With the processes killed and the power left on
nothing may get lost, else it is not the disk that loses.  The replicas are
tests/system/raft/stock_replica.py; they are spoken to in lines.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paas.testing.replicas import CUT_STATUS, ROOT, Shim, free_ports

STOCK = ROOT / "tests" / "system" / "raft" / "stock_replica.py"
WORDS = 200
PATIENCE_S = 10.0
"""So long is waited for words that are missing after everybody has started again."""


class Stock:
    """The three processes, each under the shim."""

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

    def cut(self) -> None:
        """The power fails for all at once."""
        for control in self._orders:
            os.write(control, b"c")
            os.close(control)
        self._orders = []
        ends = [process.wait(timeout=60) for process in self.processes]
        if ends != [CUT_STATUS] * 3:
            raise AssertionError(f"the replicas ended with {ends}")

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

    def write(self, words: list[str]) -> set[str]:
        """Commit these; what was acknowledged."""
        self.hear(0, lambda line: line == "READY")
        for word in words:
            self.say(0, word)
        left = set(words)

        def acknowledged(line: str) -> bool:
            left.discard(line.removeprefix("ACK "))
            return not left

        lines = self.hear(0, acknowledged)
        return {line.removeprefix("ACK ") for line in lines if line.startswith("ACK ")}

    def missing(self, acknowledged: set[str]) -> set[str]:
        """The words that none of them has, however long one waits."""
        end_s, held = time.monotonic() + PATIENCE_S, set[str]()
        while time.monotonic() < end_s and not acknowledged <= held:
            time.sleep(0.2)
            for number, process in enumerate(self.processes):
                if process.poll() is not None:
                    continue
                try:
                    self.say(number, "?")
                except BrokenPipeError:
                    continue
                lines = self.hear(number, lambda line: line.startswith("HAVE"))
                held |= set(lines[-1].split()[1:]) if lines else set()
        return acknowledged - held


def lost_by(end: Callable[[Stock], None], directory: Path, shim: Shim) -> int:
    """How many acknowledged words do not survive this end of all replicas."""
    directory.mkdir()
    replicas = Stock(directory, shim)
    try:
        replicas.start()
        acknowledged = replicas.write([f"w{number}" for number in range(WORDS)])
        if len(acknowledged) != WORDS:
            raise AssertionError(f"only {len(acknowledged)} words were acknowledged")
        end(replicas)
        replicas.stop()
        replicas.start()
        return len(replicas.missing(acknowledged))
    finally:
        replicas.stop()


def stock(directory: Path, cuts: int, seed: int) -> dict[str, Any]:
    """One kill, which must lose nothing, and so many power cuts, of which some must lose words."""
    shim = Shim(directory, seed)
    killed = lost_by(Stock.kill, directory / "killed", shim)
    lost = [lost_by(Stock.cut, directory / f"cut-{number}", shim) for number in range(cuts)]
    wrong: list[Any] = []
    if killed:
        wrong.append({"lost_by_a_kill": killed})
    if not any(lost):
        wrong.append("no cut lost anything: the shim is blind")
    return {
        "cuts": cuts,
        "acknowledged": cuts * WORDS,
        "lost": sum(lost),
        "cuts_that_lost": sum(map(bool, lost)),
        "lost_by_a_kill": killed,
        "wrong": wrong,
    }
