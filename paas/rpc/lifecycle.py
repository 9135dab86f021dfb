"""The life of one end of a byte stream: each direction ends by itself, a break ends both."""

from __future__ import annotations

import enum

from paas.base.fsm import Table


class StreamState(enum.StrEnum):
    """What may still happen."""

    OPEN = "open"
    SENT = "sent"
    """We have ended our direction, the other side may still send."""
    HEARD = "heard"
    """The other side has ended its direction, we may still send."""
    OVER = "over"


class StreamEvent(enum.StrEnum):
    """What happens to it."""

    END = "end"
    PEER_ENDS = "peer_ends"
    BREAK = "break"


S, E = StreamState, StreamEvent

STREAM = Table(
    "stream",
    StreamState,
    S.OPEN,
    {
        S.OPEN: {E.END: S.SENT, E.PEER_ENDS: S.HEARD, E.BREAK: S.OVER},
        S.SENT: {E.PEER_ENDS: S.OVER, E.BREAK: S.OVER},
        S.HEARD: {E.END: S.OVER, E.BREAK: S.OVER},
        S.OVER: {},
    },
)
