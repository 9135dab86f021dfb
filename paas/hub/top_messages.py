"""`hub.top`: figures of the hubs and of the components attached to them (numbers of hub/messages).

Rates are per second, over the last second and over the last ten.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.wire.registry import Message, Params, method


class Top(Params, frozen=True, kw_only=True):
    """Show what the hubs are doing: queues, rates, slow components, refusals by reason.

    `sort` is `waiting`, `bytes`, `rate`, `delivered`, `refused` or `name`; `limit` bounds the list
    of components; `local` asks for the node of this hub only.
    """

    sort: str = "waiting"
    limit: int = 20
    local: bool = False


class TopComponent(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One component: what waits for it and what was handed to it since it was attached."""

    component: str
    name: str
    node: str
    ready: bool
    waiting: int
    queued_bytes: int
    delivered: int
    refused: int
    rate_1s: float
    rate_10s: float
    slow: bool
    usage: dict[str, float] = msgspec.field(default_factory=dict)
    """What its container uses: bytes, milliseconds since its start, `cpu` in cores since the last
    answer; a figure that is not known (`pressure_…` with control groups of version 1) is absent."""


class TopNode(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One hub.  `refused` counts by code of the error since the hub was started; `links` are the
    bytes queued to the hubs of other nodes; `parts` the figures of watches and mailboxes.
    """

    node: str
    attached: int
    waiting: int
    queued_bytes: int
    links: dict[str, int]
    rates_1s: dict[str, float]
    rates_10s: dict[str, float]
    refused: dict[str, int]
    slow: list[str]
    parts: dict[str, Any] = msgspec.field(default_factory=dict)


class TopResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All nodes that answered, the first components of the order, and the nodes that did not."""

    nodes: list[TopNode]
    components: list[TopComponent]
    missing: list[str]


TOP = method(118, "hub.top", Top, TopResult)
