"""What runs, compared with what should: after a restart of the hub or of the container controller.

    the container controller has    the cluster state has            verdict
    running, same incarnation       a component that should run      Adopt: nothing is restarted
    ended, same incarnation         a component that should run      Ended: its kept facts count
    any other incarnation           a component that should run      as above; its keeper clears
    nothing                         a component that should run      Missing: start, or it was lost
    anything                        nothing, or one ended for good,  Remove: nobody wants it
                                    or one of another node

"Should run" includes components that are ending: their keepers finish that.  The comparison is made
once per connection to the container controller, before anything is started over it.

Platform document §4.7.3; architecture, "agents may be killed at any moment".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from paas.controller.instances import Instance
from paas.controller.ports import ContainerFact


@dataclass(frozen=True, slots=True)
class Adopt:
    """It runs: watch it from now on."""

    component: str
    fact: ContainerFact


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended while nobody looked."""

    component: str
    fact: ContainerFact


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no container for it."""

    component: str


@dataclass(frozen=True, slots=True)
class Remove:
    """There is a container that nobody wants."""

    component: str


Verdict: TypeAlias = Adopt | Ended | Missing | Remove


def compare(
    node: str, instances: Iterable[Instance], facts: Iterable[ContainerFact]
) -> list[Verdict]:
    """One verdict for every component of this node and every container on it."""
    wanted = {i.id: i for i in instances if i.node == node and not i.ended}
    verdicts: list[Verdict] = []
    present = set()
    for fact in facts:
        present.add(fact.component)
        if fact.component not in wanted:
            verdicts.append(Remove(fact.component))
        elif fact.running:
            verdicts.append(Adopt(fact.component, fact))
        else:
            verdicts.append(Ended(fact.component, fact))
    return verdicts + [Missing(c) for c in wanted if c not in present]
