"""One request and its answer, whichever version of HTTP carries them; and how they are timed.

Who serves a connection makes an `Exchange` of each request; who forwards it, answers from a file or
calls an operation knows only this class.

Times are deadlines in three fields, one for each side that can be slow: the browser as a sender,
the member, the browser as a receiver.  Setting one is an assignment, for it happens several times a
request; `Watch` (edge) looks at all of them four times a second and cuts off what is late.
"""

from __future__ import annotations

import math
from typing import Any

from paas.gateway.http.budget import Budget
from paas.gateway.http.head import UNKNOWN, Headers, RequestHead
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.http.problem import TYPE, Problem, document

NEVER = math.inf


class Timed:
    """What has deadlines.  `cut` ends it for a reason, from another task."""

    __slots__ = ("__weakref__", "by_browser", "by_member", "by_reader", "reason")

    def __init__(self) -> None:
        self.by_browser = NEVER
        """The browser has to send something until then."""
        self.by_member = NEVER
        """The member has to say something until then."""
        self.by_reader = NEVER
        """The browser has to take something until then."""
        self.reason = ""
        """Why it was cut: `browser`, `member`, `reader`, `gone`, `end`."""

    def late(self, now: float) -> str:
        """Whose deadline is over; empty: nobody's."""
        if now >= self.by_member:
            return "member"
        if now >= self.by_browser:
            return "browser"
        return "reader" if now >= self.by_reader else ""

    def cut(self, reason: str) -> None:
        raise AssertionError(reason)


class Exchange(Timed):
    """See the module's text."""

    __slots__ = (
        *("head", "limits", "peer", "remote", "scheme", "request_id", "began", "started", "status"),
        *("received", "sent", "body_done", "body_max", "member", "tries", "route", "trusted_peer"),
        *("outcome", "names", "held"),
    )

    def __init__(
        self, head: RequestHead, limits: EdgeLimits, peer: str, scheme: str, request_id: str
    ) -> None:
        super().__init__()
        self.head = head
        self.limits = limits
        self.peer = peer
        """The address at the other end of the connection."""
        self.remote = peer
        """The browser's address, which a trusted proxy may have told us."""
        self.trusted_peer = False
        self.scheme = scheme
        self.request_id = request_id
        self.began = 0.0
        self.started = False
        """The answer's head was said; nothing else can be answered any more."""
        self.status = 0
        self.received = 0
        """Bytes of the request's body that came."""
        self.sent = 0
        """Bytes of the answer's body."""
        self.body_done = head.length == 0
        self.body_max = 0
        self.member = ""
        self.route = ""
        self.tries = 0
        self.outcome = ""
        self.held = 0
        """Bytes of its body that are counted as held."""
        self.names: frozenset[str] = frozenset()
        """The hosts that its connection is for, if it is for some only (RFC 9110 §7.4)."""

    async def body(self) -> bytes:
        """The next piece of the request's body, nothing at its end.

        Raises Problem (408, 413, 400).
        """
        raise AssertionError

    async def whole_body(self, budget: Budget) -> bytes:
        """All of the body, which is bounded by `body_max`.  It is held until `let_go`."""
        pieces = []
        while piece := await self.body():
            budget.take(len(piece))
            self.held += len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def let_go(self, budget: Budget) -> None:
        """The body is not needed any more."""
        budget.give_back(self.held)
        self.held = 0

    def check_body(self, bytes_max: int) -> None:
        """Set the bound of the body; raises Problem (413) when it is known to be longer."""
        self.body_max = bytes_max
        if self.head.length > bytes_max:
            raise Problem(413, f"a body has at most {bytes_max} bytes here")

    def count_body(self, count: int) -> None:
        self.received += count
        if self.received > self.body_max:
            raise Problem(413, f"a body has at most {self.body_max} bytes here")

    async def start(self, status: int, headers: Headers, length: int) -> None:
        """The answer's head; `length` UNKNOWN when nobody knows it.  May be held back a moment."""
        raise AssertionError

    def unsay(self) -> bool:
        """Take the answer's head back, if nothing of it has left yet."""
        return False

    async def write(self, data: bytes) -> None:
        """A piece of the answer's body."""
        raise AssertionError

    async def flush(self) -> None:
        """Send what is held back."""
        raise AssertionError

    async def end(self) -> None:
        """The answer is complete."""
        raise AssertionError

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer; for a HEAD without the body, whose length is told."""
        await self.start(status, headers, len(body))
        if body and self.head.method != "HEAD" and status not in (204, 304):
            await self.write(body)
        await self.end()

    async def refuse(self, problem: Problem) -> None:
        """A problem document."""
        body = document(problem.status, problem.detail, self.request_id)
        headers = [("content-type", TYPE), ("cache-control", "no-store"), *problem.headers]
        headers.append(("x-request-id", self.request_id))
        await self.answer(problem.status, headers, body)

    async def upgrade(self, headers: Headers) -> Any:
        """Leave HTTP (101); the wire is the caller's then."""
        raise AssertionError

    @property
    def streams_body(self) -> bool:
        """Is its body sent on as it comes, and not kept?"""
        length = self.head.length
        return length == UNKNOWN or length > self.limits.replay_bytes_max
