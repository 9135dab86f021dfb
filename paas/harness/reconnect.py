"""The way to the hub: what is sent, what is held, what is sent again, and what is reported lost.

    DISCONNECTED ──connect──> GREETING ──hello accepted──> ATTACHED
          ^──────────── back-off ────────────┴──────lost───────┘

Requests of the component go out only to a hub that has accepted us; meanwhile they are held for a
short time, within bounds, then answered `not-available`, since nobody has seen them.  When a hub is
lost, requests that it had are answered `unknown-outcome`: it may have done them.  Log records are
sent again (the hub knows them by sequence number), watches are opened again, and the present phase
goes with every greeting, so phases are not repeated.  All of it for ever: a component does not end
because its hub did.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

import msgspec

from paas.base.errors import PlatformError
from paas.base.limits import CALL_TIMEOUT_S_MAX
from paas.base.retry import Backoff
from paas.harness import limits
from paas.harness.capture import Capture
from paas.harness.lifecycle import UPLINK, Phase, UplinkEvent, UplinkState
from paas.harness.messages import HELLO, PHASE, RECORDS, Hello, PhaseChange
from paas.harness.outbox import Outbox
from paas.harness.tracing import Tracing
from paas.rpc.connection import Answer, Connection
from paas.rpc.envelope import Form, Request
from paas.wire import codec

_BACKOFF = Backoff(limits.RECONNECT_FIRST_S, cap_s=limits.RECONNECT_CAP_S)


class Head(msgspec.Struct):
    """The members of any params that say how long their sender waits."""

    timeout: float | None = None
    deadline: float | None = None
    trace: str | None = None


_head = msgspec.msgpack.Decoder(Head)


def read_head(params: bytes) -> Head:
    """Those members of some params; raises `invalid`."""
    try:
        return _head.decode(params)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise PlatformError("invalid", f"params: {exc}", field="params", param="params") from None


def remaining_s(head: Head, wall_s: float, default_s: float) -> float:
    """How long the sender of a request waits; raises `invalid`."""
    if head.deadline is not None:
        left_s = head.deadline - wall_s
    else:
        left_s = default_s if head.timeout is None else head.timeout
    if math.isnan(left_s):
        raise PlatformError("invalid", "timeout: expected a number", field="timeout")
    return min(left_s, CALL_TIMEOUT_S_MAX)


@dataclass(slots=True, eq=False)
class Held:
    """A request that waits for a hub; `sent` once there was one."""

    method: str
    params: bytes
    answer: Answer
    until_s: float
    sent: tuple[Connection, int] | None = None


Sent = Held | tuple[Connection, int]
"""A request to the hub: by which number on which connection, once it has left."""


class Uplink:
    """Core of the connection to the hub.  The owner sets `now_s` and `wall_s` before each use."""

    def __init__(self, component: str, incarnation: int, capture: Capture) -> None:
        self.state = UPLINK.initial
        self.outbox = Outbox()
        self.now_s = 0.0
        self.wall_s = 0.0
        self.attempts = 0
        self.next_attempt_s = 0.0
        self.newly_attached = False
        self.tracing = Tracing(
            f"{component}:{incarnation}".encode()[:64], self._wall_ns, self.notify
        )
        self._component = component
        self._incarnation = incarnation
        self._capture = capture
        self._phase: Phase = Phase.INITIALIZING
        self._greeted_phase: Phase = Phase.INITIALIZING
        self._reason = ""
        self._connection = Connection(Form.COMPACT)
        self._held: deque[Held] = deque()
        self._held_bytes = 0
        self._hello_deadline_s = 0.0

    def _wall_ns(self) -> int:
        return int(self.wall_s * 1e9)

    # -- life of the connection ------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The present connection: an answer to a request of an earlier one is not sent."""
        return self._connection

    @property
    def attached(self) -> bool:
        return self.state is UplinkState.ATTACHED

    def connected(self) -> None:
        """A socket to a hub is open: greet."""
        self.state = UPLINK.next(self.state, UplinkEvent.CONNECT)
        self._connection = Connection(Form.COMPACT)
        self.outbox.clear()
        hello = Hello(
            component=self._component,
            incarnation=self._incarnation,
            phase=self._phase.value,
            reason=self._reason,
            log_sequence=self._capture.acknowledged,
        )
        self._greeted_phase = self._phase
        self._hello_deadline_s = self.now_s + limits.HELLO_TIMEOUT_S
        _, data = self._connection.request(
            HELLO.name, codec.pack(hello), self._greeted, self._hello_deadline_s
        )
        self.outbox.add(data)

    def _greeted(self, value: bytes | PlatformError) -> None:
        if isinstance(value, PlatformError) or self.state is not UplinkState.GREETING:
            self._hello_deadline_s = 0.0  # refused: `overdue` from now on
            return
        self.state = UPLINK.next(self.state, UplinkEvent.ACCEPT)
        self.attempts = 0
        self.newly_attached = True
        if self._greeted_phase is not self._phase:
            # The greeting said the phase before; and until it is accepted nothing else is heard.
            self._tell_phase()
        held, self._held = self._held, deque()
        self._held_bytes = 0
        for item in held:
            head = read_head(item.params)
            sent = self._send(item.method, item.params, item.answer, head)
            item.sent = sent if isinstance(sent, tuple) else None

    @property
    def overdue(self) -> bool:
        """The hub refused us or does not answer: the owner should hang up."""
        return self.state is UplinkState.GREETING and self.now_s >= self._hello_deadline_s

    def lost(self, fraction: float) -> None:
        """No connection, or no longer; `fraction` in [0, 1) is the jitter of the next attempt."""
        if self.state is not UplinkState.DISCONNECTED:
            self.state = UPLINK.next(self.state, UplinkEvent.LOSE)
        self.attempts += 1
        self.next_attempt_s = self.now_s + _BACKOFF.delay_s(self.attempts, fraction)
        self.outbox.clear()
        self._connection.end(
            PlatformError("unknown-outcome", "the hub was lost before it answered", where="hub")
        )

    def receive(self, data: bytes) -> list[Request]:
        """Bytes of the hub; raises RemoteError when they make no sense."""
        requests = self._connection.receive(data)
        self.outbox.add(self._connection.take_outbox())
        return requests

    # -- out -------------------------------------------------------------------------------------

    def request(self, method: str, params: bytes, answer: Answer) -> Sent:
        """A request to the hub; `answer` is called exactly once.  Raises PlatformError."""
        head = read_head(params)
        if head.trace is not None:
            params, answer = self.tracing.asked(head.trace, method, params, answer)
        return self._send(method, params, answer, head)

    def _send(self, method: str, params: bytes, answer: Answer, head: Head) -> Sent:
        left_s = remaining_s(head, self.wall_s, CALL_TIMEOUT_S_MAX)
        if not self.attached:
            return self._hold(method, params, answer, left_s)
        deadline_s = self.now_s + left_s + limits.ANSWER_MARGIN_S
        connection = self._connection
        identity, data = connection.request(method, params, answer, deadline_s)
        self.outbox.add(data)
        return connection, identity

    def abandon(self, sent: Sent) -> None:
        """The answer is no longer wanted: the hub is told, if it knows of the request at all."""
        if isinstance(sent, Held):
            if sent in self._held:
                self._held.remove(sent)
                self._held_bytes -= len(sent.params)
                sent.answer(PlatformError("cancelled"))
            if sent.sent is None:
                return
            sent = sent.sent
        on, identity = sent
        if on is self._connection:
            self.outbox.add(on.abandon(identity))

    def _hold(self, method: str, params: bytes, answer: Answer, left_s: float) -> Held:
        full = len(self._held) >= limits.HELD_REQUESTS_MAX
        if full or self._held_bytes + len(params) > limits.HELD_BYTES_MAX:
            raise _no_hub()
        until_s = self.now_s + min(left_s, limits.HOLD_S)
        held = Held(method, params, answer, until_s)
        self._held.append(held)
        self._held_bytes += len(params)
        return held

    def notify(self, method: str, params: bytes) -> None:
        """A notification; without a hub it is lost, as notifications may be."""
        if self.attached:
            self.outbox.add(self._connection.notify(method, params))

    def answer(self, on: Connection, request: Request, value: bytes | PlatformError) -> None:
        """Answer a request of the hub, if it is still the same hub."""
        if on is not self._connection or self.state is UplinkState.DISCONNECTED:
            return
        if isinstance(value, PlatformError):
            self.outbox.add(on.fail(request, value))
        else:
            self.outbox.add(on.reply(request, value))

    def phase(self, phase: Phase, reason: str) -> None:
        """The component's phase has changed."""
        self._phase, self._reason = phase, reason
        if self.attached:
            self._tell_phase()

    def _tell_phase(self) -> None:
        self._greeted_phase = self._phase
        change = PhaseChange(phase=self._phase.value, reason=self._reason)
        self.outbox.add(self._connection.notify(PHASE.name, codec.pack(change)))

    # -- records and time ------------------------------------------------------------------------

    def pump_records(self, *, now: bool = False) -> None:
        """Send a batch of records when it is time for one."""
        capture = self._capture
        if not self.attached or capture.empty:
            return
        due = capture.oldest_s is not None and self.now_s >= (
            capture.oldest_s + limits.BATCH_PERIOD_S
        )
        if not (now or due or capture.queued_bytes >= limits.BATCH_BYTES or capture.crowded):
            return
        body = capture.batch()
        if body is not None:
            deadline_s = self.now_s + limits.HELLO_TIMEOUT_S
            _, data = self._connection.request(RECORDS.name, body, self._recorded, deadline_s)
            self.outbox.add(data)

    def _recorded(self, value: bytes | PlatformError) -> None:
        lost: tuple[Literal["timeout"], Literal["unknown-outcome"]] = ("timeout", "unknown-outcome")
        again = isinstance(value, PlatformError) and value.code in lost
        self._capture.settle(not again, self.now_s)
        if not again:
            self.pump_records()

    def tick(self) -> None:
        """Time has passed: answer what is overdue."""
        self._connection.expire(self.now_s)
        if self.state is not UplinkState.DISCONNECTED:
            self.outbox.add(self._connection.take_outbox())
        while self._held and self._held[0].until_s <= self.now_s:
            item = self._held.popleft()
            self._held_bytes -= len(item.params)
            item.answer(_no_hub())
        self.pump_records()

    def next_deadline_s(self) -> float | None:
        """When `tick` has something to do, roughly."""
        if self._held or self._connection.waiting:
            return self.now_s + limits.SWEEP_PERIOD_S
        if self.attached and self._capture.oldest_s is not None:
            return self._capture.oldest_s + limits.BATCH_PERIOD_S
        return None


def _no_hub() -> PlatformError:
    return PlatformError(
        "not-available",
        "no hub can be reached at the moment",
        hint="repeat it in a few seconds",
        where="hub",
    )
