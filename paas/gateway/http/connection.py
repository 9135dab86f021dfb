"""What a connection of any version of HTTP has: its wire, who answers, how it is cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from paas.gateway.http.exchange import Exchange, Timed
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.http.problem import Problem
from paas.gateway.transport import Wire

Serve = Callable[[Exchange], Awaitable[None]]
"""Answers one exchange.  It may raise Problem before the answer is started; whatever else it raises
after that cuts the connection (or stream) off."""

_LATE = {
    "member": Problem(504, "the member did not answer in time"),
    "browser": Problem(408, "the request did not come in time"),
}


class Abandoned(Exception):
    """The exchange cannot be finished: the connection is cut off, so that it is seen."""


def late_answer(reason: str) -> Problem | None:
    """What is said to a browser whose exchange was cut for this reason, if anything."""
    return _LATE.get(reason)


class Connection(Timed):
    """One connection of a browser.  Owns the wire."""

    exchange: Exchange | None = None
    """What is under way, where that is one thing at a time."""

    def __init__(
        self,
        wire: Wire,
        peer: str,
        serve: Serve,
        limits: EdgeLimits,
        next_id: Callable[[], str],
        done: Callable[[Exchange], None],
    ) -> None:
        super().__init__()
        self.wire = wire
        self.peer = peer
        self.limits = limits
        self.ending = False
        """No further request: the gateway ends."""
        self.refused = 0
        self._serve = serve
        self._next_id = next_id
        self._done = done
        self._scope = trio.CancelScope()

    def cut(self, reason: str) -> None:
        self.reason = self.reason or reason
        if self.exchange is not None:
            self.exchange.reason = self.reason
        self._scope.cancel()

    def finish(self) -> None:
        """Answer what is under way, take nothing more."""
        self.ending = True
        if not self.busy():
            self.cut("end")

    def busy(self) -> bool:
        """Is a request under way?"""
        return self.exchange is not None

    async def run(self) -> None:
        """Until one side has had enough.  Closes the wire."""
        raise AssertionError
