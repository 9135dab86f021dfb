"""Departures: a component that is to end in order first leaves those who send to it.

    order (end with grace, move) ──> leaving: {gateways, until} ──all acknowledged, or over──> stop
    asked whether it will end    ──> leaving, no order yet ──agreed──> stop
                                                           └─refused─> available again

Part of the section "controller" (state.py).  While it leaves, groups give the component nothing new
(hub/router.py), and the gateways that follow a route to it let what they had sent be answered
(docs/internals/world/gateway.md).  Who that is says the section "gateway", once, in the command
that begins the departure; a gateway whose incarnation ends is waited for no more.  Times are
bounds: at `until_ms` the keeper goes on whoever has acknowledged.  An end without grace, a crash,
the loss of a node have no departure.

Invariants
  - There is a record exactly while the component is `leaving`, of its present incarnation.
  - `waiting` only shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.controller import commands, limits, restarts
from paas.controller.instances import Instance, Instances
from paas.controller.lifecycle import ComponentEvent, ComponentState
from paas.controller.messages import ComponentChanged, ComponentEnded, DepartureChanged
from paas.raft.machine import Context

_E = ComponentEvent
_S = ComponentState
Move = Callable[[Instance, ComponentEvent, str, Context], None]

_MAY_LEAVE = frozenset({_S.AVAILABLE, _S.UNAVAILABLE})


class Records(Protocol):
    """What is read of the section."""

    instances: Instances


class Departure(msgspec.Struct, kw_only=True):
    """One component that leaves.  Times in milliseconds since the Unix epoch."""

    incarnation: int
    since_ms: int
    until_ms: int
    waiting: list[str]
    """Gateways that have not acknowledged, in order."""


class Departures:
    """See the module's text.  `move` takes a component along an edge of its life-cycle."""

    def __init__(self, state: Records, move: Move) -> None:
        self._state = state
        self._move = move
        self._all: dict[str, Departure] = {}
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            commands.BeginDeparture: self._begin,
            commands.AcknowledgeDeparture: self._acknowledge,
        }

    @property
    def leaving(self) -> Mapping[str, Departure]:
        """Component to departure; always the same mapping."""
        return self._all

    # -- orders ----------------------------------------------------------------------------------

    def stop(self, instance: Instance, reason: str, ctx: Context) -> None:
        """It was ordered to end or to move: at once, or when those who send to it have let go."""
        known = self._all.get(instance.id)
        orderly = instance.grace_s > 0 and instance.mode != "terminate"
        if known is not None:
            if not orderly or not known.waiting:
                self._move(instance, _E.STOP, reason, ctx)
        elif not (orderly and self._leave(instance, limits.DEPARTURE_S_MAX, reason, ctx)):
            self._move(instance, _E.STOP, reason, ctx)

    def _leave(self, instance: Instance, most_s: float, reason: str, ctx: Context) -> bool:
        """Begin, if there is anybody to wait for."""
        gateway = ctx.sections.get("gateway")
        if gateway is None or instance.state not in _MAY_LEAVE or instance.frozen:
            return False
        waiting, drain_s = gateway.departure(instance.id, ctx.sections)
        if not waiting:
            return False
        self._all[instance.id] = Departure(
            incarnation=instance.incarnation,
            since_ms=ctx.stamp.time_ms,
            until_ms=ctx.stamp.time_ms + int(min(drain_s, most_s) * 1000),
            waiting=waiting,
        )
        self._move(instance, _E.LEAVE, reason, ctx)
        return True

    def _begin(self, cmd: commands.BeginDeparture, ctx: Context) -> dict[str, Any]:
        """Before a component is asked whether it will end."""
        instance = self._state.instances.get(cmd.component)
        if instance is None or instance.incarnation != cmd.incarnation:
            raise PlatformError("conflict", f"{cmd.component[:8]} is another incarnation by now")
        known = instance.id in self._all
        left = known or self._leave(instance, cmd.drain_s, "", ctx)
        return {"leaving": left}

    # -- acknowledgements ------------------------------------------------------------------------

    def _acknowledge(self, cmd: commands.AcknowledgeDeparture, ctx: Context) -> dict[str, Any]:
        departure = self._all.get(cmd.component)
        if departure is not None and departure.incarnation == cmd.incarnation:
            self._let_go(cmd.component, departure, cmd.gateway, ctx)
        return {}

    def _let_go(self, component: str, departure: Departure, gateway: str, ctx: Context) -> None:
        if gateway not in departure.waiting:
            return
        departure.waiting.remove(gateway)
        ctx.emit(DepartureChanged(component=component, waiting=len(departure.waiting)))
        instance = self._state.instances.get(component)
        if not departure.waiting and instance is not None and instance.mode:
            self._move(instance, _E.STOP, reason_of(instance), ctx)

    def react(self, event: Any, ctx: Context) -> None:
        """Whoever leaves is in another state; or a gateway has ended."""
        if isinstance(event, ComponentChanged):
            if event.previous == _S.LEAVING:
                self._all.pop(event.component, None)
        elif isinstance(event, ComponentEnded) and self._all:
            for component, departure in list(self._all.items()):
                self._let_go(component, departure, event.component, ctx)

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return {c: msgspec.to_builtins(self._all[c]) for c in sorted(self._all)}

    def restore(self, plain: Any) -> None:
        self._all.clear()
        self._all.update(msgspec.convert(plain, dict[str, Departure]))


def reason_of(instance: Instance) -> str:
    """Why it is stopped after its departure."""
    return restarts.MOVED if instance.mode == "move" else restarts.DESTROYED


def is_ordered(instance: Instance, event: ComponentEvent) -> bool:
    """Is this event none that the keeper may bring about by itself?

    At the end of a departure it may: stop who was ordered to, keep who was only asked.
    """
    leaving = instance.state is _S.LEAVING
    if event is _E.STOP:
        return not (leaving and instance.mode)
    if event is _E.STAY:
        return not (leaving and not instance.mode)
    return event in (_E.CREATE, _E.LEAVE)
