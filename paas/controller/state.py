"""The section "controller" of the cluster state: types, instances, links (architecture, rule 4).

Commands (commands.py) are applied here, in the order of the log, by functions of nothing but the
state, the command and its stamp.  A command that may not be (illegal transition, taken name, …)
raises before it has changed anything; the error is its result, on every replica the same.

What follows an end is decided here and nowhere else, in the command that reports it (ends.py).  So
the verdict survives the agent that has to execute it.  The agents only report what happened and
execute what is written.

Incarnations wait for a node; which one is decided by the primary of the component's virtual node
(admission.py).  Since losing a node, moving and restarting all begin a new incarnation, and one
incarnation is placed at most once, no two nodes ever run the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paas.base.errors import PlatformError, invalid
from paas.bundle.manifest import from_plain
from paas.controller import admission, commands, limits, restarts
from paas.controller.component_types import ComponentType, ComponentTypes
from paas.controller.departures import Departures, is_ordered
from paas.controller.ends import Ends
from paas.controller.instances import Instance, Instances, derived_id, names_for
from paas.controller.lifecycle import COMPONENT, RUNNING, ComponentEvent, ComponentState
from paas.controller.links import Links
from paas.controller.living import LivingCommands
from paas.controller.loads import Loads, needs_of
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentForgotten,
    ComponentOrdered,
    ComponentPlaced,
    EmptyingChanged,
    TypeRegistered,
    TypeUnregistered,
)
from paas.controller.restarts import Outcome
from paas.controller.volumes import Volumes, check_creation, check_places
from paas.node.messages import NodeChanged
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
        self.loads = Loads()
        self.volumes: Volumes | None = None
        """The section of that name, to be asked; nothing of it is kept here."""
        self.drains: dict[str, float] = {}
        """Nodes that are to be emptied, and the time that their components get to end."""
        self._requests: dict[str, list[str]] = {}  # request -> ids, oldest first
        self.living = LivingCommands(self, self._living, self._move)
        self.departures = Departures(self, self._move)
        self.ends = Ends(self, self._move, self._put, self._settle)
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            commands.RegisterType: self._register_type,
            commands.UnregisterType: self._unregister_type,
            commands.CreateInstances: self._create,
            commands.ChangeInstance: self._change,
            commands.EndInstance: self._end,
            commands.LinkInstances: self._link,
            commands.UnlinkInstances: self._unlink,
            commands.ForgetInstance: self._forget,
            commands.PlaceInstance: self._place,
            commands.MoveInstance: self._move_away,
            commands.EmptyNode: self._empty,
            **self.living.commands,
            **self.departures.commands,
        }

    def react(self, event: Any, ctx: Any) -> None:
        """A node is lost or was rebooted, or takes components again."""
        self.departures.react(event, ctx)
        if isinstance(event, NodeChanged):
            if event.state in admission.LOST or event.rebooted:
                self.ends.node_lost(event.node, ctx)
            if event.node in self.drains and not admission.may_empty(ctx.sections, event.node):
                self._end_drain(event.node, ctx)

    # -- types -----------------------------------------------------------------------------------

    def _register_type(self, cmd: commands.RegisterType, ctx: Context) -> dict[str, Any]:
        manifest = from_plain(cmd.manifest)
        known = self.types.check_new(manifest, cmd.bundle)
        if known is None:
            if manifest.groups and "mailboxes" in ctx.sections:
                ctx.sections["mailboxes"].check_declared(manifest.to_plain()["groups"])
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
        admission.check_creation(cmd, self.instances)
        admission.check_links(cmd.links, len(cmd.nodes), self.links, self._living)
        names = names_for(cmd.name, len(cmd.nodes))
        admission.check_names(names, self.instances)
        manifest = self.types.manifest(kind)
        admission.check_room(
            ctx.sections, self.loads, kind.full_name, needs_of(manifest), cmd.nodes
        )
        check_creation(ctx.sections, manifest, names, cmd.nodes)
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
        self._put(instance, node)
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

    # -- placing ---------------------------------------------------------------------------------

    def placed_on(self, node: str) -> int:
        """How many components are on a node."""
        return self.loads.count(node)

    def _put(self, instance: Instance, node: str) -> None:
        """On this node, or (empty) waiting for one."""
        kind = self.types.resolve(instance.type)
        instance.node = node
        instance.unplaced = ""
        needs = needs_of(self.types.manifest(kind), instance.resized)
        self.loads.put(instance.id, node, instance.type, needs)

    def _place(self, cmd: commands.PlaceInstance, ctx: Context) -> dict[str, Any]:
        instance = self._get(cmd.component)
        waits = instance.state is _S.PREPARING and not instance.node
        if not waits or cmd.incarnation != instance.incarnation:
            raise _moved_on(instance)
        admission.check_primary(ctx.sections, instance.id, cmd.by, cmd.ring_epoch)
        if not cmd.node:
            instance.unplaced = cmd.reason[: limits.REASON_LENGTH_MAX]
            return {}
        manifest = self.types.manifest(self.types.resolve(instance.type))
        needs = needs_of(manifest, instance.resized)
        admission.check_room(ctx.sections, self.loads, instance.type, needs, [cmd.node])
        check_places(ctx.sections, manifest, [(instance.id, instance.name, cmd.node)])
        self._put(instance, cmd.node)
        ctx.emit(
            ComponentPlaced(
                component=instance.id,
                incarnation=instance.incarnation,
                node=instance.node,
                index=ctx.index,
                time_ms=ctx.stamp.time_ms,
            )
        )
        return {}

    def _move_away(self, cmd: commands.MoveInstance, ctx: Context) -> dict[str, Any]:
        instance = self._living(cmd.component)
        _check_grace(cmd.grace_s)
        if cmd.incarnation != instance.incarnation or cmd.node != instance.node or not cmd.node:
            raise _moved_on(instance)
        instance.moving = True
        if instance.state in RUNNING:
            instance.mode, instance.grace_s = "move", cmd.grace_s
            ctx.emit(ComponentOrdered(component=instance.id, mode="move", grace_s=cmd.grace_s))
            self.departures.stop(instance, restarts.MOVED, ctx)
        elif instance.state is _S.PREPARING:
            instance.mode = "move"
            self.ends.exited(instance, restarts.MOVED, {}, ctx)
        return {"state": str(instance.state), "incarnation": instance.incarnation}

    # -- emptying a node -------------------------------------------------------------------------

    def _empty(self, cmd: commands.EmptyNode, ctx: Context) -> dict[str, Any]:
        _check_grace(cmd.grace_s)
        admission.check_emptying(ctx.sections, cmd.node)
        self.drains[cmd.node] = cmd.grace_s
        ctx.emit(EmptyingChanged(node=cmd.node, emptying=True))
        return {"left": self.loads.count(cmd.node)}

    def _end_drain(self, node: str, ctx: Context) -> None:
        if self.drains.pop(node, None) is not None:
            ctx.emit(EmptyingChanged(node=node, emptying=False))

    # -- changing --------------------------------------------------------------------------------

    def _change(self, cmd: commands.ChangeInstance, ctx: Context) -> dict[str, Any]:
        instance = self._get(cmd.component)
        event = _event(cmd.event)
        if cmd.incarnation != instance.incarnation or (
            cmd.expected and cmd.expected != instance.state
        ):
            raise _moved_on(instance)
        if not instance.node:
            raise PlatformError("conflict", f"{instance.short} is on no node", state="preparing")
        if is_ordered(instance, event) or not COMPONENT.allows(instance.state, event):
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
        reason = cmd.reason[: limits.REASON_LENGTH_MAX]
        if event is _E.EXITED:
            self.ends.exited(instance, cmd.reason, cmd.facts, ctx, is_fatal=cmd.fatal)
        elif instance.state is _S.DESTROYING:
            self.ends.conclude(instance, reason, ctx, unplace=instance.moving)
        else:
            if event is _E.READY:
                self._ready(instance, cmd, ctx)
            elif event is _E.PAUSE:
                instance.reason = reason
            self._move(instance, event, reason or instance.reason, ctx)
        return {"state": str(instance.state), "incarnation": instance.incarnation}

    def _ready(self, instance: Instance, cmd: commands.ChangeInstance, ctx: Context) -> None:
        if cmd.endpoints is not None:
            instance.endpoints = cmd.endpoints
        instance.ready_ms = instance.ready_ms or ctx.stamp.time_ms
        instance.ready_once = True

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
        _check_grace(cmd.grace_s)
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
            self.departures.stop(instance, restarts.DESTROYED, ctx)
        elif instance.state is _S.PREPARING:
            # Nothing runs, or is just being started: the incarnation ends before it began.
            self.ends.exited(instance, restarts.DESTROYED, {}, ctx)
        elif instance.state is _S.DESTROYING:
            instance.outcome = Outcome.END

    def _settle(self, instance: Instance, ctx: Context) -> None:
        """It has ended for good."""
        self.links.drop(instance.id)
        self.loads.drop(instance.id)
        self.living.frozen.pop(instance.id, None)
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
                    raise admission.too_many_links(one)
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
            "drains": dict(self.drains),
            "departures": self.departures.snapshot(),
        }

    def restore(self, plain: Any) -> None:
        self.types.restore(plain["types"])
        self.instances.restore(plain["instances"])
        self.links.restore(plain["links"])
        self._requests = {request: list(created) for request, created in plain["requests"]}
        self.drains = dict(plain.get("drains", {}))
        self.departures.restore(plain.get("departures", {}))
        self.living.restored()
        self.loads = Loads()
        for instance in self.instances:
            if not instance.ended:
                manifest = self.types.manifest(self.types.resolve(instance.type))
                needs = needs_of(manifest, instance.resized)
                self.loads.put(instance.id, instance.node, instance.type, needs)


def _check_grace(grace_s: float) -> None:
    if not 0 <= grace_s <= limits.GRACE_S_MAX:
        raise invalid("grace", f"expected 0 to {limits.GRACE_S_MAX:.0f} seconds", param="grace")


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
