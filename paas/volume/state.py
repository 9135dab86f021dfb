"""The section "volumes" of the cluster state: who holds which volumes, where a component may be.

    component placed ──────────> held: this node, from now on (epoch = index of the log)
    component was available ───> made: there is something in them, they bind their component
    MoveVolumes … VolumesMoved ─> held: the other node, under another epoch
    node lost, `empty` wanted ─> none: the next place is anywhere, with an empty beginning

Invariants
  - The volumes of an owner are on one node.  Its component is placed there or nowhere, checked when
    a placement is applied; while they move it is placed nowhere, and they are switched only when it
    is on no node.  So there is one writer.
  - A copy is named by owner and epoch.  Epochs are indices of the log: never used twice, so what is
    left of an earlier copy, even of removed volumes, is never taken for the present one.
  - Volumes belong to the name of a component and to its type (any version): who takes the name with
    another type does not get them.

A node that is lost keeps its volumes, and their component waits, unless all of them begin empty.
Nothing here knows whether files exist; that is compared by duties.py.  Document:
internals/containers/volumes.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from paas.base import ids
from paas.base.errors import PlatformError, invalid
from paas.bundle.manifest import Manifest
from paas.container.messages import VolumeMount
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentForgotten,
    ComponentPlaced,
)
from paas.node.messages import NodeChanged
from paas.raft.machine import Context
from paas.volume import commands, limits
from paas.volume.lifecycle import HOLDING, HoldingEvent, HoldingState
from paas.volume.messages import VolumesChanged

_E = HoldingEvent
_S = HoldingState

LOST = frozenset({"offline", "failed", "destroyed"})
"""States of a node on which nothing runs."""

TAKES = "available"
"""The state of a node that can be given something."""

_WAS_READY = frozenset({"initializing", "available"})


class Volume(msgspec.Struct, kw_only=True):
    """One volume.  Its size never shrinks."""

    path: str
    size_bytes: int
    on_loss: str
    made: bool = False
    """A component that has it was ready: that its file is missing would be a loss."""


class Holding(msgspec.Struct, kw_only=True):
    """The volumes of one owner."""

    owner: str
    type: str
    state: HoldingState = HOLDING.initial
    node: str = ""
    epoch: int = 0
    to: str = ""
    copy: int = 0
    """The epoch that the copy on `to` will have."""
    grace_s: float = limits.GRACE_S
    volumes: dict[str, Volume] = {}
    since_ms: int = 0

    @property
    def binds(self) -> bool:
        """Is there something in them?  If not, any node is as good as theirs."""
        return any(volume.made for volume in self.volumes.values())

    @property
    def begins_empty(self) -> bool:
        """May all of them begin anew when their node is lost?"""
        return all(volume.on_loss == "empty" for volume in self.volumes.values())


class Place(msgspec.Struct, frozen=True):
    """Where a component may be, as far as its volumes are concerned."""

    node: str = ""
    """Only there; empty: anywhere."""
    waits: str = ""
    """Why nowhere at present."""


def owner_of(component: str, name: str) -> str:
    """Volumes are found again by the name; who has none has them for its own life only."""
    return name or component


class VolumeState:
    """See the module's text."""

    name = "volumes"

    def __init__(self) -> None:
        self._all: dict[str, Holding] = {}
        self.commands: Mapping[type, Callable[[Any, Any], Any]] = {
            commands.MoveVolumes: self._move,
            commands.VolumesMoved: self._moved,
            commands.RemoveVolumes: self._remove,
        }

    def __iter__(self) -> Iterator[Holding]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def get(self, owner: str) -> Holding | None:
        return self._all.get(owner)

    def find(self, owner: str) -> Holding:
        """Raises `no-such-target`."""
        holding = self._all.get(owner)
        if holding is None:
            raise PlatformError(
                "no-such-target",
                f"{owner[:64]!r} has no volumes",
                hint="list them: paas volumes",
            )
        return holding

    def held_on(self, node: str) -> int:
        """Of how many owners something would be lost with this node."""
        return sum(1 for h in self._all.values() if h.node == node and h.binds)

    # -- asked by the component controller -------------------------------------------------------

    def place_of(self, component: str, name: str, manifest: Manifest) -> Place:
        """Where this component may be placed now."""
        holding = self._all.get(owner_of(component, name)) if manifest.volumes else None
        if holding is None or holding.state is _S.NONE:
            return Place()
        if holding.state is _S.MOVING:
            return Place(
                waits=f"its volumes are being moved from {holding.node} to {holding.to}",
            )
        return Place(node=holding.node) if holding.binds else Place()

    def check_place(self, component: str, name: str, manifest: Manifest, node: str) -> None:
        """Raises `conflict` if it may not be placed there: the plan was overtaken."""
        place = self.place_of(component, name, manifest)
        why = place.waits
        if place.node and place.node != node:
            why = f"its volumes are on {place.node}"
        if why:
            raise PlatformError(
                "conflict",
                f"placement is out of date: {node}: {why}",
                hint="repeat the request",
                placement=True,
                nodes={node: [why]},
            )

    def check_name(self, name: str, manifest: Manifest) -> None:
        """Raises `conflict` if the volumes under this name are those of another type."""
        holding = self._all.get(name) if manifest.volumes and name else None
        if holding is not None and holding.type != manifest.component.name:
            raise PlatformError(
                "conflict",
                f"the volumes of {name!r} belong to the type {holding.type}",
                hint=f"choose another name, or: paas volumes remove {name}",
                name=name,
                type=holding.type,
            )
        if manifest.volumes and holding is None and len(self._all) >= limits.OWNERS_MAX:
            raise PlatformError(
                "limit-exceeded", f"a cluster has volumes of {limits.OWNERS_MAX} components at most"
            )

    def mounts(
        self, component: str, name: str, manifest: Manifest, node: str
    ) -> tuple[VolumeMount, ...]:
        """What its container is started with on this node; raises `not-available`."""
        if not manifest.volumes:
            return ()
        holding = self._all.get(owner_of(component, name))
        if holding is None or holding.node != node:
            where = holding.node if holding is not None else ""
            raise PlatformError(
                "not-available",
                f"the volumes of {name or component[:8]} are on {where or 'no node'}",
            )
        return tuple(
            VolumeMount(
                owner=holding.owner,
                name=volume,
                epoch=holding.epoch,
                path=wanted.path,
                size_bytes=max(wanted.size, holding.volumes[volume].size_bytes),
                fresh=not holding.volumes[volume].made,
            )
            for volume, wanted in manifest.volumes.items()
            if volume in holding.volumes
        )

    # -- what happens ----------------------------------------------------------------------------

    def react(self, event: Any, ctx: Context) -> None:
        """A component was placed, was ready, or is forgotten; or a node is lost."""
        match event:
            case ComponentCreated(node=node) | ComponentPlaced(node=node) if node:
                self._place(event.component, node, ctx)
            case ComponentChanged(state=state) if state in _WAS_READY:
                self._made(event.component, ctx)
            case ComponentForgotten():
                holding = self._all.get(event.component)
                if holding is not None:
                    self._drop(holding, ctx)
            case NodeChanged(state=state) if state in LOST:
                self._node_lost(event.node, ctx)

    def _place(self, component: str, node: str, ctx: Context) -> None:
        instance, manifest = _instance(ctx, component)
        if instance is None or not manifest.volumes:
            return
        owner = owner_of(component, instance.name)
        holding = self._all.get(owner)
        if holding is None:
            holding = self._all[owner] = Holding(owner=owner, type=manifest.component.name)
        if holding.node != node:
            holding.node, holding.epoch = node, ctx.index
            holding.since_ms = ctx.stamp.time_ms
        for name, wanted in manifest.volumes.items():
            known = holding.volumes.setdefault(
                name, Volume(path=wanted.path, size_bytes=wanted.size, on_loss=wanted.on_loss)
            )
            known.path, known.on_loss = wanted.path, wanted.on_loss
            known.size_bytes = max(known.size_bytes, wanted.size)
        self._go(holding, _E.PLACE, ctx)

    def _made(self, component: str, ctx: Context) -> None:
        instance, manifest = _instance(ctx, component)
        if instance is None or not manifest.volumes:
            return
        holding = self._all.get(owner_of(component, instance.name))
        if holding is not None and holding.node == instance.node:
            for name in manifest.volumes:
                if name in holding.volumes:
                    holding.volumes[name].made = True

    def _node_lost(self, node: str, ctx: Context) -> None:
        for holding in list(self._all.values()):
            if holding.node == node and holding.begins_empty:
                holding.node = holding.to = ""
                for volume in holding.volumes.values():
                    volume.made = False
                self._go(holding, _E.LOSE, ctx)
            elif holding.to == node:
                self._stay(holding, ctx)

    # -- moving ----------------------------------------------------------------------------------

    def _move(self, cmd: commands.MoveVolumes, ctx: Context) -> dict[str, Any]:
        holding = self._current(cmd.owner, cmd.epoch)
        if not 0 <= cmd.grace_s <= limits.GRACE_S_MAX:
            raise invalid("grace", f"expected 0 to {limits.GRACE_S_MAX:.0f} s", param="grace")
        if cmd.to == holding.node and holding.state is not _S.NONE:
            self._stay(holding, ctx)
            return {"epoch": holding.epoch}
        if holding.state is _S.MOVING and cmd.to == holding.to:
            return {"epoch": holding.epoch}  # it was asked for already
        if not HOLDING.allows(holding.state, _E.MOVE) or not holding.binds:
            moving = f"are being moved to {holding.to}" if holding.to else "are empty: none to move"
            raise PlatformError(
                "conflict",
                f"the volumes of {cmd.owner} {moving}",
                state=str(holding.state),
                to=holding.to,
            )
        _check_target(ctx, cmd.to)
        holding.to, holding.copy, holding.grace_s = cmd.to, ctx.index, cmd.grace_s
        self._go(holding, _E.MOVE, ctx)
        return {"epoch": holding.epoch}

    def _stay(self, holding: Holding, ctx: Context) -> None:
        if holding.state is _S.MOVING:
            holding.to, holding.copy = "", 0
            self._go(holding, _E.STAY, ctx)

    def _moved(self, cmd: commands.VolumesMoved, ctx: Context) -> dict[str, Any]:
        holding = self._current(cmd.owner, cmd.epoch)
        if holding.state is not _S.MOVING or (holding.to, holding.copy) != (cmd.to, cmd.copy):
            raise _overtaken(holding)
        if not vacant(ctx.sections, holding.owner):
            raise PlatformError("conflict", f"a component has the volumes of {cmd.owner} in use")
        holding.node, holding.epoch = holding.to, holding.copy
        holding.to, holding.copy = "", 0
        holding.since_ms = ctx.stamp.time_ms
        self._go(holding, _E.MOVED, ctx)
        return {"epoch": holding.epoch}

    def _remove(self, cmd: commands.RemoveVolumes, ctx: Context) -> dict[str, Any]:
        holding = self._current(cmd.owner, cmd.epoch)
        if not vacant(ctx.sections, holding.owner):
            raise PlatformError(
                "conflict",
                f"a component has the volumes of {cmd.owner} in use",
                hint=f"end it first: paas destroy {cmd.owner}",
            )
        self._drop(holding, ctx)
        return {}

    # -- help ------------------------------------------------------------------------------------

    def _current(self, owner: str, epoch: int) -> Holding:
        holding = self.find(owner)
        if holding.epoch != epoch:
            raise _overtaken(holding)
        return holding

    def _go(self, holding: Holding, event: HoldingEvent, ctx: Context) -> None:
        holding.state = HOLDING.next(holding.state, event)
        ctx.emit(
            VolumesChanged(
                owner=holding.owner,
                node=holding.node,
                state=str(holding.state),
                to=holding.to,
                index=ctx.index,
            )
        )

    def _drop(self, holding: Holding, ctx: Context) -> None:
        del self._all[holding.owner]
        ctx.emit(VolumesChanged(owner=holding.owner, node="", state="removed", index=ctx.index))

    def snapshot(self) -> Any:
        return {"holdings": [msgspec.to_builtins(holding) for holding in self._all.values()]}

    def restore(self, plain: Any) -> None:
        holdings = [msgspec.convert(item, Holding) for item in plain["holdings"]]
        self._all = {holding.owner: holding for holding in holdings}


