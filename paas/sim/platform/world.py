"""Virtual time for trio, and a heap of what else happens: one thread, one order, one seed.

    tasks of the platform ── trio ──┐
                                    ├── World: nothing is runnable ──> the next thing happens
    network, kernel, components ────┘       (an action of the heap, or the deadline of a task)

Time does not pass while anybody can run.  When nobody can, trio asks its clock how long to sleep;
the clock answers "not at all" after it has moved time to the next event.  Messages, kernels,
components and faults are no tasks but actions of the heap: a task costs a hundred times as much.

A process that is paused (SIGSTOP) is one whose tasks are not run: the queue of runnable tasks puts
them aside until it goes on, while its timers run out and its messages arrive.

Trio is made deterministic by names that are private there (`_core._run`); they are used here and in
loop.py only, and `tests/unit/sim_platform/test_world.py` fails when they move.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import trio
from trio._core import _run as trio_run

from paas.sim.platform.loop import quick

if TYPE_CHECKING:
    from paas.sim.platform.process import Process

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""The simulated process that a task belongs to; tasks inherit it."""


READINGS_MAX = 200_000
"""Looks at the clock at one moment, before somebody is suspected to turn in a circle."""


class StandsStill(Exception):
    """Time does not pass, since tasks never all wait."""


class _Runnable(deque[Any]):
    """Trio's queue of runnable tasks, without those of paused processes."""

    def __init__(self) -> None:
        super().__init__()
        self.append: Callable[[Any], None]
        self.hold(False)

    def hold(self, paused: bool) -> None:
        """Is any process paused?"""
        self.append = self._append if paused else super().append

    def _append(self, task: Any) -> None:
        process = task.context.get(PROCESS)
        if process is not None and process.paused:
            process.held_tasks.append(task)
        else:
            super().append(task)


class _NoEvents:
    """Trio's queue of kernel events without looking into it: nothing real happens here."""

    def __init__(self, events: Any) -> None:
        self._events = events

    def get_events(self, _timeout: float) -> list[Any]:
        return []

    def process_events(self, _events: list[Any]) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)


class World(trio.abc.Clock):
    """See the module's text."""

    def __init__(self, seed: int, *, story: TextIO | None = None) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.random = random.Random(seed)
        self.fired: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self.actions = 0
        self._readings = 0
        self.ended = False
        self.alone = False
        """Nothing real can happen."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._runnable = _Runnable()
        self._paused: dict[Process, None] = {}
        self._trace = hashlib.sha256()
        self._story = story
        self._over: trio.CancelScope | None = None

    # -- what happened ---------------------------------------------------------------------------

    def count(self, what: str) -> None:
        self.fired[what] += 1

    def record(self, text: str) -> None:
        """One line of the story; all lines together are the trace."""
        line = f"{self.now_s:.6f} {text}\n"
        self._trace.update(line.encode())
        if self._story is not None:
            self._story.write(line)

    def trace(self) -> str:
        return self._trace.hexdigest()

    # -- what will happen ------------------------------------------------------------------------

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_s + delay_s, action, *arguments)

    def at(self, due_s: float, action: Callable[..., None], *arguments: Any) -> None:
        if self.ended:
            return
        self._number += 1
        heapq.heappush(self._heap, (due_s, self._number, action, arguments))

    def fail(self, failure: BaseException) -> None:
        """The run ends here; the first failure counts."""
        if self.failure is None:
            self.failure = failure
        self._heap.clear()
        self.ended = True
        self._let_go()
        if self._over is not None:
            self._over.cancel()

    def end(self) -> None:
        """Nothing more happens."""
        self.ended = True
        self._heap.clear()

    # -- processes -------------------------------------------------------------------------------

    def pause(self, process: Process) -> None:
        """Its tasks do not run from now on."""
        self._paused[process] = None
        self._runnable.hold(True)

    def resume(self, process: Process) -> None:
        """Its tasks run again; those that were to run meanwhile come in their order."""
        self._paused.pop(process, None)
        self._runnable.hold(bool(self._paused))
        tasks, process.held_tasks = process.held_tasks, []
        for task in tasks:
            self._runnable.append(task)

    def _let_go(self) -> None:
        """All is over: those who are paused have to hear it, too."""
        for process in list(self._paused):
            process.paused = False
            self.resume(process)

    # -- trio's clock ----------------------------------------------------------------------------

    def start_clock(self) -> None:
        return None

    def current_time(self) -> float:
        self._readings += 1
        if self._readings > READINGS_MAX:
            self._readings = 0
            self.fail(StandsStill(f"time stands still at {self.now_s:.6f} s: somebody never waits"))
        return self.now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        heap, runnable = self._heap, self._runnable
        try:
            while heap and heap[0][0] <= deadline:
                due_s, _, action, arguments = heapq.heappop(heap)
                if due_s > self.now_s:
                    self.now_s = due_s
                    self._readings = 0
                self.actions += 1
                action(*arguments)
                if runnable and not (heap and heap[0][0] <= self.now_s):
                    return 0.0  # all that comes at this moment has come
        except BaseException as exc:
            self.fail(exc)
            return 0.0
        if deadline < math.inf and deadline > self.now_s:
            self.now_s = deadline
            self._readings = 0
        return 0.0

    # -- running ---------------------------------------------------------------------------------

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run `main` in this world; raises the first failure."""
        scheduler: Any = trio_run
        before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
        scheduler._r.seed(self.seed)
        try:
            with quick():
                trio.run(self._main, main, clock=self, strict_exception_groups=True)
        finally:
            scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
            scheduler._r.setstate(before[1])
        if self.failure is not None:
            raise self.failure

    async def _main(self, main: Callable[[], Awaitable[None]]) -> None:
        runner = trio_run.GLOBAL_RUN_CONTEXT.runner
        queue, runner.runq = runner.runq, self._runnable
        self._runnable.extend(queue)
        events = runner.io_manager
        runner.io_manager = _NoEvents(events)  # type: ignore[assignment]
        self.alone = True
        runner.instruments = {}  # type: ignore[assignment]  # asked five times a step; this is quick
        try:
            with trio.CancelScope() as self._over:
                await main()
        except BaseException as exc:
            self.fail(exc)
        finally:
            self.end()
            self.alone = False
            runner.io_manager = events
