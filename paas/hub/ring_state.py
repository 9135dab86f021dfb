"""The ring in the cluster state (section "ring"): the primary of each virtual node, and since when.

It has no commands: it is dealt out anew in reaction to nodes that come and go, within the same
entry of the log, so there is no moment in which a lost node is still a primary.  `epoch` is the log
index since when the present primary holds a virtual node.  A decision carries the epoch under which
it was taken, and whoever applies it compares: a primary of the past decides nothing.

A node takes part while it is present (initializing, available, unavailable) and its hub can take
entries: a cordoned node gets no new components but still decides; one whose storage is full does
not, since its state stands still.  One whose agents joined again keeps what it has.

Source: docs/internals/cluster.md, "The ring"; the dealing itself is in ring.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from paas.base.ids import VIRTUAL_NODES, Id, virtual_node
from paas.hub.ring import EMPTY, Primaries, alternatives_of, deal, moved_between
from paas.node.messages import NodeChanged
from paas.raft.machine import Context

PRESENT = ("initializing", "available", "unavailable")

_ONE_BYTE_MAX = 0xFF


class RingChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: these virtual nodes have another primary (or none, when no node is there)."""

    moved: tuple[int, ...]
    index: int


class RingState:
    """The section "ring".  See the module's text."""

    name = "ring"
    hears = (NodeChanged,)
    commands: Mapping[Any, Any] = {}

    def __init__(self) -> None:
        self._nodes: list[str] = []  # present, by name
        self._primaries: Primaries = EMPTY
        self._epochs: list[int] = [0] * VIRTUAL_NODES
        self._alternatives: list[tuple[str, ...]] | None = None  # derived when asked for

    # -- what others read ------------------------------------------------------------------------

    def primary(self, number: int) -> str | None:
        """The node that decides about this virtual node; None: no node is there."""
        return self._primaries[number]

    def alternatives(self, number: int) -> tuple[str, ...]:
        """Who takes over from the primary: up to two other nodes."""
        if self._alternatives is None:
            self._alternatives = alternatives_of(self._primaries)
        return self._alternatives[number]

    def epoch(self, number: int) -> int:
        """Log index since when the primary is the primary."""
        return self._epochs[number]

    def of(self, entity: str) -> str | None:
        """The primary of an entity, by its identifier."""
        return self._primaries[virtual_node(Id(entity))]

    def epoch_of(self, entity: str) -> int:
        """The epoch that a decision about this entity has to carry."""
        return self._epochs[virtual_node(Id(entity))]

    def owned(self, node: str) -> list[int]:
        """The virtual nodes whose primary is this node."""
        return [number for number, primary in enumerate(self._primaries) if primary == node]

    def shares(self) -> dict[str, int]:
        """How many virtual nodes each present node holds."""
        counts = dict.fromkeys(self._nodes, 0)
        for primary in self._primaries:
            if primary is not None:
                counts[primary] += 1
        return counts

    # -- changing --------------------------------------------------------------------------------

    def react(self, event: Any, ctx: Context) -> None:
        if not isinstance(event, NodeChanged):
            return
        there = event.state in PRESENT and not event.storage_full
        if there == (event.node in self._nodes):
            return
        if there:
            self._nodes = sorted([*self._nodes, event.node])
        else:
            self._nodes.remove(event.node)
        before, self._primaries = self._primaries, deal(self._primaries, self._nodes)
        self._alternatives = None
        moved = moved_between(before, self._primaries)
        for number in moved:
            self._epochs[number] = ctx.index
        ctx.emit(RingChanged(moved=moved, index=ctx.index))

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """Below 40 KiB: places in lists of nodes and of epochs, one or two bytes each."""
        places = {node: place for place, node in enumerate(self._nodes)}
        absent = len(self._nodes)
        epochs = sorted(set(self._epochs))
        steps = [b - a for a, b in zip([0, *epochs], epochs, strict=False)]
        ages = {epoch: place for place, epoch in enumerate(epochs)}
        return {
            "nodes": list(self._nodes),
            "primaries": _pack([places.get(p or "", absent) for p in self._primaries], absent),
            "epochs": steps,
            "ages": _pack([ages[epoch] for epoch in self._epochs], len(epochs)),
        }

    def restore(self, plain: Any) -> None:
        self._nodes = list(plain["nodes"])
        named: list[str | None] = [*self._nodes, None]
        self._primaries = tuple(named[p] for p in _unpack(plain["primaries"], len(self._nodes)))
        epochs, last = [], 0
        for step in plain["epochs"]:
            last += step
            epochs.append(last)
        self._epochs = [epochs[age] for age in _unpack(plain["ages"], len(epochs))]
        self._alternatives = None


def _width(largest: int) -> int:
    return 1 if largest <= _ONE_BYTE_MAX else 2


def _pack(numbers: list[int], largest: int) -> bytes:
    if _width(largest) == 1:
        return bytes(numbers)
    return struct.pack(f">{len(numbers)}H", *numbers)


def _unpack(data: bytes, largest: int) -> list[int]:
    if _width(largest) == 1:
        return list(data)
    return list(struct.unpack(f">{len(data) // 2}H", data))
