"""What the data path asks of whoever knows routes and members.

    edge ── members(route) ──────> which members a request may go to, by their present state
         ── begin(member) / end ─> what a departure waits for: requests and WebSockets under way
         ── call, open, message, close ──> routes of kind `operation`
    edge.deliver(…) <── what a component pushes to one connection (`gateway.send`)

`static.py` implements it from a file; the gateway component implements it by `gateway.follow` and
`hub.call`.  A `Member` is an entry of one route and stays the same object for as long as the member
is the same incarnation: its state is changed in place, for requests under way hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from paas.gateway.breaker import Breaker
from paas.gateway.messages import HttpAnswer, HttpRequest, MemberState, Route
from paas.gateway.router import Router


@dataclass(slots=True, eq=False)
class Member:
    """One member of a route's group."""

    component: str
    host: str
    port: int
    incarnation: int = 1
    node: str = ""
    weight: int = 100
    """Relative; 0 gets nothing new.  Of the whole route, `weights` of it included."""

    state: MemberState = "serving"
    ended: bool = False
    """Its incarnation is over: what waits for it is cut off.  One that is gone may live still, and
    answers what it was sent."""

    drain_until: float = 0.0
    """While it leaves: the moment, by trio's clock, at which its WebSockets are closed."""

    in_flight: int = 0
    """Requests and WebSockets of this gateway under way; kept by the edge."""

    breaker: Breaker = field(default_factory=Breaker)
    standing: float = 0.0
    """Its standing in the turn of weighted members; kept by balance.py."""

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class OperationFailed(Exception):
    """A call of an operation that has no answer for the browser.

    `status` is 502, 503 or 504; `detail` says to people what happened.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class Backends(Protocol):
    """See the module's text."""

    @property
    def router(self) -> Router:
        """The routes as they are now."""

    def members(self, route: Route) -> Sequence[Member]:
        """Members of a route of kind `endpoint` that serve or leave."""

    def begin(self, member: Member) -> None:
        """A request or WebSocket goes to the member; `in_flight` is counted already."""

    def end(self, member: Member) -> None:
        """It is answered, or over; `in_flight` is counted already."""

    async def call(
        self, route: Route, request: HttpRequest, body: bytes
    ) -> tuple[HttpAnswer, bytes]:
        """Ask some member, another one when that is safe.  Raises OperationFailed."""

    async def open(self, route: Route, request: HttpRequest) -> HttpAnswer:
        """Offer a WebSocket to some member (`<operation>.open`).  Raises OperationFailed."""

    async def message(self, connection: str, kind: Literal["text", "binary"], data: bytes) -> None:
        """A WebSocket's message, to the member that accepted it.  May wait: back-pressure."""

    async def close(self, connection: str, code: int, reason: str) -> None:
        """The WebSocket or stream is over; once for each that was opened."""
