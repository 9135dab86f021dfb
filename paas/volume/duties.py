"""What is to be done on a node about volumes, from the cluster state.  Pure.

    they move away from here, and their component is here  ──> it ends here first     (evacuations)
    they are here, and this node is being emptied          ──> they move              (departures)
    they move here, and nobody is with them                ──> copy them              (fetches)
    a copy is here that does not count                     ──> drop it                (rubbish)

A copy counts if the state names it as the present one or as the one on its way here, and this node
as its place.  Rubbish may only be carried out by a replica that was up to date after the copies
were listed: epochs are never used twice, so what does not count then never counts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from paas.container.messages import VolumeCopy
from paas.volume.lifecycle import HoldingState
from paas.volume.state import Holding, VolumeState, user_of, vacant


@dataclass(frozen=True, slots=True)
class Evacuation:
    """The component that is to go on elsewhere."""

    component: str
    incarnation: int
    node: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class Fetch:
    """A copy that this node is to make.  `volumes`: name to whether it must be at the source."""

    owner: str
    epoch: int
    copy: int
    source: str
    volumes: Mapping[str, bool] = field(hash=False)


def evacuations(state: VolumeState, sections: Mapping[str, Any], node: str) -> list[Evacuation]:
    """Components of this node that hold up a move, and have not been told so."""
    found = []
    for holding in state:
        if holding.state is not HoldingState.MOVING or holding.node != node:
            continue
        instance = user_of(sections, holding.owner)
        if instance is None or instance.node != node or not instance.wanted or instance.moving:
            continue
        found.append(Evacuation(instance.id, instance.incarnation, node, holding.grace_s))
    return found


def departures(state: VolumeState, node: str) -> list[Holding]:
    """What binds a component to this node, which is being emptied."""
    return [h for h in state if h.state is HoldingState.HELD and h.node == node and h.binds]


def fetches(state: VolumeState, sections: Mapping[str, Any], node: str) -> list[Fetch]:
    """Copies that can be made here now."""
    return [
        Fetch(
            owner=holding.owner,
            epoch=holding.epoch,
            copy=holding.copy,
            source=holding.node,
            volumes={name: volume.made for name, volume in holding.volumes.items()},
        )
        for holding in state
        if holding.state is HoldingState.MOVING
        and holding.to == node
        and vacant(sections, holding.owner)
    ]


def rubbish(copies: Iterable[VolumeCopy], state: VolumeState, node: str) -> list[tuple[str, int]]:
    """Copies of this node, by owner and epoch, that do not count."""
    found = []
    for copy in copies:
        holding = state.get(copy.owner)
        here = holding is not None and (
            (holding.node, holding.epoch) == (node, copy.epoch)
            or (holding.to, holding.copy) == (node, copy.epoch)
        )
        if not here and (copy.owner, copy.epoch) not in found:
            found.append((copy.owner, copy.epoch))
    return found
