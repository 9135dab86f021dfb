"""Messages with the selector `hash` to a large group whose ring is not finished: they wait for it.

    call, cast ── RingUnfinished ──> park ──> slice after slice, others in between ──> again

What waits is tried again from the beginning: members may have come and gone, its time may be over,
its caller may have abandoned it.  It is bounded (PARKED_MAX), and who asks at once for a list of
members (`hub.members`) is told to ask again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.hub import limits
from paas.hub.consistent import Rings, RingUnfinished
from paas.rpc.envelope import Request
from paas.rpc.peer import Peer

logger = logging.getLogger(__name__)

Handler = Callable[[Peer, Request, Any, float], None]


class RingBuilder:
    """See the module's text.  `run` it."""

    def __init__(self, rings: Rings, clock: Clock) -> None:
        self._rings = rings
        self._clock = clock
        self._parked: dict[str, list[Callable[[], None]]] = {}
        self._count = 0
        self._wake = trio.Event()

    def attempt(
        self, handler: Handler, peer: Peer, request: Request, params: Any, timeout_s: float
    ) -> None:
        """Do a request, now or when the ring that it needs is finished."""
        try:
            handler(peer, request, params, timeout_s)
        except RingUnfinished as unfinished:
            if self._count >= limits.PARKED_MAX:
                text = f"{self._count} messages wait for rings already"
                raise PlatformError("limit-exceeded", text) from None
            until_s = self._clock.monotonic_s() + timeout_s
            again = partial(self._again, handler, peer, request, params, until_s)
            self._parked.setdefault(unfinished.group, []).append(again)
            self._count += 1
            self._wake.set()

    def _again(
        self, handler: Handler, peer: Peer, request: Request, params: Any, until_s: float
    ) -> None:
        left_s = until_s - self._clock.monotonic_s()
        try:
            if request.cancelled:
                raise PlatformError("cancelled")
            if left_s <= 0:
                raise PlatformError("timeout")
            self.attempt(handler, peer, request, params, left_s)
        except PlatformError as error:
            peer.fail(request, error)
        except Exception:  # our bug: this message gets no answer but that, nobody else suffers
            logger.exception("%s failed", request.method[:64])
            peer.fail(request, PlatformError("internal"))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            for group in list(self._parked):
                while self._rings.advance(group):
                    await trio.lowlevel.checkpoint()
                # Without a pause: a message that came later must not go before these.
                for again in self._parked.pop(group):
                    self._count -= 1
                    again()
            await trio.lowlevel.checkpoint()
            if not self._parked:
                self._wake = trio.Event()
