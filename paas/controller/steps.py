"""What to do next for one component: data in, one step out.

    record in the cluster state ──┐
                                  ├──> next_step ──> Start, Propose, AskStop, Kill, Clear, Wait, …
    what is observed on the node ─┘

There is no script that runs from begin to end and would have to be continued after a crash: at each
moment the next step follows from what is written and what is seen.  So the first start, the restart
of the hub, the loss of the container controller and a destroy in the middle of a start all take
the same path.  The steps of a start are in creating.py, those of an end in ending.py.

Times here are those of a monotonic clock, in seconds.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from paas.container.messages import Limits
from paas.controller.lifecycle import ComponentEvent
from paas.controller.ports import ExitFacts, Started
from paas.controller.restarts import NODE_LOST, NOT_READY, fatal, typed_reason


class Container(enum.StrEnum):
    """What is known of the container of a component."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    RUNNING = "running"
    ENDED = "ended"
    """It ended, or was made in part; it has to be removed."""


@dataclass(slots=True)
class Observed:
    """What one keeper sees of its component.  Volatile: after a restart it is seen again."""

    container: Container = Container.UNKNOWN
    container_incarnation: int = 0
    started: Started | None = None
    exit: ExitFacts | None = None
    connected: bool = False
    """Does the container controller answer, and has its list been compared with ours?"""
    attached: bool = False
    phase: str = ""
    phase_reason: str = ""
    was_ready: bool = False
    """Has this incarnation ever said that it is available?"""
    start_error: str = ""
    start_fatal: bool = False
    not_before_s: float = 0.0
    running_since_s: float = 0.0
    state_since_s: float = 0.0
    stop_sent_s: float | None = None
    stop_grace_s: float = math.inf
    killed_s: float | None = None
    kill_reason: str = ""
    frozen: bool = False
    limits: Limits | None = None
    """The bounds in force, where they are known."""
    refused: Limits | None = None
    """Bounds that this container cannot be given."""

    def begin(self, now_s: float, delay_s: float) -> None:
        """A new incarnation: nothing is known of its harness, nothing was asked of it yet."""
        self.started = self.exit = None
        self.attached = self.was_ready = False
        self.phase = self.phase_reason = self.start_error = self.kill_reason = ""
        self.start_fatal = self.frozen = False
        self.limits = self.refused = None
        self.stop_sent_s = self.killed_s = None
        self.stop_grace_s = math.inf
        self.not_before_s = now_s + delay_s

    def hears(self, phase: str, reason: str) -> None:
        """What the harness says."""
        self.phase, self.phase_reason = phase, reason
        self.was_ready = self.was_ready or phase == "available"

    def exit_reason(self) -> str:
        """Why this incarnation ended, in the words of the component API."""
        if self.start_error:
            return self.start_error
        if self.exit is None:
            return self.kill_reason or NODE_LOST
        if self.kill_reason == NOT_READY:
            return NOT_READY
        facts = self.exit
        return typed_reason(facts.reason, signal=facts.signal, out_of_memory=facts.oom)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this time, or before something changes."""

    until_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Start:
    """Have the container started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Write down that this happened."""

    event: ComponentEvent
    reason: str = ""
    endpoints: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class AskStop:
    """Have the harness stop the component."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """Have the container controller end everything in the container at once."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resize:
    """Have the container controller put other bounds in force."""

    limits: Limits


@dataclass(frozen=True, slots=True)
class Freeze:
    """Have everything of the component stopped where it is."""


@dataclass(frozen=True, slots=True)
class Thaw:
    """Have it go on."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Have the container controller remove what is left."""


@dataclass(frozen=True, slots=True)
class Inspect:
    """It is not known what runs: ask."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing will ever have to be done again."""


Step: TypeAlias = (
    Wait | Start | Propose | AskStop | Kill | Resize | Freeze | Thaw | Clear | Inspect | Done
)


_OOM_FACTS = ("memory_limit", "memory_peak", "starved")


def exited(seen: Observed) -> Propose:
    """The incarnation is over."""
    facts: dict[str, Any] = {}
    if seen.exit is not None:
        kept = {"code": seen.exit.code, "signal": seen.exit.signal, "time_ms": seen.exit.time_ms}
        facts = {key: value for key, value in kept.items() if value is not None}
        if seen.exit.oom:
            facts["oom"] = True
            more = {name: getattr(seen.exit, name) for name in _OOM_FACTS}
            facts |= {name: value for name, value in more.items() if value}
    reason = seen.exit_reason()
    return Propose(
        event=ComponentEvent.EXITED,
        reason=reason,
        facts=facts,
        fatal=seen.start_fatal if seen.start_error else fatal(reason),
    )


def when_connected(seen: Observed, step: Step) -> Step:
    """What needs the container controller waits for it; running components do not mind."""
    return step if seen.connected else Wait()
