"""Which node does a waiting component get?  Pure: the state, the nodes and the ring in, orders out.

Components wait for a node after their node was lost or is being emptied, or when they were created
without one.  Only the primary of a component's virtual node answers, so that each is planned in one
place; the orders carry the ring's epoch, and are checked when they are applied (admission.py).

One round sees what it has placed itself, so that many components spread.  When a type finds no
node, others of the type with the same constraints are not tried again in that round: the sums only
grow.  Document: internals/cluster.md, "The ring".
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from paas.base import ids
from paas.base.errors import PlatformError
from paas.controller import limits
from paas.controller.commands import PlaceInstance
from paas.controller.instances import Instance
from paas.controller.loads import UNPLACED, needs_of
from paas.controller.ports import Ring
from paas.controller.state import ControllerState
from paas.controller.volumes import Place, constraints, place_of
from paas.scheduler.client import Load, Scheduler
from paas.scheduler.messages import NodeView, Request

NO_PLACEMENT = "no-placement: "


def epoch_of(component: str, node: str, ring: Ring | None) -> int | None:
    """Since when this node decides about the component; None if it does not.

    Without a ring there is one node, and it decides.
    """
    if ring is None:
        return 0
    number = ids.virtual_node(ids.Id(component))
    return ring.epoch(number) if ring.primary(number) == node else None


def waiting(state: ControllerState, node: str, ring: Ring | None) -> list[tuple[Instance, int]]:
    """The components that wait for a node and for this one's decision, and its epochs."""
    found = []
    for component in state.loads.on(UNPLACED):
        instance = state.instances.get(component)
        epoch = epoch_of(component, node, ring)
        if instance is not None and epoch is not None:
            found.append((instance, epoch))
    return found


def request_for(state: ControllerState, instance: Instance) -> Request:
    """What the scheduler is asked for one component."""
    kind = state.types.resolve(instance.type)
    return Request(
        type=instance.type,
        needs=needs_of(state.types.manifest(kind), instance.resized),
        constraints=(*instance.constraints, *constraints(volumes_of(state, instance))),
    )


def volumes_of(state: ControllerState, instance: Instance) -> Place:
    """Where its volumes let it be."""
    manifest = state.types.manifest(state.types.resolve(instance.type))
    return place_of(state.volumes, instance.id, instance.name, manifest)


def plan_creation(
    state: ControllerState, nodes: Sequence[NodeView], request: Request, names: Sequence[str]
) -> list[str]:
    """A node for each of these new components of one type; raises `no-placement`."""
    manifest = state.types.manifest(state.types.resolve(request.type))
    scheduler, loads = Scheduler(lambda: nodes), state.loads.copy()
    if not manifest.volumes:
        return [choice.node for choice in scheduler.place_on(loads, request)]
    chosen = []
    for name in names:  # each where its own volumes are
        place = place_of(state.volumes, "", name, manifest)
        if place.waits:
            raise PlatformError("no-placement", f"{name}: {place.waits}")
        wanted = (*request.constraints, *constraints(place))
        one = structs.replace(request, count=1, constraints=wanted)
        try:
            chosen.append(scheduler.place_on(loads, one)[0].node)
        except PlatformError as error:
            raise _with_volumes(error, place) from None
    return chosen


def _with_volumes(error: PlatformError, place: Place) -> PlatformError:
    """The same error, which also says that volumes are the reason why only one node will do."""
    if not place.node or error.code != "no-placement":
        return error
    text = f"its volumes are on {place.node}: {error.message}"
    return PlatformError(error.code, text, hint=error.hint, **error.data)


def plan(
    state: ControllerState, nodes: Sequence[NodeView], node: str, ring: Ring | None
) -> list[PlaceInstance]:
    """The orders of one round: nodes, and new reasons why there is none."""
    scheduler = Scheduler(lambda: nodes)
    loads = state.loads.copy()
    refused: dict[tuple[str, tuple[str, ...]], str] = {}
    orders: list[PlaceInstance] = []
    reasons: list[PlaceInstance] = []
    for instance, epoch in waiting(state, node, ring):
        if len(orders) >= limits.PLACING_BATCH_MAX:
            break
        place = volumes_of(state, instance)
        if place.waits:
            chosen, reason = "", (NO_PLACEMENT + place.waits)[: limits.REASON_LENGTH_MAX]
        else:
            chosen, reason = _choose(scheduler, loads, refused, request_for(state, instance), place)
        order = PlaceInstance(
            component=instance.id,
            incarnation=instance.incarnation,
            node=chosen,
            by=node,
            ring_epoch=epoch,
            reason=reason,
        )
        if chosen:
            orders.append(order)
        elif reason != instance.unplaced and len(reasons) < limits.PLACING_REASONS_MAX:
            reasons.append(order)
    return orders + reasons


def _choose(
    scheduler: Scheduler,
    loads: dict[str, Load],
    refused: dict[tuple[str, tuple[str, ...]], str],
    request: Request,
    place: Place,
) -> tuple[str, str]:
    """A node, or why there is none."""
    same = (request.type, request.constraints)
    if same not in refused:
        try:
            return scheduler.place_on(loads, request)[0].node, ""
        except PlatformError as error:
            text = NO_PLACEMENT + _with_volumes(error, place).message
            refused[same] = text[: limits.REASON_LENGTH_MAX]
    return "", refused[same]
