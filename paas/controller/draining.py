"""What is to move when a node is emptied, and what is left of it.  Pure.

A node that is emptied takes nothing new.  Its components move, a few at a time: the old copy ends
in its own time, then the next incarnation waits for a node like any other.  A component that would
find no node stays where it is, and running, until there is one.  What is ending for good needs no
moving.  Platform document §4.6.5 ("drain"); architecture §10.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from paas.base.errors import PlatformError
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.placing import request_for
from paas.controller.state import ControllerState
from paas.scheduler.client import Scheduler
from paas.scheduler.messages import NodeView


def next_moves(
    state: ControllerState,
    nodes: Sequence[NodeView],
    node: str,
    under_way: Collection[str],
    most: int,
) -> list[Instance]:
    """Up to `most` components that can begin to move now."""
    elsewhere = [view for view in nodes if view.name != node]
    scheduler, loads = Scheduler(lambda: elsewhere), state.loads.copy()
    found: list[Instance] = []
    for component in state.loads.on(node):
        instance = state.instances.get(component)
        if len(found) >= most:
            break
        if instance is None or component in under_way or not movable(instance):
            continue
        try:
            scheduler.place_on(loads, request_for(state, instance))
        except PlatformError:
            continue
        found.append(instance)
    return found


def movable(instance: Instance) -> bool:
    """Would it go on living here, and has it not been told to move yet?"""
    return instance.wanted and not instance.ended and not instance.moving


def left(state: ControllerState, nodes: Sequence[NodeView], node: str, most: int) -> dict[str, str]:
    """Components that are still there, and what they wait for; the first `most` of them."""
    elsewhere = [view for view in nodes if view.name != node]
    scheduler = Scheduler(lambda: elsewhere)
    found = {}
    for component in state.loads.on(node)[:most]:
        instance = state.instances.get(component)
        if instance is not None:
            found[component] = _why(state, scheduler, instance)
    return found


def _why(state: ControllerState, scheduler: Scheduler, instance: Instance) -> str:
    if not movable(instance) or instance.state is ComponentState.STOPPING:
        return f"{instance.state}: about to end here"
    try:
        scheduler.place_on(state.loads.copy(), request_for(state, instance))
    except PlatformError as error:
        return error.message
    return "waits for its turn"
