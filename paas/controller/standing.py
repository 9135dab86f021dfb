"""What a component that runs lacks of what is wanted of it: other bounds, standing still.

    record: bounds, frozen ──┐
                             ├──> next_step ──> Resize, Freeze, Thaw, Propose pause, or nothing
    container: the same ─────┘

It comes before the other steps of a component that was available (creating.py), and holds over
everything that restarts: whoever keeps it sees what is in force, and does what is missing.  A
component that is wanted frozen is started, becomes available, and is frozen then.  One that is to
end is thawed first: what is frozen hears no signal (ending.py).  Pure.
"""

from __future__ import annotations

from paas.container.messages import Limits
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentEvent, ComponentState
from paas.controller.steps import (
    Container,
    Freeze,
    Observed,
    Propose,
    Resize,
    Step,
    Thaw,
    Wait,
    when_connected,
)

FROZEN = "frozen"
"""Why it is unavailable."""

REFUSALS = frozenset({"invalid", "unsupported", "conflict"})
"""Errors of a resize that come again with every try."""

_STANDING = frozenset({ComponentState.AVAILABLE, ComponentState.UNAVAILABLE})


def next_step(instance: Instance, wanted: Limits, seen: Observed) -> Step | None:
    """The next step, or None when nothing of this has to be done."""
    if (
        instance.state not in _STANDING
        or seen.container is not Container.RUNNING
        or seen.container_incarnation != instance.incarnation
    ):
        return None
    if seen.limits is not None and seen.limits != wanted and seen.refused != wanted:
        return when_connected(seen, Resize(wanted))
    if instance.frozen:
        if instance.state is ComponentState.AVAILABLE:
            return Propose(event=ComponentEvent.PAUSE, reason=FROZEN)
        return Wait() if seen.frozen else when_connected(seen, Freeze())
    return when_connected(seen, Thaw()) if seen.frozen else None
