"""The end of an incarnation: written down, decided, announced; who falls with it; what follows.

    reported, ordered, node lost ──> exited ──> over (announced once) ──> linked ones fall
                                        └─ decided: restart, give up, end ──> conclude, when
                                                                              nothing is left of it

Part of the section "controller" (state.py).  What follows is decided once, when the end is applied:
by the restart policy (restarts.py), or by what was ordered.  Which linked components fall with it
says links.py.

A node that is lost takes its components' incarnations with it, in the command that says so: each
ends with `node-lost`, and what follows is not left to anybody there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from paas.controller import limits, restarts
from paas.controller.instances import Instance, Instances
from paas.controller.lifecycle import COMPONENT, PRESENT, RUNNING, ComponentEvent, ComponentState
from paas.controller.links import Links
from paas.controller.loads import UNPLACED, Loads
from paas.controller.messages import ComponentEnded
from paas.controller.restarts import Outcome
from paas.raft.machine import Context

_E = ComponentEvent
_S = ComponentState
Move = Callable[[Instance, ComponentEvent, str, Context], None]

assert all(COMPONENT.allows(state, _E.EXITED) for state in PRESENT)


class Records(Protocol):
    """What is read of the section."""

    instances: Instances
    links: Links
    loads: Loads


class Ends:
    """See the module's text.  `move` takes a component along an edge of its life-cycle, `put` says
    which node it is on, `settle` removes what was kept of one that has ended for good."""

    def __init__(
        self,
        state: Records,
        move: Move,
        put: Callable[[Instance, str], None],
        settle: Callable[[Instance, Context], None],
    ) -> None:
        self._state = state
        self._move = move
        self._put = put
        self._settle = settle

    def exited(
        self,
        instance: Instance,
        reason: str,
        facts: dict[str, Any],
        ctx: Context,
        *,
        is_fatal: bool = False,
    ) -> None:
        """An incarnation is over: write down why, what follows, and who falls with it."""
        caused = instance.mode == "linked"
        reason = self._exit_reason(instance, reason)
        if instance.mode == "move" and instance.wanted:
            instance.outcome = Outcome.RESTART
            instance.gave_up = ""
        else:
            self._decide(instance, reason, ctx, is_fatal=is_fatal)
        self._over(instance, reason, facts, ctx)
        if restarts.abnormal(reason) and not caused:
            self._fell(instance, ctx)
        if not instance.node:
            self.conclude(instance, "", ctx, unplace=True)

    @staticmethod
    def _decide(instance: Instance, reason: str, ctx: Context, *, is_fatal: bool) -> None:
        """What follows, by the restart policy."""
        decision = restarts.decide(
            instance.policy,
            restarts.History(
                ends_ms=instance.ends_ms,
                attempt=instance.attempt,
                unready=instance.unready,
                ready_ms=instance.ready_ms,
            ),
            reason,
            wanted=instance.wanted,
            is_fatal=is_fatal,
            now_ms=ctx.stamp.time_ms,
            fraction=ctx.stamp.seed[0] / 256,
        )
        instance.outcome = decision.outcome
        instance.gave_up = decision.gave_up
        if decision.outcome is Outcome.RESTART:
            instance.ends_ms = list(decision.ends_ms)
            instance.attempt = decision.attempt
            instance.unready = decision.unready
            instance.delay_s = decision.delay_s
            instance.not_before_ms = ctx.stamp.time_ms + int(decision.delay_s * 1000)

    def _over(self, instance: Instance, reason: str, facts: dict[str, Any], ctx: Context) -> None:
        """The end of an incarnation, announced once; what follows is decided already."""
        instance.reason = reason
        instance.facts = facts
        instance.endpoints = {}
        ctx.emit(
            ComponentEnded(
                component=instance.id,
                incarnation=instance.incarnation,
                reason=reason,
                will_restart=instance.outcome is Outcome.RESTART,
                because=instance.because,
                index=ctx.index,
                time_ms=ctx.stamp.time_ms,
            )
        )
        self._move(instance, _E.EXITED, reason, ctx)

    def conclude(self, instance: Instance, reason: str, ctx: Context, *, unplace: bool) -> None:
        """Nothing is left of the ended incarnation: now what was decided when it ended."""
        if instance.outcome is Outcome.RESTART:
            instance.restarts += 0 if instance.moving else 1
            instance.incarnation += 1
            instance.ready_ms = 0
            instance.because = ""
            instance.mode = ""
            if unplace:
                self._put(instance, UNPLACED)
        instance.moving = False
        self._move(instance, restarts.EVENTS[instance.outcome], reason or instance.reason, ctx)
        if instance.ended:
            self._settle(instance, ctx)

    @staticmethod
    def _exit_reason(instance: Instance, reason: str) -> str:
        """What was ordered counts, not the signal that carried it out."""
        if instance.mode == "destroy":
            return restarts.DESTROYED
        if instance.mode == "linked":
            return instance.reason
        if instance.mode == "move":
            return restarts.MOVED
        return reason[: limits.REASON_LENGTH_MAX] or restarts.NODE_LOST

    def _fell(self, origin: Instance, ctx: Context) -> None:
        """Those linked to it end for the same reason, nearest first."""
        for component in self._state.links.fallen(origin.id, self._can_fall):
            instance = self._get(component)
            instance.mode = "linked"
            instance.reason = origin.reason
            instance.because = origin.id
            instance.grace_s = limits.LINK_GRACE_S
            if instance.state is _S.PREPARING:
                self.exited(instance, origin.reason, {}, ctx)
            else:
                self._move(instance, _E.STOP, origin.reason, ctx)

    def _can_fall(self, component: str) -> bool:
        instance = self._state.instances.get(component)
        return instance is not None and (
            instance.state in RUNNING or instance.state is _S.PREPARING
        )

    def node_lost(self, node: str, ctx: Context) -> None:
        """Every incarnation there is over, and nobody there has to say that nothing is left."""
        lost = [self._get(component) for component in self._state.loads.on(node)]
        origins = []
        for instance in lost:
            if instance.state in PRESENT:
                if instance.mode != "linked":
                    origins.append(instance)
                self._lose(instance, ctx)
        for instance in origins:  # after all have ended: none of them falls a second time
            self._fell(instance, ctx)
        for instance in lost:
            self.conclude(instance, "", ctx, unplace=True)

    def _lose(self, instance: Instance, ctx: Context) -> None:
        instance.outcome = restarts.after_loss(instance.restart, wanted=instance.wanted)
        instance.gave_up = ""
        instance.because = ""
        self._over(instance, restarts.NODE_LOST, {}, ctx)

    def _get(self, component: str) -> Instance:
        instance = self._state.instances.get(component)
        assert instance is not None, "what is placed or linked is there"
        return instance
