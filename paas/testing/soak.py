"""A platform under load for minutes, while its hub, harnesses and components are killed.

    components   call and cast each other at a steady rate, and write histories (memory files)
    killer       every few seconds SIGKILL for the hub, a harness or a component, at random
    keeper       opens the history of every incarnation while it lives; a kill cannot take it away

At the end the load stops, everybody waits for what is on the way, and the histories are compared
(soak_judge.py).  What is given to it besides is when whom was killed, and when it was well again:
the hub when it answers, a component when its next incarnation has sent its first message.

The hub is killed at most once in HUB_PERIOD_S: its supervisor takes only so many deaths a minute.
Runs on one node, with the processes of a development cluster; needs root.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paas.base.errors import LocalError, PlatformError
from paas.cli.connection import Connection, connect
from paas.node.settings import runtime_of
from paas.testing.soak_judge import (
    ANSWERED,
    HUB,
    SENT,
    SENT_CAST,
    History,
    Incarnation,
    Trouble,
    Verdict,
    judge,
)

HUB_PERIOD_S = 7.0
PERIOD_S = 2.5
"""Between two kills, on the average."""

PATIENCE_S = 60.0
DRAIN_S = 30.0
IN_FLIGHT = 100
CALIBRATION_S = 6.0
AS_FAST_AS_POSSIBLE = 1e9
STARTED = "soaker"
MARK = "/memfd:soak-history"
KINDS = ("hub", "harness", "component")


@dataclass(slots=True, eq=False)
class Life:
    """One incarnation: its processes, and its history as an open file."""

    me: int
    harness: int
    program: int
    history: int
    killed_s: float | None = None

    def read(self) -> bytes:
        """All that was written."""
        size = os.fstat(self.history).st_size
        parts, at = [], 0
        while at < size:
            part = os.pread(self.history, 1 << 20, at)
            if not part:
                break
            parts.append(part)
            at += len(part)
        return b"".join(parts)


@dataclass(slots=True)
class Report:
    """What was done to the platform, and the judge's verdict."""

    seconds: float
    rate: float
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    down_s: dict[str, list[float]] = field(default_factory=dict)
    incarnations: int = 0
    records: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def calls_per_s(self) -> float:
        return self.verdict.answered / self.seconds if self.seconds else 0.0


