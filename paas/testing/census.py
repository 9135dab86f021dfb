"""Which processes of components really run on this machine, whatever the platform believes.

The kernel is asked, from outside of all containers: a process belongs to a component if it carries
the component's id in its environment, or a mark on its command line.  Every process that was seen
becomes a `Life`: from when the kernel started it (proc_pid_stat(5), whole hundredths of a second)
to when its process descriptor told that it had ended.  Both are CLOCK_BOOTTIME, so lives of one
component that did not overlap can be told from such that did for an instant between two looks.

A process that was killed and is not reaped yet does nothing any more, and does not count.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_A_S = os.sysconf("SC_CLK_TCK")
PERIOD_S = 0.01
ID_VARIABLE = b"PAAS_COMPONENT_ID="


@dataclass(slots=True)
class Life:
    """One process.  `ended_s` is None while it lives; `stopped_s` is when it was first seen to be
    stopped by a signal, as all processes of a machine that sleeps are.
    """

    mark: str
    pid: int
    started_s: float
    ended_s: float | None = None
    stopped_s: float | None = None

    @property
    def worked_until_s(self) -> float | None:
        """It did nothing after this, until it was woken, if it was."""
        return self.ended_s if self.stopped_s is None else self.stopped_s


def processes() -> Iterator[tuple[int, list[str]]]:
    """All processes of this machine with their command lines."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{name}/cmdline").read_bytes()
                yield int(name), text.decode("utf-8", "replace").split("\0")


def namespace_of(pid: int) -> str:
    """The process namespace, by which the processes of one machine of a cluster are known."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


class Census:
    """Looks for processes, again and again, for the length of a block.

    `marks`: ids of components, or words of their command lines.  Only processes one of whose words
    ends with `program` are looked at.
    """

    def __init__(
        self, marks: Iterable[str] = (), *, program: str = "", period_s: float = PERIOD_S
    ) -> None:
        self.lives: list[Life] = []
        self.rounds = 0
        self._marks = set(marks)
        self._program = program
        self._period_ms = max(1, round(period_s * 1_000))
        self._known: dict[tuple[int, float], Life] = {}
        self._open: dict[int, Life] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Census:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()
        for descriptor in self._open:
            os.close(descriptor)

    def of(self, mark: str) -> list[Life]:
        """The lives of one component, in the order of their beginnings."""
        return sorted((one for one in self.lives if one.mark == mark), key=lambda o: o.started_s)

    def now(self, mark: str) -> int:
        """How many run at the last look."""
        return sum(one.ended_s is None for one in self.lives if one.mark == mark)

    @property
    def most(self) -> dict[str, int]:
        """The most processes of each mark that ran at the same time."""
        return {mark: self._most(self.of(mark)) for mark in sorted(self._marks)}

    @staticmethod
    def _most(lives: list[Life]) -> int:
        return max(
            (
                sum(o.started_s <= one.started_s and not _before(o, one) for o in lives)
                for one in lives
            ),
            default=0,
        )

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._await_ends()
            self._look()

    def _await_ends(self) -> None:
        """Sleep for a period; note the time of each end."""
        poll = select.poll()
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        until_s = time.monotonic() + self._period_ms / 1_000
        while (left_s := until_s - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left_s * 1_000):
                self._open.pop(descriptor).ended_s = time.clock_gettime(time.CLOCK_BOOTTIME)
                poll.unregister(descriptor)
                os.close(descriptor)

    def _look(self) -> None:
        for pid, words in processes():
            if self._program and not any(word.endswith(self._program) for word in words):
                continue
            mark = self._mark(pid, words)
            if mark is not None:
                with contextlib.suppress(OSError):
                    self._meet(mark, pid)
        for life in self._open.values():
            if life.stopped_s is None and _stat(life.pid)[0] == "T":
                life.stopped_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.rounds += 1

    def _mark(self, pid: int, words: list[str]) -> str | None:
        for word in words:
            if word in self._marks:
                return word
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return None
        for variable in variables:
            if variable.startswith(ID_VARIABLE):
                identity = variable.removeprefix(ID_VARIABLE).decode("ascii", "replace")
                return identity if identity in self._marks or not self._marks else None
        return None

    def _meet(self, mark: str, pid: int) -> None:
        state, started_s = _stat(pid)
        if (pid, started_s) in self._known or state in "ZX":
            return
        descriptor = os.pidfd_open(pid)
        life = self._known[pid, started_s] = Life(mark, pid, started_s)
        self.lives.append(life)
        self._open[descriptor] = life


def _stat(pid: int) -> tuple[str, float]:
    """State (X when there is none) and start time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0.0
    return fields[0], int(fields[19]) / TICKS_A_S


def _before(one: Life, other: Life) -> bool:
    """Had the one ended when the other began, as far as the kernel's start times are exact?"""
    return one.ended_s is not None and one.ended_s <= other.started_s + 1 / TICKS_A_S
