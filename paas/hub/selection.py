"""Selectors: which members of a group a message goes to (component API, "Targets").

Pure choice from a list of candidates in joining order.  `any` is fair: each caller of `choose`
advances one turn a group, so members that stay available are used evenly, whatever comes and goes.
`leader` is the member that joined first: the log decides it, not whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from paas.base.errors import invalid

SELECTORS = ("any", "all", "leader")


class Turns:
    """Whose turn it is in each group."""

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}

    def any(self, group: str, candidates: Sequence[str]) -> str:
        """One of the candidates (at least one), in turn."""
        turn = self._turns.get(group, 0)
        self._turns[group] = turn + 1
        return candidates[turn % len(candidates)]

    def forget(self, group: str) -> None:
        self._turns.pop(group, None)


def check(selector: str) -> None:
    """Raise `invalid` for an unknown selector."""
    if selector not in SELECTORS:
        raise invalid("selector", f"expected one of {', '.join(SELECTORS)}", param="selector")
