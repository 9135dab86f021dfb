"""Where the other hubs are: what the cluster state says, and until it says so, what joining said.

A node that starts knows the addresses it was told when it joined; whoever it reaches brings it the
log, and the log has the present ones.  A name that was removed is not dialled and not let in; a
node that was lost is cut off once, since what it says on an open connection is of the past, and may
come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from paas.node.messages import NodeChanged
from paas.node.state import NodeRegister
from paas.raft.machine import StateReplaced


class Peers(Protocol):
    """The part of the mesh that is told."""

    def set_peers(self, addresses: Mapping[str, str]) -> None: ...

    def drop(self, node: str) -> None: ...


class NoMesh:
    """Of a node that has no network."""

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        """There is nobody to dial."""

    def drop(self, node: str) -> None:
        """There is no connection."""


class AddressBook:
    """Keeps the mesh informed; `state_changed` subscribes to the replicated log."""

    def __init__(
        self, node: str, mesh: Peers, register: NodeRegister, told: Mapping[str, str]
    ) -> None:
        self._node = node
        self._mesh = mesh
        self._register = register
        self._told = dict(told)

    def addresses(self) -> dict[str, str]:
        """The hubs of the cluster, this one left out."""
        found = {name: at for name, at in self._told.items() if not self._register.removed(name)}
        for node in self._register.nodes():
            if node.address:
                found[node.name] = node.address
        found.pop(self._node, None)
        return found

    def heard(self, addresses: Mapping[str, str]) -> None:
        """Another hub says where the others are; what is known here counts more."""
        known = self.addresses()
        new = {n: at for n, at in addresses.items() if n not in known and n != self._node}
        if new:
            self._told |= new
            self.update()

    def update(self) -> None:
        self._mesh.set_peers(self.addresses())

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        for event in events:
            if isinstance(event, NodeChanged):
                self.update()
                if event.state == "offline" and event.node != self._node:
                    self._mesh.drop(event.node)
            elif isinstance(event, StateReplaced):
                self.update()