class Soak:
    """`count` components on the platform of a state directory."""

    def __init__(self, state: str, kind: str, *, count: int, seed: int) -> None:
        self._state = os.path.realpath(state)
        self._socket = f"{runtime_of(self._state)}/api.sock"
        self._kind = kind
        self._count = count
        self._dice = random.Random(seed)
        self._seed = seed
        self._connection: Connection | None = None
        self._ids: list[str] = []
        self.lives: list[Life] = []
        self._present: dict[int, Life] = {}
        self._down: dict[int, float] = {}
        """Since when whoever was killed, or just made, is away: a component's number or HUB."""

        self._troubles: list[Trouble] = []
        self._hub_killed_s = 0.0

    # -- the platform ----------------------------------------------------------------------------

    def _api(self, method: str, params: dict[str, Any], timeout_s: float = 30.0) -> Any:
        if self._connection is None:
            self._connection = connect(self._socket, expected=True)
        try:
            return self._connection.call(method, params, timeout_s=timeout_s)
        except PlatformError as error:
            if error.code in ("unavailable", "unknown-outcome", "timeout"):
                self._connection.close()
                self._connection = None
            raise

    def start(self, rate: float, in_flight: int = IN_FLIGHT) -> None:
        """Create the components; they begin by themselves."""
        self._down = dict.fromkeys(range(self._count), time.monotonic())
        for me in range(self._count):
            configuration = {"me": me, "count": self._count, "rate": rate, "in_flight": in_flight}
            params = {"type": self._kind, "name": f"{STARTED}-{me}", "configuration": configuration}
            self._ids += self._api("controller.create", params)["components"]

    def destroy(self) -> None:
        for component in self._ids:
            self._api("controller.destroy", {"component": component, "grace": 0.0}, 60.0)
        self._ids.clear()

    def close(self) -> None:
        for life in self.lives:
            os.close(life.history)
        self.lives.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- histories -------------------------------------------------------------------------------

    def look(self) -> None:
        """Open what is new, and note who is well again."""
        try:
            found = self._api("controller.components", {}, 2.0)["components"]
        except PlatformError:
            return
        now_s = time.monotonic()
        if HUB in self._down:
            self._well(HUB, now_s)
        for one in found:
            me = int(one["name"].rpartition("-")[2])
            present = self._present.get(me)
            if present is not None and present.harness == one["pid"] and present.killed_s is None:
                continue
            if not one["pid"] or (present is not None and present.harness == one["pid"]):
                continue
            life = _life(me, one["pid"])
            if life is not None:
                self.lives.append(life)
                self._present[me] = life
        for me in [m for m in self._down if m != HUB]:
            life = self._present.get(me)
            if life and life.killed_s is None and os.fstat(life.history).st_size:
                self._well(me, now_s)

    def _well(self, who: int, now_s: float) -> None:
        self._troubles.append(Trouble(who, self._down.pop(who), now_s))

    def all_here(self) -> bool:
        """Does everybody live, send, and have its history open?"""
        self.look()
        return not self._down and all(
            me in self._present and os.fstat(self._present[me].history).st_size
            for me in range(self._count)
        )

    def wait_all_here(self) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not self.all_here():
            if time.monotonic() > end_s:
                raise LocalError(f"not well after {PATIENCE_S} s: {self._down}")
            time.sleep(0.05)

    # -- kills -----------------------------------------------------------------------------------

    def _kill_one(self, report: Report) -> None:
        so_far = report.kills.total()
        kind = KINDS[so_far] if so_far < len(KINDS) else self._dice.choice(KINDS)
        now_s = time.monotonic()
        if kind == "hub":
            if now_s - self._hub_killed_s < HUB_PERIOD_S or HUB in self._down:
                kind = self._dice.choice(KINDS[1:])
            else:
                self._hub_killed_s = now_s
                self._down[HUB] = now_s
                os.kill(agent(self._state, "hub"), signal.SIGKILL)
        if kind != "hub":
            well = [m for m in sorted(self._present) if m not in self._down]
            if len(well) < 2:
                return
            life = self._present[self._dice.choice(well)]
            self._down[life.me] = life.killed_s = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(life.harness if kind == "harness" else life.program, signal.SIGKILL)
        report.kills[kind] += 1

    def run(self, seconds: float, rate: float) -> Report:
        """The whole soak; the components stay, and are silent."""
        report = Report(seconds, rate, self._seed)
        self.start(rate / self._count)
        self.wait_all_here()
        begin_s = time.monotonic()
        next_s = begin_s + self._pause_s()
        while (now_s := time.monotonic()) < begin_s + seconds:
            if now_s >= next_s:
                self._kill_one(report)
                next_s = now_s + self._pause_s()
            self.look()
            time.sleep(0.05)
        report.seconds = time.monotonic() - begin_s
        self.wait_all_here()
        self._drain()
        incarnations = [_incarnation(life) for life in self.lives]
        report.incarnations = len(incarnations)
        report.records = sum(len(History(life.read())) for life in self.lives)
        for trouble in self._troubles[self._count :]:
            name = "hub" if trouble.who == HUB else "component"
            report.down_s.setdefault(name, []).append(trouble.until_s - trouble.from_s)
        report.troubles = self._troubles
        report.verdict = judge(incarnations, self._troubles)
        return report

    def _pause_s(self) -> float:
        return self._dice.uniform(0.4, 1.6) * PERIOD_S

    def _drain(self) -> None:
        """Nothing is sent any more, and everything has ended."""
        end_s = time.monotonic() + DRAIN_S
        waiting = [1]
        while any(waiting) and time.monotonic() < end_s:
            self.look()
            waiting = [self._stop(me) for me in range(self._count)]
            time.sleep(0.1)
        time.sleep(0.5)  # a cast that was accepted is on its way for a moment

    def _stop(self, me: int) -> int:
        """How much it still waits for; who was just killed is asked again."""
        params = {"target": f"{STARTED}-{me}", "operation": "stop", "inputs": {}}
        try:
            return int(self._api("hub.call", params)["outputs"]["waiting"])
        except PlatformError:
            return 1

    def calibrate(self, seconds: float = CALIBRATION_S) -> float:
        """Answers a second when everybody sends as fast as answers come."""
        self.start(AS_FAST_AS_POSSIBLE, in_flight=16)
        self.wait_all_here()
        time.sleep(1.0)
        begin_s, before = time.monotonic(), self._answers()
        time.sleep(seconds)
        rate = (self._answers() - before) / (time.monotonic() - begin_s)
        self._drain()
        self.destroy()
        self.close()
        self._present.clear()
        self._troubles.clear()
        return rate

    def _answers(self) -> int:
        return sum(
            sum(1 for record in History(life.read()) if record.kind == ANSWERED)
            for life in self.lives
        )


def _incarnation(life: Life) -> Incarnation:
    """The epoch is what its own messages say; one that has sent nothing has none of ours."""
    history = History(life.read())
    epoch = next((r.first for r in history if r.kind in (SENT, SENT_CAST)), -life.program)
    return Incarnation(life.me, epoch, history, life.killed_s)


def _life(me: int, harness: int) -> Life | None:
    """The program below a harness, once it has a history."""
    for program in _children(harness):
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{program}/fd").iterdir():
                if os.readlink(entry).startswith(MARK):
                    return Life(me, harness, program, os.open(entry, os.O_RDONLY | os.O_CLOEXEC))
    return None


def _children(parent: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(w) for w in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def agent(state: str, role: str) -> int:
    """The process of an agent of one node: the one that writes that log."""
    log = f"{state}/agents/{role}.log"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if os.readlink(entry / "fd" / "1") == log and role.encode() in words:
                    return int(entry.name)
    raise LocalError(f"no {role} runs")
