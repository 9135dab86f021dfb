"""Is a component that ended started again, and when?  (Erlang/OTP design principles, "Restart".)

    policy      normal end    abnormal end                  desired to end
    permanent   restart       restart                       end
    transient   end           restart                       end
    temporary   end           end; failed if never ready    end

A restart that is due is refused, and the component has `failed`, when
- it would be one more than `max_restarts` within `within_s` seconds, or follows more than that
  number of starts in a row of which none became available (slow failures
  never fill a short window), or
- the end was fatal: what failed will fail in the same way again (no such command, no such bundle).

The wait before the next incarnation grows with each end that followed no healthy run, one that was
available for `within_s`.  Pure: time and jitter come with the command, so every replica decides the
same.  Reasons are those of the component API: `normal`, `destroyed` and `moved` are ordinary ends,
all others (`exit:<code>`, `signal:<name>`, `out-of-memory`, `node-lost`, …) abnormal ones.

The loss of a node and a planned move say nothing about the component: they do not count, and the
next incarnation need not wait.  What its node was lost with has no next one if it is `temporary`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from paas.controller.lifecycle import ComponentEvent
from paas.controller.limits import RESTART_BACKOFF

NORMAL = "normal"
DESTROYED = "destroyed"
MOVED = "moved"
"""Its node is being emptied."""

NODE_LOST = "node-lost"
NOT_READY = "not-ready"
OUT_OF_MEMORY = "out-of-memory"
START_FAILED = "start-failed:"
EXEC_FAILED = "exec:"

POLICIES = ("permanent", "transient", "temporary")


class Outcome(enum.StrEnum):
    """What follows when nothing of the ended incarnation is left."""

    RESTART = "restart"
    FAIL = "fail"
    END = "end"


EVENTS = {
    Outcome.RESTART: ComponentEvent.RESTART,
    Outcome.FAIL: ComponentEvent.GIVE_UP,
    Outcome.END: ComponentEvent.CLEARED,
}
"""How the state `destroying` is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the manifest, or the request to create, says."""

    restart: str
    max_restarts: int
    within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is remembered of earlier ends.  `ready_ms` is 0 if this incarnation never was ready."""

    ends_ms: Sequence[int] = ()
    attempt: int = 0
    unready: int = 0
    ready_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome; `delay_s` and the new figures of the history."""

    outcome: Outcome
    delay_s: float = 0.0
    ends_ms: tuple[int, ...] = ()
    attempt: int = 0
    unready: int = 0
    gave_up: str = ""
    """For people: why a restart that was due is refused."""


def abnormal(reason: str) -> bool:
    return reason not in (NORMAL, DESTROYED, MOVED)


def after_loss(restart: str, *, wanted: bool) -> Outcome:
    """What follows when the node is lost; nothing of it is left there."""
    return Outcome.RESTART if wanted and restart != "temporary" else Outcome.END


def typed_reason(word: str, *, signal: int | None = None, out_of_memory: bool = False) -> str:
    """The reason of the component API for what the container controller says."""
    if out_of_memory:
        return OUT_OF_MEMORY
    if word == "killed":
        return "signal:SIGKILL"
    if word.startswith(EXEC_FAILED):
        return START_FAILED + word.removeprefix(EXEC_FAILED)
    if not word:
        return f"signal:{signal}" if signal else NODE_LOST
    return word


def fatal(reason: str) -> bool:
    """Would the next start fail in the same way?"""
    return reason.startswith(START_FAILED)


def decide(
    policy: Policy,
    history: History,
    reason: str,
    *,
    wanted: bool,
    is_fatal: bool,
    now_ms: int,
    fraction: float,
) -> Decision:
    """What follows the end of an incarnation; see the table in the module's text."""
    never_ready = history.ready_ms == 0
    if not wanted or not _due(policy.restart, reason):
        gave_up = wanted and policy.restart == "temporary" and never_ready and abnormal(reason)
        return Decision(outcome=Outcome.FAIL if gave_up else Outcome.END)
    healthy = not never_ready and now_ms - history.ready_ms >= policy.within_s * 1000
    attempt = 1 if healthy else history.attempt + 1
    unready = history.unready + 1 if never_ready else 0
    since_ms = now_ms - int(policy.within_s * 1000)
    recent = [end for end in history.ends_ms if end > since_ms]
    refusal = ""
    if is_fatal:
        refusal = "the next start would fail in the same way"
    elif len(recent) >= policy.max_restarts:
        refusal = f"{policy.max_restarts} restarts within {policy.within_s:g} s"
    elif unready > policy.max_restarts:
        refusal = f"{unready} starts in a row without becoming available"
    if refusal:
        return Decision(outcome=Outcome.FAIL, gave_up=refusal)
    return Decision(
        outcome=Outcome.RESTART,
        delay_s=RESTART_BACKOFF.delay_s(attempt, fraction),
        ends_ms=(*recent, now_ms)[-max(policy.max_restarts, 1) :],
        attempt=attempt,
        unready=unready,
    )


def _due(restart: str, reason: str) -> bool:
    return restart == "permanent" or (restart == "transient" and abnormal(reason))
