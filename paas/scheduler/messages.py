"""What the scheduler is asked and answers (platform §4.6.7): plain data, within one process.

Sizes in bytes, processor time in cores.
"""

from __future__ import annotations

import msgspec


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What one component may use at most, and where it can run."""

    memory_bytes: int
    cpu: float
    disk_bytes: int = 0
    base: str = "host"
    ports: tuple[int, ...] = ()
    """Ports of the node that must lead to it and to nobody else."""


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node as the cluster state knows it.  A resource of 0 is unknown and bounds nothing.

    `domain` names what fails as one (a rack, a site, a machine with several nodes); empty: the node
    fails alone.
    """

    name: str
    memory_bytes: int = 0
    cpu: float = 0.0
    disk_bytes: int = 0
    bases: tuple[str, ...] = ("host",)
    online: bool = True
    cordoned: bool = False
    storage_full: bool = False
    domain: str = ""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """One component that is on a node already."""

    node: str
    type: str
    needs: Needs


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Where should `count` components of a type go?  `constraints` like `node=n1`, `node!=n2`."""

    type: str
    needs: Needs
    count: int = 1
    constraints: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one node for one component: reasons against it, or its scores."""

    node: str
    reasons: tuple[str, ...] = ()
    scores: dict[str, float] = {}

    @property
    def feasible(self) -> bool:
        return not self.reasons

    @property
    def total(self) -> float:
        return sum(self.scores.values())


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The node of one component, and the verdicts that led to it, best first."""

    node: str
    verdicts: tuple[Verdict, ...]
