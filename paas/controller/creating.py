"""From accepted to available, and staying so: steps of a component that is wanted to run.

    preparing ──Start──> container runs ──phase available──> Propose ready
        │ fails               │ ends            │ slow: Propose started (initializing)
        v                     v                 v not ready in time: Kill
     Propose exited      Propose exited      … Propose exited (not-ready)

Each failure ends the incarnation; what follows is decided by the cluster state (restarts.py).  The
undo of a start is that of any end: the container is removed (ending.py, `destroying`), which works
whether it was started, half started, or not at all.  A `ready` that was seen before an ordinary end
is written first, so that a job that is done at once was available, if briefly.

Platform document §4.6.3, §4.7.3.
"""

from __future__ import annotations

from paas.bundle.manifest import Manifest
from paas.container.messages import VolumeMount
from paas.controller import limits
from paas.controller.bounds import container_limits
from paas.controller.component_types import ComponentType
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentEvent, ComponentState
from paas.controller.ports import StartOrder
from paas.controller.restarts import NORMAL, NOT_READY
from paas.controller.steps import (
    Clear,
    Container,
    Inspect,
    Kill,
    Observed,
    Propose,
    Start,
    Step,
    Wait,
    exited,
    when_connected,
)

_S = ComponentState

FATAL_CODES = frozenset({"invalid", "no-such-bundle", "corrupt", "untrusted", "unsupported"})
"""Errors of a start that come again with every try."""

AWAY_CODES = frozenset({"not-available", "unavailable"})
"""The container controller was not asked."""

DOUBT_CODES = frozenset({"unknown-outcome"})
"""It was asked, and the answer was lost."""


def start_order(
    instance: Instance,
    kind: ComponentType,
    manifest: Manifest,
    volumes: tuple[VolumeMount, ...] = (),
) -> StartOrder:
    """What the container controller is told."""
    return StartOrder(
        component=instance.id,
        incarnation=instance.incarnation,
        bundle=kind.bundle,
        command=manifest.component.command,
        base=manifest.component.base,
        protocol=manifest.component.protocol,
        environment=manifest.environment,
        configuration=instance.configuration,
        endpoints={name: end.protocol for name, end in manifest.endpoints.items()},
        limits=container_limits(manifest, instance.resized),
        ready_timeout_s=manifest.supervision.ready_timeout,
        stop_grace_s=manifest.supervision.stop_timeout,
        hostname=host_name(instance),
        volumes=volumes,
        capabilities=manifest.component.capabilities,
        egress=manifest.egress.allow,
        published={n: end.publish for n, end in manifest.endpoints.items() if end.publish},
        backend=manifest.component.backend,
    )


def host_name(instance: Instance) -> str:
    """The component's name if it has one, else the first digits of its id; valid as a host name."""
    name = instance.name.lower().replace("_", "-").replace(".", "-").strip("-")
    return name or instance.short


def next_step(instance: Instance, ready_timeout_s: float, seen: Observed, now_s: float) -> Step:
    """The next step for a component in preparing, initializing, available or unavailable."""
    if seen.container is Container.UNKNOWN:
        return when_connected(seen, Inspect())
    if seen.container is Container.ABSENT:
        return _without_container(instance, seen, now_s)
    if seen.container_incarnation != instance.incarnation:
        return when_connected(seen, Clear())
    if seen.container is Container.ENDED:
        if seen.was_ready and not instance.ready_ms and seen.exit_reason() == NORMAL:
            return _ready(seen)
        return exited(seen)
    return _running(instance, ready_timeout_s, seen, now_s)


def _without_container(instance: Instance, seen: Observed, now_s: float) -> Step:
    ended = seen.exit is not None and seen.exit.incarnation == instance.incarnation
    if instance.state is not _S.PREPARING or seen.start_error or ended:
        return exited(seen)
    if now_s < seen.not_before_s:
        return Wait(seen.not_before_s)
    return when_connected(seen, Start())


def _running(instance: Instance, ready_timeout_s: float, seen: Observed, now_s: float) -> Step:
    state = instance.state
    if seen.phase == "available":
        return Wait() if state is _S.AVAILABLE else _ready(seen)
    if state is _S.AVAILABLE and seen.phase == "unavailable":
        return Propose(event=ComponentEvent.PAUSE, reason=seen.phase_reason)
    if state in (_S.AVAILABLE, _S.UNAVAILABLE):
        return Wait()
    late_s = seen.running_since_s + ready_timeout_s + limits.READY_MARGIN_S
    if now_s >= late_s:
        if seen.killed_s is None or now_s >= seen.killed_s + limits.READY_MARGIN_S:
            return when_connected(seen, Kill(NOT_READY))
        return Wait(seen.killed_s + limits.READY_MARGIN_S)
    slow_s = seen.running_since_s + limits.INITIALIZING_AFTER_S
    if state is _S.PREPARING and now_s >= slow_s:
        return Propose(event=ComponentEvent.STARTED)
    return Wait(slow_s if state is _S.PREPARING else late_s)


def _ready(seen: Observed) -> Step:
    endpoints = None if seen.started is None else dict(seen.started.endpoints)
    return Propose(event=ComponentEvent.READY, endpoints=endpoints)
