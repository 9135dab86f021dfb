"""The commands that change what runs: other bounds, frozen, thawed (part of state.py).

A resize must fit on the component's node, by the same sums as a placement.  Freezing makes an
available component `unavailable`, for the reason `frozen`, in the same command: nothing new is sent
to it from then on, on any node, but for what names it (hub/router.py).  Thawing makes it available
again if its node's hub says that it was ready.  Both are facts about the component, not about an
incarnation, and hold until the contrary is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.bundle.manifest import Manifest
from paas.controller import admission, commands
from paas.controller.bounds import check_changes
from paas.controller.component_types import ComponentTypes
from paas.controller.instances import Instance, Instances
from paas.controller.lifecycle import ComponentEvent, ComponentState
from paas.controller.loads import UNPLACED, Loads, needs_of
from paas.controller.messages import ComponentAdjusted
from paas.controller.standing import FROZEN
from paas.raft.machine import Context
from paas.scheduler.client import room

_FREEZABLE = frozenset({ComponentState.AVAILABLE, ComponentState.UNAVAILABLE})
Move = Callable[[Instance, ComponentEvent, str, Context], None]


class Records(Protocol):
    """What is read of the section, and changed in it."""

    types: ComponentTypes
    instances: Instances
    loads: Loads


class LivingCommands:
    """See the module's text.  `move` takes a component along an edge of its life-cycle."""

    def __init__(self, state: Records, living: Callable[[str], Instance], move: Move):
        self._state = state
        self._living = living
        self._move = move
        self.frozen: dict[str, None] = {}
        """Components that are to stand still; derived from the records."""
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            commands.ResizeInstance: self._resize,
            commands.FreezeInstance: self._freeze,
            commands.ThawInstance: self._thaw,
        }

    def restored(self) -> None:
        """The records are others now."""
        self.frozen.clear()
        self.frozen.update(dict.fromkeys(i.id for i in self._state.instances if i.frozen))

    def _resize(self, cmd: commands.ResizeInstance, ctx: Context) -> dict[str, Any]:
        state, instance = self._state, self._living(cmd.component)
        resized = {**instance.resized, **check_changes(cmd.limits)}
        manifest = state.types.manifest(state.types.resolve(instance.type))
        check_fits(ctx.sections, state.loads, instance, manifest, resized)
        instance.resized = resized
        state.loads.put(instance.id, instance.node, instance.type, needs_of(manifest, resized))
        ctx.emit(ComponentAdjusted(component=instance.id))
        return {"limits": dict(resized), "incarnation": instance.incarnation}

    def _freeze(self, cmd: commands.FreezeInstance, ctx: Context) -> dict[str, Any]:
        instance = self._living(cmd.component)
        if not instance.frozen:
            if instance.state not in _FREEZABLE:
                raise PlatformError(
                    "conflict",
                    f"{instance.short} is {instance.state}; only what has been available is frozen",
                    state=str(instance.state),
                )
            instance.frozen = True
            instance.reason = FROZEN
            self.frozen[instance.id] = None
            if instance.state is ComponentState.AVAILABLE:
                self._move(instance, ComponentEvent.PAUSE, FROZEN, ctx)
            ctx.emit(ComponentAdjusted(component=instance.id))
        return {"state": str(instance.state), "incarnation": instance.incarnation}

    def _thaw(self, cmd: commands.ThawInstance, ctx: Context) -> dict[str, Any]:
        instance = self._living(cmd.component)
        if instance.frozen:
            instance.frozen = False
            instance.reason = "" if instance.reason == FROZEN else instance.reason
            self.frozen.pop(instance.id, None)
            ready = cmd.ready and cmd.incarnation == instance.incarnation
            if ready and instance.state is ComponentState.UNAVAILABLE:
                self._move(instance, ComponentEvent.READY, "", ctx)
            ctx.emit(ComponentAdjusted(component=instance.id))
        return {"state": str(instance.state), "incarnation": instance.incarnation}


def check_fits(
    sections: Mapping[str, Any],
    loads: Loads,
    instance: Instance,
    manifest: Manifest,
    resized: Mapping[str, Any],
) -> None:
    """Raises `conflict` when its node has no room for it with these bounds."""
    if "nodes" not in sections or instance.node == UNPLACED:
        return
    view = admission.view_of(sections, instance.node)
    before, after = needs_of(manifest, instance.resized), needs_of(manifest, resized)
    if view is None or after.memory_bytes <= before.memory_bytes:
        return
    load = loads.of(instance.node)
    load.remove(instance.type, before)
    # Whether it takes new components is another question.
    there = msgspec.structs.replace(view, online=True, cordoned=False, storage_full=False)
    if why := room(there, load, after):
        raise PlatformError(
            "conflict",
            f"no room on {instance.node}: {', '.join(why)}",
            hint="see: paas nodes -o wide",
            nodes={instance.node: list(why)},
        )
