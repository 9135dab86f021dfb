"""What single objects of the platform do when nobody disturbs them: the yardstick for histories.

A model is a sequential object: from one state and one operation it tells whether the operation's
result is right there, and the state afterwards.  States are immutable and hashable.  The checker
(history.py) asks whether the operations of many clients can be put in an order that a model
accepts.

`known` is false when the operation's outcome never came: then any result is accepted, and the state
is the one that follows if the operation took effect.  (That it may as well have had no effect is
the checker's part.)

  Register   read, write, compare and set
  Group      join and leave: position, number of members, fencing token
  Claim      a name, or a place in a group, that at most one holds at a time
  Counter    additions under command identities: each is counted once
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol


class Model(Protocol):
    """See the module's text."""

    def initial(self) -> Hashable: ...

    def step(
        self, state: Any, kind: str, argument: Any, result: Any, known: bool
    ) -> tuple[bool, Hashable]:
        """Is the result right, and what is the state then?"""
        ...


class Register:
    """`read` -> value, `write` value, `cas` (old, new) -> whether it was old."""

    def __init__(self, initial: Hashable = None) -> None:
        self._initial = initial

    def initial(self) -> Hashable:
        return self._initial

    def step(
        self, state: Any, kind: str, argument: Any, result: Any, known: bool
    ) -> tuple[bool, Hashable]:
        if kind == "read":
            return not known or result == state, state
        if kind == "write":
            return True, argument
        old, new = argument
        hit = state == old
        return not known or result is hit, new if hit else state


class Group:
    """`join` member -> (position, members, token); `leave` member.

    Positions count from 1 in the order of joining.  Who is a member already keeps position and
    token; a new member's token is larger than all before.  A join whose token nobody heard leaves
    the member's token open (0) until an operation tells it.
    """

    def initial(self) -> Hashable:
        return ((), 0)

    def step(
        self, state: Any, kind: str, argument: Any, result: Any, known: bool
    ) -> tuple[bool, Hashable]:
        members, last = state
        names = [name for name, _ in members]
        if kind == "leave":
            return True, (tuple(m for m in members if m[0] != argument), last)
        if argument in names:
            place = names.index(argument)
            if not known:
                return True, state
            held = members[place][1]
            right = result[:2] == (place + 1, len(members)) and (
                result[2] == held if held else result[2] > self._before(members, place)
            )
            told = (*members[:place], (argument, result[2]), *members[place + 1 :])
            return right, (told, max(last, result[2]))
        if not known:
            return True, ((*members, (argument, 0)), last)
        right = result[:2] == (len(members) + 1, len(members) + 1) and result[2] > last
        return right, ((*members, (argument, result[2])), result[2])

    @staticmethod
    def _before(members: tuple[tuple[str, int], ...], place: int) -> int:
        return max((token for _, token in members[:place]), default=0)


class Claim:
    """`claim` owner -> whether it is its own now; `release` owner; `holder` -> owner or None."""

    def initial(self) -> Hashable:
        return None

    def step(
        self, state: Any, kind: str, argument: Any, result: Any, known: bool
    ) -> tuple[bool, Hashable]:
        if kind == "holder":
            return not known or result == state, state
        if kind == "release":
            return True, None if state == argument else state
        granted = state is None or state == argument
        return not known or result is granted, argument if granted else state


class Counter:
    """`add` (identity, amount) -> the sum then; the same identity again -> the first answer.

    `read` -> the sum.
    """

    def initial(self) -> Hashable:
        return (0, ())

    def step(
        self, state: Any, kind: str, argument: Any, result: Any, known: bool
    ) -> tuple[bool, Hashable]:
        total, done = state
        if kind == "read":
            return not known or result == total, state
        identity, amount = argument
        for name, answer in done:
            if name == identity:
                return not known or result == answer, state
        total += amount
        return not known or result == total, (total, (*done, (identity, total)))
