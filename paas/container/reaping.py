"""Why did it end?  From the harness's last words, the kernel's facts, and nothing else.

Pure.  The harness writes one JSON object when its component has ended.  When it could not (killed
with its whole container, out of memory itself, a bug), the exit status of pid 1 is what there is;
after a restart of the controller not even that.  The control group knows whether the kernel killed
for want of memory, which the exit status alone cannot tell from any other SIGKILL.  What is killed
while the node's lease has ended was ended by the fence; what had its last words before kept them.
"""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass

import msgspec

from paas.container.messages import Exited

_FENCED = "node-lost"
"""Reason of what was ended with the node's lease: the others take the node for lost too."""

_SHELL_KILLED = 128 + 9
"""Exit code of a shell whose program was killed."""


class LastWords(msgspec.Struct, frozen=True):
    """The content of the exit file."""

    code: int | None = None
    signal: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """How pid 1 itself ended; exactly one is set."""

    code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class EndFacts:
    """All that is known of one end."""

    exit_file: bytes
    wait: WaitStatus | None
    component_memory_kills: int
    harness_memory_kills: int
    harness_log: str
    time_ms: int
    fenced: bool = False
    """It ended while the node had no right to run anything."""
    memory_limit_bytes: int = 0
    memory_peak_bytes: int = 0
    victim: str = ""
    """Whom the kernel says that it ended for want of memory."""


def read_last_words(exit_file: bytes) -> LastWords | None:
    """What the harness wrote, or None if that is not a complete, sensible object."""
    try:
        words = msgspec.json.decode(exit_file, type=LastWords)
    except msgspec.DecodeError:
        return None
    if words.code is None and words.signal is None and not words.reason:
        return None
    return words


def signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return str(number)


def judge(component: str, incarnation: int, facts: EndFacts) -> Exited:
    """The one description of the end that everybody else is given."""
    words = read_last_words(facts.exit_file)
    if words is not None:
        starved = facts.component_memory_kills > 0
        killed = words.signal == signals.SIGKILL or words.code == _SHELL_KILLED
        code, number = words.code, words.signal
        reason = "out-of-memory" if starved and killed else words.reason or _reason(code, number)
        if facts.fenced and killed:
            reason = _FENCED
    else:
        starved = facts.component_memory_kills + facts.harness_memory_kills > 0
        code = number = None
        if facts.fenced:
            reason = _FENCED
        elif facts.harness_memory_kills:
            reason = "harness:out-of-memory"
        elif facts.wait is None:
            reason = "harness:gone"
        elif facts.wait.signal == signals.SIGKILL:
            number, reason = int(signals.SIGKILL), "signal:SIGKILL"
        else:
            reason = f"harness:{_reason(facts.wait.code, facts.wait.signal)}"
    return Exited(
        component=component,
        incarnation=incarnation,
        reason=reason,
        code=code,
        signal=number,
        out_of_memory=starved,
        time_ms=facts.time_ms,
        harness_log=facts.harness_log,
        memory_limit_bytes=facts.memory_limit_bytes,
        memory_peak_bytes=facts.memory_peak_bytes,
        starved=_starved(facts, words) if starved else "",
    )


def _starved(facts: EndFacts, words: LastWords | None) -> str:
    """Whom the kernel ended for want of memory, as far as the facts tell."""
    if facts.victim:
        return facts.victim
    if facts.harness_memory_kills:
        return "harness"
    if words is not None and words.signal == signals.SIGKILL:
        return "main process"
    return "another process of the component"


def _reason(code: int | None, number: int | None) -> str:
    if number is not None:
        return f"signal:{signal_name(number)}"
    return "normal" if code == 0 else f"exit:{code}"
