"""The section "controller" of the cluster state: types, instances, links (architecture, rule 4).

Commands (commands.py) are applied here, in the order of the log, by functions of nothing but the
state, the command and its stamp.  A command that may not be (illegal transition, taken name, …)
raises before it has changed anything; the error is its result, on every replica the same.

What follows an end is decided here and nowhere else, once, when `exited` is applied: restart after
a wait, give up, or end for good (restarts.py); and which linked components fall with it (links.py).
So the verdict survives the agent that has to execute it.  The agents only report what happened and
execute what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paas.base.errors import PlatformError, invalid
from paas.bundle.manifest import from_plain
from paas.controller import commands, limits, restarts
from paas.controller.component_types import ComponentType, ComponentTypes
from paas.controller.instances import Instance, Instances, check_name, derived_id, names_for
from paas.controller.lifecycle import COMPONENT, PRESENT, RUNNING, ComponentEvent, ComponentState
from paas.controller.links import Links
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentEnded,
    ComponentForgotten,
    ComponentOrdered,
    TypeRegistered,
    TypeUnregistered,
)
from paas.controller.restarts import Outcome
from paas.raft.machine import Context

_E = ComponentEvent
_S = ComponentState


class ControllerState:
    """See the module's text.  Everybody reads `types`, `instances`, `links`; only this writes."""

    name = "controller"

    def __init__(self) -> None:
        self.types = ComponentTypes()
        self.instances = Instances()
        self.links = Links()
        self._requests: dict[str, list[str]] = {}  # request -> ids, oldest first
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            commands.RegisterType: self._register_type,
            commands.UnregisterType: self._unregister_type,
            commands.CreateInstances: self._create,
            commands.ChangeInstance: self._change,
            commands.EndInstance: self._end,
            commands.LinkInstances: self._link,
            commands.UnlinkInstances: self._unlink,
            commands.ForgetInstance: self._forget,
        }

    def react(self, event: Any, ctx: Any) -> None:
        """Nothing that other sections announce changes this one."""

    # -- types -----------------------------------------------------------------------------------

    def _register_type(self, cmd: commands.RegisterType, ctx: Context) -> dict[str, Any]:
        manifest = from_plain(cmd.manifest)
        known = self.types.check_new(manifest, cmd.bundle)
        if known is None:
            kind = ComponentType(
                name=manifest.component.name,
                version=manifest.component.version,
                bundle=cmd.bundle,
                manifest=manifest.to_plain(),
                index=ctx.index,
                since_ms=ctx.stamp.time_ms,
                registered_by=cmd.registered_by,
            )
            self.types.add(kind)
            ctx.emit(TypeRegistered(type=kind.full_name, bundle=kind.bundle))
        return {"type": manifest.type_name}

    def _unregister_type(self, cmd: commands.UnregisterType, ctx: Context) -> dict[str, Any]:
        kind = self.types.resolve(cmd.type)
        count = self.instances.of_type(kind.full_name)
        if count:
            raise PlatformError(
                "conflict",
                f"{count} components of {kind.full_name} exist",
                hint=f"list them: paas ps --type {kind.full_name}",
                components=count,
            )
        self.types.remove(kind.full_name)
        ctx.emit(TypeUnregistered(type=kind.full_name, bundle=kind.bundle))
        return {}

    # -- creating --------------------------------------------------------------------------------

    def _create(self, cmd: commands.CreateInstances, ctx: Context) -> dict[str, Any]:
        kind = self.types.resolve(cmd.type)
        request = f"{cmd.created_by}/{cmd.request_id}" if cmd.request_id else ""
        if request in self._requests:
            return {"components": list(self._requests[request]), "repeated": True}
        self._create_check(cmd)
        names = names_for(cmd.name, len(cmd.nodes))
        self._check_names(names)
        created: list[str] = []
        counter = 0
        for name, node in zip(names, cmd.nodes, strict=True):
            component = derived_id(kind.full_name, ctx.stamp.seed, counter)
            while component in self.instances:
                counter += 1
                component = derived_id(kind.full_name, ctx.stamp.seed, counter)
            counter += 1
            self._create_one(component, name, node, kind, cmd, ctx)
            created.append(component)
        if request:
            self._requests[request] = created
            while len(self._requests) > limits.REQUESTS_KEPT_MAX:
                del self._requests[next(iter(self._requests))]
        self._sweep(ctx)
        return {"components": list(created), "repeated": False}

    def _create_check(self, cmd: commands.CreateInstances) -> None:
        if not 1 <= len(cmd.nodes) <= limits.CREATE_COUNT_MAX:
            raise invalid("count", f"expected 1 to {limits.CREATE_COUNT_MAX}", param="count")
        if cmd.restart and cmd.restart not in restarts.POLICIES:
            raise invalid("restart", f"expected one of {', '.join(restarts.POLICIES)}")
        if self.instances.living() + len(cmd.nodes) > limits.COMPONENTS_MAX:
            raise PlatformError(
                "limit-exceeded", f"a cluster has {limits.COMPONENTS_MAX} components at most"
            )
        for peer in cmd.links:
            instance = self._living(peer)
            if self.links.count(instance.id) + len(cmd.nodes) > limits.LINKS_OF_COMPONENT_MAX:
                raise _too_many_links(instance)

    def _check_names(self, names: list[str]) -> None:
        for name in filter(None, names):
            check_name(name)
            holder = self.instances.holder(name)
            if holder is not None:
                raise PlatformError(
                    "conflict",
                    f"the name {name!r} belongs to {holder[:8]}",
                    hint="choose another name, or destroy that component",
                    name=name,
                    component=holder,
                )

    def _create_one(
        self,
        component: str,
        name: str,
        node: str,
        kind: ComponentType,
        cmd: commands.CreateInstances,
        ctx: Context,
    ) -> None:
        policy = kind.policy(cmd.restart)
        instance = Instance(
            id=component,
            type=kind.full_name,
            name=name,
            node=node,
            created_ms=ctx.stamp.time_ms,
            since_ms=ctx.stamp.time_ms,
            created_by=cmd.created_by,
            restart=policy.restart,
            max_restarts=policy.max_restarts,
            within_s=policy.within_s,
            configuration=cmd.configuration,
            groups=list(cmd.groups),
            constraints=list(cmd.constraints),
        )
        self.instances.add(instance)
        for peer in cmd.links:
            self.links.add(component, peer)
        ctx.emit(
            ComponentCreated(
                component=component,
                name=name,
                type=kind.full_name,
                node=node,
                groups=list(cmd.groups),
                created_by=cmd.created_by,
                index=ctx.index,
                time_ms=ctx.stamp.time_ms,
            )
        )
        self._move(instance, _E.CREATE, "", ctx)

    # -- changing --------------------------------------------------------------------------------

    def _change(self, cmd: commands.ChangeInstance, ctx: Context) -> dict[str, Any]:
        instance = self._get(cmd.component)
        event = _event(cmd.event)
        if cmd.incarnation != instance.incarnation or (
            cmd.expected and cmd.expected != instance.state
        ):
            raise _moved_on(instance)
        if event in (_E.CREATE, _E.STOP) or not COMPONENT.allows(instance.state, event):
            raise PlatformError(
                "conflict",
                f"{event} is not possible: {instance.short} is {instance.state}",
                state=str(instance.state),
                incarnation=instance.incarnation,
            )
        if instance.state is _S.DESTROYING and event is not restarts.EVENTS[instance.outcome]:
            raise PlatformError(
                "conflict", f"{instance.short} is to {instance.outcome}", state=str(instance.state)
            )
        if event is _E.EXITED:
            self._exited(instance, cmd.reason, cmd.facts, ctx, is_fatal=cmd.fatal)
        else:
            if event is _E.READY:
                self._ready(instance, cmd, ctx)
            elif event is _E.RESTART:
                instance.incarnation += 1
                instance.restarts += 1
                instance.ready_ms = 0
                instance.because = ""
                instance.mode = ""
            reason = cmd.reason[: limits.REASON_LENGTH_MAX]
            if event is _E.PAUSE:
                instance.reason = reason
            self._move(instance, event, reason or instance.reason, ctx)
        if instance.ended:
            self._settle(instance, ctx)
        return {"state": str(instance.state), "incarnation": instance.incarnation}

    def _ready(self, instance: Instance, cmd: commands.ChangeInstance, ctx: Context) -> None:
        if cmd.endpoints is not None:
            instance.endpoints = cmd.endpoints
        instance.ready_ms = instance.ready_ms or ctx.stamp.time_ms
        instance.ready_once = True

    def _exited(
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
        instance.reason = reason = self._exit_reason(instance, reason)
        instance.facts = facts
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
        instance.endpoints = {}
        ctx.emit(
            ComponentEnded(
                component=instance.id,
                incarnation=instance.incarnation,
                reason=reason,
                will_restart=decision.outcome is Outcome.RESTART,
                because=instance.because,
                index=ctx.index,
                time_ms=ctx.stamp.time_ms,
            )
        )
        self._move(instance, _E.EXITED, reason, ctx)
        if restarts.abnormal(reason) and not caused:
            self._fell(instance, ctx)

    @staticmethod
    def _exit_reason(instance: Instance, reason: str) -> str:
        """What was ordered counts, not the signal that carried it out."""
        if instance.mode == "destroy":
            return restarts.DESTROYED
        if instance.mode == "linked":
            return instance.reason
        return reason[: limits.REASON_LENGTH_MAX] or restarts.NODE_LOST

    def _fell(self, origin: Instance, ctx: Context) -> None:
        """Those linked to it end for the same reason, nearest first."""
        for component in self.links.fallen(origin.id, self._can_fall):
            instance = self._get(component)
            instance.mode = "linked"
            instance.reason = origin.reason
            instance.because = origin.id
            instance.grace_s = limits.LINK_GRACE_S
            if instance.state is _S.PREPARING:
                self._exited(instance, origin.reason, {}, ctx)
            else:
                self._move(instance, _E.STOP, origin.reason, ctx)

    def _can_fall(self, component: str) -> bool:
        instance = self.instances.get(component)
        return instance is not None and (
            instance.state in RUNNING or instance.state is _S.PREPARING
        )

    def _move(self, instance: Instance, event: ComponentEvent, reason: str, ctx: Context) -> None:
        previous = instance.state
        instance.state = COMPONENT.next(previous, event)
        instance.since_ms = ctx.stamp.time_ms
        ctx.emit(
            ComponentChanged(
                component=instance.id,
                incarnation=instance.incarnation,
                state=str(instance.state),
                previous=str(previous),
                reason=reason,
                index=ctx.index,
                time_ms=ctx.stamp.time_ms,
            )
        )

    # -- ending ----------------------------------------------------------------------------------

    def _end(self, cmd: commands.EndInstance, ctx: Context) -> dict[str, Any]:
        instance = self._get(cmd.component)
        if cmd.mode not in ("destroy", "terminate"):
            raise invalid("mode", "expected destroy or terminate")
        if not 0 <= cmd.grace_s <= limits.GRACE_S_MAX:
            raise invalid("grace", f"expected 0 to {limits.GRACE_S_MAX:.0f} seconds", param="grace")
        if instance.state is _S.FAILED:
            self._move(instance, _E.CLEARED, instance.reason, ctx)
        elif instance.state is not _S.DESTROYED:
            self._end_living(instance, cmd, ctx)
        return {"state": str(instance.state), "incarnation": instance.incarnation}

    def _end_living(self, instance: Instance, cmd: commands.EndInstance, ctx: Context) -> None:
        forced = instance.mode in ("destroy", "linked")
        instance.grace_s = min(cmd.grace_s, instance.grace_s) if forced else cmd.grace_s
        instance.wanted = False
        if cmd.mode == "destroy" or not forced:
            instance.mode = cmd.mode
        ctx.emit(
            ComponentOrdered(component=instance.id, mode=instance.mode, grace_s=instance.grace_s)
        )
        if instance.state in RUNNING:
            self._move(instance, _E.STOP, restarts.DESTROYED, ctx)
        elif instance.state is _S.PREPARING:
            # Nothing runs, or is just being started: the incarnation ends before it began.
            self._exited(instance, restarts.DESTROYED, {}, ctx)
        elif instance.state is _S.DESTROYING:
            instance.outcome = Outcome.END

    def _settle(self, instance: Instance, ctx: Context) -> None:
        """It has ended for good."""
        self.links.drop(instance.id)
        self.instances.end(instance)
        self._sweep(ctx)

    def _sweep(self, ctx: Context) -> None:
        for instance in self.instances.overdue(ctx.stamp.time_ms):
            self._drop(instance, ctx)

    def _drop(self, instance: Instance, ctx: Context) -> None:
        if instance.state is _S.FAILED:
            self._move(instance, _E.CLEARED, instance.reason, ctx)
        self.instances.forget(instance)
        ctx.emit(ComponentForgotten(component=instance.id))

    def _forget(self, cmd: commands.ForgetInstance, ctx: Context) -> dict[str, Any]:
        instance = self._get(cmd.component)
        if not instance.ended:
            raise PlatformError(
                "conflict", f"{instance.short} is {instance.state}", state=str(instance.state)
            )
        self._drop(instance, ctx)
        return {}

    # -- links -----------------------------------------------------------------------------------

    def _link(self, cmd: commands.LinkInstances, ctx: Context) -> dict[str, Any]:
        a, b = self._living(cmd.a), self._living(cmd.b)
        if a is b:
            raise invalid("b", "expected another component than a", param="b")
        if not self.links.has(a.id, b.id):
            for one in (a, b):
                if self.links.count(one.id) >= limits.LINKS_OF_COMPONENT_MAX:
                    raise _too_many_links(one)
            self.links.add(a.id, b.id)
        return {}

    def _unlink(self, cmd: commands.UnlinkInstances, ctx: Context) -> dict[str, Any]:
        self.links.remove(self._get(cmd.a).id, self._get(cmd.b).id)
        return {}

    # -- help ------------------------------------------------------------------------------------

    def _get(self, component: str) -> Instance:
        instance = self.instances.get(component)
        if instance is None:
            raise PlatformError("no-such-target", f"no component has the identifier {component}")
        return instance

    def _living(self, component: str) -> Instance:
        instance = self._get(component)
        if not instance.wanted or instance.ended:
            raise PlatformError(
                "not-available", f"{instance.short} has ended or is ending", component=component
            )
        return instance

    def snapshot(self) -> Any:
        return {
            "types": self.types.snapshot(),
            "instances": self.instances.snapshot(),
            "links": self.links.snapshot(),
            "requests": [[request, list(created)] for request, created in self._requests.items()],
        }

    def restore(self, plain: Any) -> None:
        self.types.restore(plain["types"])
        self.instances.restore(plain["instances"])
        self.links.restore(plain["links"])
        self._requests = {request: list(created) for request, created in plain["requests"]}


assert all(COMPONENT.allows(state, _E.EXITED) for state in PRESENT)


def _event(word: str) -> ComponentEvent:
    try:
        return ComponentEvent(word)
    except ValueError:
        raise invalid("event", f"unknown event {word!r}") from None


def _moved_on(instance: Instance) -> PlatformError:
    return PlatformError(
        "conflict",
        f"{instance.short} is {instance.state} in incarnation {instance.incarnation} by now",
        state=str(instance.state),
        incarnation=instance.incarnation,
    )


def _too_many_links(instance: Instance) -> PlatformError:
    return PlatformError(
        "limit-exceeded", f"{instance.short} has {limits.LINKS_OF_COMPONENT_MAX} links at most"
    )
