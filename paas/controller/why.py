"""Why is a component as it is?  The record and the kernel's facts, in sentences for people.  Pure.

Newest first: what it is and why, then how its last incarnation ended with the figures that explain
it, then what follows.  Nothing is guessed: what is not known is not said.
"""

from __future__ import annotations

from typing import Any

from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.restarts import Outcome
from paas.controller.standing import FROZEN

_MIB = 1 << 20


def explain(instance: Instance) -> list[str]:
    """The sentences, the most important one first."""
    return [*_present(instance), *_end(instance.facts), *_follows(instance)]


def _present(instance: Instance) -> list[str]:
    name = instance.name or instance.short
    state = instance.state
    if instance.unplaced:
        return [f"{name} waits for a node: {instance.unplaced.removeprefix('no-placement: ')}"]
    if instance.frozen:
        return [f"{name} is {state}: an operator has frozen it; paas thaw {instance.short}"]
    said = f": {instance.reason}" if instance.reason and instance.reason != FROZEN else ""
    if state in (ComponentState.AVAILABLE, ComponentState.INITIALIZING) and said:
        return [f"{name} is {state}; its last end was{said}"]
    return [f"{name} is {state}{said}"]


def _end(facts: dict[str, Any]) -> list[str]:
    found = []
    if facts.get("oom"):
        text = "the kernel ended"
        text += f" {facts['starved']}" if facts.get("starved") else " a process of it"
        text += ", which wanted more memory than the component may have"
        if limit := facts.get("memory_limit"):
            text += f": the limit is {_size(limit)}"
            if peak := facts.get("memory_peak"):
                text += f", the most that it used {_size(peak)}"
        found.append(text)
    elif (code := facts.get("code")) is not None:
        found.append(f"its main process ended with exit code {code}")
    elif (number := facts.get("signal")) is not None:
        found.append(f"its main process was ended by signal {number}")
    return found


def _follows(instance: Instance) -> list[str]:
    found = []
    if instance.because:
        found.append(f"it fell with {instance.because[:8]}, to which it is linked")
    if instance.gave_up:
        found.append(f"it is not started again: {instance.gave_up}")
    elif instance.state is ComponentState.DESTROYING and instance.outcome is Outcome.RESTART:
        found.append(f"it is started again in {instance.delay_s:.1f} s")
    if instance.restarts:
        times = "once" if instance.restarts == 1 else f"{instance.restarts} times"
        found.append(f"it was started again {times} so far ({instance.restart})")
    if instance.resized:
        changed = ", ".join(f"{name} {value:g}" for name, value in instance.resized.items())
        found.append(f"an operator has changed its limits: {changed}")
    return found


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB"
