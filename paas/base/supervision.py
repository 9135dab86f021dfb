"""Supervision as data: what a child is, who is restarted with whom, and how often at most.

    restart      permanent: always · transient: after a crash · temporary: never
    strategy     one_for_one: the child alone · one_for_all: every child
                 rest_for_one: the child and those declared after it
    intensity    at most `max_restarts` within any `period_s`

Pure: the time is given, nothing waits.  The tasks are supervisor.py's.
Sources: Erlang/OTP design principles, "Supervisor Behaviour"; style A16.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from paas.base.limits import STOP_TIMEOUT_S_DEFAULT

T = TypeVar("T")


class Restart(enum.StrEnum):
    """When a child that has ended is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"

    def again(self, *, crashed: bool) -> bool:
        """Is a child of this kind started again after it ended so?"""
        return self is Restart.PERMANENT or (self is Restart.TRANSIENT and crashed)


class Strategy(enum.StrEnum):
    """Who is restarted together with a child that has ended."""

    ONE_FOR_ONE = "one-for-one"
    ONE_FOR_ALL = "one-for-all"
    REST_FOR_ONE = "rest-for-one"

    def group(self, ended: T, everyone: Sequence[T]) -> list[T]:
        """Those to restart when `ended` has to be, in the order of their start."""
        match self:
            case Strategy.ONE_FOR_ONE:
                return [ended]
            case Strategy.ONE_FOR_ALL:
                return list(everyone)
            case Strategy.REST_FOR_ONE:
                return list(everyone[everyone.index(ended) :])


class Intensity:
    """A window over the times of restarts."""

    def __init__(self, max_restarts: int, period_s: float) -> None:
        if max_restarts < 0 or period_s <= 0:
            raise ValueError("an intensity needs max_restarts >= 0 and period_s > 0")
        self.max_restarts = max_restarts
        self.period_s = period_s
        self._times: deque[float] = deque()

    def admits(self, now_s: float) -> bool:
        """Note one more restart, or answer False when it would be one too many."""
        times = self._times
        while times and times[0] <= now_s - self.period_s:
            times.popleft()
        if len(times) >= self.max_restarts:
            return False
        times.append(now_s)
        return True


class State(enum.StrEnum):
    """Where a child is."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It ended, and is started when its back-off is over and its siblings are stopped."""
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStatus:
    """One row of `which_children`.  `since_s` is trio's time of the last change of state."""

    name: str
    state: State
    restart: Restart
    restarts: int
    since_s: float
    last_error: str
    inside: tuple[ChildStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What to run and how.

    `run(*, task_status)` calls `task_status.started()` when it is ready.  `stop`, if given, asks it
    to end by itself and must not raise; without it, stopping is cancelling.  `inside` tells the
    children of a child that is itself a supervisor.
    """

    name: str
    run: Callable[..., Awaitable[object]]
    restart: Restart = Restart.PERMANENT
    stop_timeout_s: float = STOP_TIMEOUT_S_DEFAULT
    stop: Callable[[], object] | None = None
    inside: Callable[[], tuple[ChildStatus, ...]] | None = None


class EventKind(enum.StrEnum):
    """What a supervisor announces."""

    STARTED = "started"
    ENDED = "ended"
    CRASHED = "crashed"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    HANGING = "hanging"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened, for the log: crashes have an `error`, restarts a `delay_s`."""

    kind: EventKind
    supervisor: str
    child: str
    attempt: int = 0
    delay_s: float = 0.0
    error: BaseException | None = None


class RestartIntensityExceeded(Exception):
    """Too many restarts in the period: let the level above decide.  The last crash is the cause."""
