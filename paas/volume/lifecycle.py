"""The life of the volumes of one owner.  They are together on one node, or on none.

    none ──place──> held ──move──> moving ──moved──> held (elsewhere)
      ^─────lose────┘  ^────stay─────┘

In `none` the next place is anywhere, and what is found there is empty.  Only in `held` may a
component be placed, and only on the node that holds them.
"""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class HoldingState(enum.StrEnum):
    NONE = "none"
    HELD = "held"
    MOVING = "moving"


class HoldingEvent(enum.StrEnum):
    PLACE = "place"
    """A component of the owner got a node."""
    MOVE = "move"
    """Somebody wants them on another node."""
    MOVED = "moved"
    """The other node has all of them, verified."""
    STAY = "stay"
    """The move is given up: the node that has them keeps them."""
    LOSE = "lose"
    """Their node is lost, and an empty beginning elsewhere was asked for."""


_S, _E = HoldingState, HoldingEvent

HOLDING: Table[HoldingState, HoldingEvent] = Table(
    "volumes",
    HoldingState,
    _S.NONE,
    {
        _S.NONE: {_E.PLACE: _S.HELD},
        _S.HELD: {_E.PLACE: _S.HELD, _E.MOVE: _S.MOVING, _E.LOSE: _S.NONE},
        _S.MOVING: {_E.MOVED: _S.HELD, _E.STAY: _S.HELD, _E.LOSE: _S.NONE},
    },
)
