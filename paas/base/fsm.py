"""Life-cycles as tables: states, events and edges in one place; code asks, diagrams are drawn.

A move that the table does not have is an error of the caller and changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=enum.StrEnum)
E = TypeVar("E", bound=enum.StrEnum)


class IllegalTransition(Exception):
    """Our own caller asked for a move that the table does not have."""


@dataclass(frozen=True, slots=True)
class Table(Generic[S, E]):
    """One life-cycle: every state has a row, a row maps events to next states."""

    name: str
    states: type[S]
    initial: S
    edges: Mapping[S, Mapping[E, S]]

    def __post_init__(self) -> None:
        if set(self.edges) != set(self.states):
            raise AssertionError(f"{self.name}: every state needs a row, even an empty one")

    def next(self, state: S, event: E) -> S:
        """The state after `event`; raises IllegalTransition when the table has no such edge."""
        try:
            return self.edges[state][event]
        except KeyError:
            raise IllegalTransition(f"{self.name}: {event} is not allowed in {state}") from None

    def allows(self, state: S, event: E) -> bool:
        return event in self.edges[state]

    def final(self, state: S) -> bool:
        """No way leads out of this state."""
        return not self.edges[state]

    def walk(self) -> Iterator[tuple[S, E, S]]:
        """Every edge: (from, event, to)."""
        for state, row in self.edges.items():
            for event, target in row.items():
                yield state, event, target

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram, for the reference documentation."""
        lines = [f"    {s} --> {t}: {e}" for s, e, t in self.walk()]
        return "\n".join(["stateDiagram-v2", f"    [*] --> {self.initial}", *lines])
