"""Ways to a component: its harness, if it is attached to this hub, or the hub of its node.

    Attachment   component.invoke to the harness, with a deadline of this node's clock
    Far          hub.forward to the other hub, with the time that is left

Both take the same message and are bounded: a component that does not read, or a link to a node that
is slower than its senders, costs callers a `limit-exceeded` and nobody memory.  A way is used at
once and not kept.  Nothing is sent twice: a call whose connection breaks ends as `unknown-outcome`
(rpc.connection), a cast is lost with it (platform document §4.7.2: at most once).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.harness.messages import INVOKE, Invoke
from paas.hub import limits
from paas.hub.loads import Loads, with_load
from paas.hub.messages import FORWARD, Forward
from paas.rpc.peer import Peer
from paas.wire import codec

Answer = Callable[[bytes | PlatformError], None]


class Links(Protocol):
    """Connections to other hubs."""

    def peer(self, node: str) -> Peer | None:
        """The hub of this node; None while it cannot be reached."""
        ...

    def connected(self) -> list[str]:
        """The nodes that can be reached."""
        ...

    def subscribe(self, up: Callable[[str, Peer], None], down: Callable[[str], None]) -> None:
        """Hear of nodes; `up` at once of those that can be reached."""
        ...


class NoLinks:
    """A cluster of one node."""

    def peer(self, node: str) -> Peer | None:
        return None

    def connected(self) -> list[str]:
        return []

    def subscribe(self, up: Callable[[str, Peer], None], down: Callable[[str], None]) -> None:
        """Nobody will ever come."""


class Route(Protocol):
    """A way to one component."""

    @property
    def component(self) -> str: ...

    @property
    def peer(self) -> Peer: ...

    def admit(self) -> None:
        """Raises `limit-exceeded` when too much waits on this way."""
        ...

    def send(self, message: Forward, answer: Answer, timeout_s: float, clock: Clock) -> int | None:
        """A call; `answer` is called once, perhaps before this returns (None then).  The number is
        that of the request of `peer`, by which it can be abandoned.
        """
        ...

    def tell(self, message: Forward, clock: Clock) -> None:
        """A cast.  Raises what could not be sent."""
        ...


@dataclass(slots=True, eq=False)
class Attachment:
    """One attached harness: its connection and what its component is ready for."""

    component: str
    peer: Peer
    ready: bool = False
    waiting: int = 0
    delivered: int = 0
    refused: int = 0
    sampled: int = 0
    """`delivered` when rates were last looked at (rates.py)."""

    def admit(self) -> None:
        queued = self.peer.link.queued_bytes
        if self.waiting >= limits.INVOCATIONS_MAX or queued > limits.MAILBOX_BYTES_MAX:
            self.refused += 1
            raise PlatformError(
                "limit-exceeded",
                f"{self.waiting} calls wait for {self.component[:8]} already",
                component=self.component,
            )

    def send(self, message: Forward, answer: Answer, timeout_s: float, clock: Clock) -> int | None:
        self.waiting += 1
        self.delivered += 1

        def done(value: bytes | PlatformError) -> None:
            self.waiting -= 1
            if message.load and isinstance(value, bytes):
                value = with_load(value, self.waiting)
            answer(value)

        body = codec.pack(_invocation(message, timeout_s, clock, oneway=False))
        return self.peer.send_request(INVOKE.name, body, done, timeout_s=timeout_s)

    def tell(self, message: Forward, clock: Clock) -> None:
        assert message.timeout is not None
        body = codec.pack(_invocation(message, message.timeout, clock, oneway=True))
        self.peer.notify_raw(INVOKE.name, body)
        self.delivered += 1


@dataclass(frozen=True, slots=True)
class Far:
    """A component on another node, reached through its hub."""

    component: str
    node: str
    peer: Peer
    loads: Loads

    def admit(self) -> None:
        queued = self.peer.link.queued_bytes
        if queued > limits.LINK_BYTES_MAX:
            text = f"{queued} bytes wait to be sent to node {self.node}"
            raise PlatformError("limit-exceeded", text, node=self.node)

    def send(self, message: Forward, answer: Answer, timeout_s: float, clock: Clock) -> int | None:
        body = codec.pack(message)
        self.loads.began(self.component)

        def done(value: bytes | PlatformError) -> None:
            self.loads.ended(self.component)
            if message.load:
                self.loads.heard(self.component, value)
            answer(value)

        return self.peer.send_request(FORWARD.name, body, done, timeout_s=timeout_s)

    def tell(self, message: Forward, clock: Clock) -> None:
        self.peer.notify_raw(FORWARD.name, codec.pack(message))


def _invocation(message: Forward, timeout_s: float, clock: Clock, *, oneway: bool) -> Invoke:
    return Invoke(
        operation=message.operation,
        object=message.object,
        inputs=message.inputs,
        attachments=message.attachments,
        from_=message.from_,
        deadline=clock.now_ms() / 1000 + timeout_s,
        trace=message.trace,
        oneway=oneway,
        message=message.message,
    )
