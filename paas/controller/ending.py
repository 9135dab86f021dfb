"""From wanted to end to nothing left: the escalation, and the removal.

    leaving      nothing, until it is stopped by who acknowledges, or its time is over
    stopping     terminate: it has agreed, and gets its time ── over ──┐
                 destroy, linked: AskStop (signal, grace, force by the harness) <──┘
                     ── grace and a margin over, or no harness to ask ──> Kill
    destroying   Clear, then what the cluster state has decided: restart, failed, destroyed

A component that has ended for good, is forgotten, or is on another node by now leaves nothing here:
what there is of it is removed (`remove_rest`).

None of it can be refused; only the question before (`terminate`) can.  Nothing is `destroyed`
before the container controller has said that nothing is left.  Platform document §4.7.3, "destroy".
"""

from __future__ import annotations

from paas.controller import limits
from paas.controller.departures import reason_of
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentEvent, ComponentState
from paas.controller.restarts import EVENTS
from paas.controller.steps import (
    AskStop,
    Clear,
    Container,
    Done,
    Inspect,
    Kill,
    Observed,
    Propose,
    Step,
    Thaw,
    Wait,
    exited,
    when_connected,
)


def next_step(instance: Instance, seen: Observed, now_s: float) -> Step:
    """The next step for a component in stopping, destroying, destroyed or failed, that is here."""
    if instance.state is ComponentState.STOPPING:
        return _stopping(instance, seen, now_s)
    if instance.state is ComponentState.DESTROYING:
        if seen.container is not Container.ABSENT:
            return when_connected(seen, Clear())
        return Propose(event=EVENTS[instance.outcome])
    return remove_rest(seen)


def leaving(instance: Instance, seen: Observed, now_s: float, over_s: float) -> Step:
    """The next step of one whose departure ends at `over_s`, if nobody ends it before."""
    if seen.container is Container.UNKNOWN:
        return when_connected(seen, Inspect())
    if (
        seen.container is not Container.RUNNING
        or seen.container_incarnation != instance.incarnation
    ):
        return exited(seen)
    over_s += limits.DEPARTURE_MARGIN_S
    if now_s < over_s:
        return Wait(over_s)
    if instance.mode:
        return Propose(event=ComponentEvent.STOP, reason=reason_of(instance))
    # Nobody has said what came of the question whether it will end.
    asked_s = over_s + limits.TERMINATE_PATIENCE_S
    return Wait(asked_s) if now_s < asked_s else Propose(event=ComponentEvent.STAY)


def remove_rest(seen: Observed) -> Step:
    """The next step where nothing of the component should be (any more)."""
    return Done() if seen.container is Container.ABSENT else when_connected(seen, Clear())


def _stopping(instance: Instance, seen: Observed, now_s: float) -> Step:
    if seen.container is Container.UNKNOWN:
        return when_connected(seen, Inspect())
    if (
        seen.container is not Container.RUNNING
        or seen.container_incarnation != instance.incarnation
    ):
        return exited(seen)
    if seen.frozen:
        return when_connected(seen, Thaw())
    if seen.killed_s is not None:
        again_s = seen.killed_s + limits.READY_MARGIN_S
        return Wait(again_s) if now_s < again_s else when_connected(seen, Kill())
    if instance.mode == "terminate":
        patience_s = seen.state_since_s + limits.TERMINATE_PATIENCE_S
        if now_s < patience_s:
            return Wait(patience_s)
    if seen.stop_sent_s is None or instance.grace_s < seen.stop_grace_s:
        return _ask(instance, seen, now_s)
    force_s = seen.stop_sent_s + seen.stop_grace_s + limits.STOP_MARGIN_S
    return Wait(force_s) if now_s < force_s else when_connected(seen, Kill())


def _ask(instance: Instance, seen: Observed, now_s: float) -> Step:
    if seen.attached:
        return AskStop(instance.grace_s)
    since_s = seen.stop_sent_s if seen.stop_sent_s is not None else seen.state_since_s
    if instance.mode == "terminate":
        since_s += limits.TERMINATE_PATIENCE_S
    silent_s = since_s + limits.HARNESS_WAIT_S
    return Wait(silent_s) if now_s < silent_s else when_connected(seen, Kill())
