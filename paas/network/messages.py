"""Messages about networks.  Numbers 670-679.

670      between hubs: open the other end of a path
671-679  from the hub to the container controller of its node

`NetworkChanged` is no message but an event of the cluster state.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from paas.wire.registry import Message, Nothing, Params, method

End = Literal["source", "target"]


class FarPath(Message, frozen=True, kw_only=True, order=True, omit_defaults=False):
    """A path between a component of this node, at its `end`, and `peer` on another node.

    Named by incarnations: who gets the address of one of them later has no part in it.
    """

    component: str
    incarnation: int
    end: End
    peer: str
    peer_incarnation: int
    peer_node: str
    peer_address: str
    port: int
    protocol: Literal["tcp", "udp"] = "tcp"


class OpenEnd(Params, frozen=True, kw_only=True):
    """Let `source`, on the node that asks, reach a port of `target`, on the node that is asked.

    `address` is the one of the source; `requirement` names what its manifest says about this.
    """

    source: str
    source_incarnation: int
    address: str
    target: str
    target_incarnation: int
    endpoint: str
    requirement: str


class NetworkFacts(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The networks that the containers of this node have their addresses from."""

    network: str
    containers: int
    """How many there are: only a node without any can be given other addresses."""


class GetNetwork(Params, frozen=True, kw_only=True):
    """Tell which addresses this node has for containers."""


class Neighbour(Message, frozen=True, kw_only=True, order=True, omit_defaults=False):
    """Another node: its containers' network, and the address that it is reached by."""

    node: str
    network: str
    address: str


class SetNeighbours(Params, frozen=True, kw_only=True):
    """Have ways to the containers of these nodes, and of no others.

    `address` is this node's own, which the others reach it by.
    """

    address: str
    neighbours: list[Neighbour]


class AdmitPath(Params, frozen=True, kw_only=True):
    """Open this node's end of a path to or from another node."""

    path: FarPath


class Admitted(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The end is open; this is the address of the component here."""

    address: str


class ShutPaths(Params, frozen=True, kw_only=True):
    """Close this node's end of these paths, for connections that exist too."""

    paths: list[FarPath]


class ListPaths(Params, frozen=True, kw_only=True):
    """List the paths to and from other nodes."""


class FarPaths(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All paths of this node to and from others."""

    paths: list[FarPath]


class Renumber(Params, frozen=True, kw_only=True):
    """Take another network for containers; refused (`conflict`) while there are any."""

    network: str


class NetworkChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Event: a node has this network for containers from now on; empty: it has none any more."""

    node: str
    network: str


OPEN = method(670, "network.open", OpenEnd, Nothing, public=False)
FACTS = method(671, "network.facts", GetNetwork, NetworkFacts, public=False)
NEIGHBOURS = method(672, "network.neighbours", SetNeighbours, Nothing, public=False)
ADMIT = method(673, "network.admit", AdmitPath, Admitted, public=False)
SHUT = method(674, "network.shut", ShutPaths, Nothing, public=False)
PATHS = method(675, "network.paths", ListPaths, FarPaths, public=False)
RENUMBER = method(676, "network.renumber", Renumber, Nothing, public=False)