def user_of(sections: Mapping[str, Any], owner: str) -> Any:
    """The record of the component that has not ended and has the volumes of this owner; or None."""
    controller = sections["controller"]
    component = owner if ids.is_id(owner) else controller.instances.holder(owner)
    instance = controller.instances.get(component) if component else None
    if instance is None or instance.ended:
        return None
    manifest = controller.types.manifest(controller.types.resolve(instance.type))
    return instance if manifest.volumes else None


def vacant(sections: Mapping[str, Any], owner: str) -> bool:
    """Is nobody on any node who could write to them?"""
    instance = user_of(sections, owner)
    return instance is None or not instance.node


def _instance(ctx: Context, component: str) -> tuple[Any, Any]:
    """The record of a component and its manifest."""
    controller = ctx.sections["controller"]
    instance = controller.instances.get(component)
    if instance is None:
        return None, None
    return instance, controller.types.manifest(controller.types.resolve(instance.type))


def _check_target(ctx: Context, node: str) -> None:
    record = ctx.sections["nodes"].get(node)
    if record is None:
        raise PlatformError("no-such-target", f"no node is called {node[:64]!r}")
    if str(record.state) != TAKES:
        raise PlatformError(
            "conflict", f"the node {node} is {record.state}", state=str(record.state)
        )


def _overtaken(holding: Holding) -> PlatformError:
    return PlatformError(
        "conflict",
        f"the volumes of {holding.owner} are {holding.state} on {holding.node or 'no node'} by now",
        state=str(holding.state),
        epoch=holding.epoch,
    )
