"""Byte streams beside requests, on any connection: four notifications (numbers 140-149).

A stream is opened by a request of another method (`controller.exec`, …) whose parameters give it a
number and whose result accepts it.  From then on both sides send data, within the credit that the
other side has given; each ends its direction; either may break the stream off.

`stream` is positive in the messages of the side that gave the number, negative in those of the
other: so both sides of a connection may open streams.
"""

from __future__ import annotations

from typing import Any

from paas.rpc.stream_limits import WINDOW_BYTES
from paas.wire.registry import Message, Nothing, Params, method


class Opening(Params, frozen=True, kw_only=True):
    """Base of the parameters that open a stream.

    `stream` is a positive number that no living stream of this connection and caller has; `window`
    how many bytes the caller takes before it gives more credit.
    """

    stream: int
    window: int = WINDOW_BYTES


class Opened(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The stream is open; `window` is how many bytes the other side takes for a beginning."""

    window: int


class Data(Params, frozen=True, kw_only=True):
    """Bytes of a stream.  In JSON they are base64.  A notification.

    `channel` 0 is the stream itself; the output and the errors of a program are 1 and 2.  Data
    beyond the credit breaks the stream off; for a stream that is not known it is ignored.
    """

    stream: int
    data: bytes
    channel: int = 0


class Credit(Params, frozen=True, kw_only=True):
    """The sender of this takes so many bytes more on the stream.  A notification."""

    stream: int
    bytes: int


class End(Params, frozen=True, kw_only=True):
    """No more data follows in this direction; `result` says how it came to its end, if there is
    more to say.  A notification.
    """

    stream: int
    result: Any = None


class Reset(Params, frozen=True, kw_only=True):
    """The stream is broken off, in both directions, for this reason (as the error member of an
    answer).  A notification.
    """

    stream: int
    error: Any = None


DATA = method(140, "stream.data", Data, Nothing)
CREDIT = method(141, "stream.credit", Credit, Nothing)
END = method(142, "stream.end", End, Nothing)
RESET = method(143, "stream.reset", Reset, Nothing)
