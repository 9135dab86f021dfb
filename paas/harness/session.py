"""The harness's decisions: between the component's connections, its process, and the hub.

    component ──requests──> Session ──relayed──> hub          allowed names only, ids kept apart
    component <──invoke──── Session <──invoke─── hub          within its deadline, or not at all
    process   ──started, ended──> Session ──AskToEnd, KillAll──> process

Bytes in, bytes in outboxes and effects out; it awaits nothing and knows no time but `now_s` (which
only grows) and `wall_s`, which the loop sets before each step.

Rules.  The connection that said `component.ready` is the primary one and gets the hub's requests;
if it closes, the component is unavailable until another says so.  A request that has expired never
reaches the component; a late or second answer is dropped.  Garbage is answered and forgiven, except
when the next message cannot be found.  A component that does not read is refused for its callers
and is not read from; nothing grows.  What is not on the list of relayed names does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from paas.base.errors import PlatformError, RemoteError
from paas.base.limits import CALL_TIMEOUT_S_DEFAULT, FRAME_BYTES_MAX
from paas.harness import limits
from paas.harness.capture import Capture, Level
from paas.harness.channel import Channel, is_map
from paas.harness.lifecycle import COMPONENT, Phase, PhaseEvent
from paas.harness.messages import (
    CONFIGURE,
    EVENT,
    INVOKE,
    STOP,
    TERMINATE,
    ExitNotice,
    Stop,
    TerminateResult,
    Unavailable,
)
from paas.harness.reconnect import Uplink, read_head, remaining_s
from paas.harness.relay import Relay, send_notification
from paas.harness.settings import Handoff
from paas.logs.messages import WRITE, Write
from paas.rpc.connection import Answer, Connection
from paas.rpc.envelope import EMPTY_BODY, Request
from paas.wire import codec
from paas.wire.registry import decode

_GONE = "the component closed its connection"
SEQUENCE_BITS = 40
"""Records of one incarnation: numbers of the next are larger, so a hub takes them for new."""


@dataclass(frozen=True, slots=True)
class AskToEnd:
    """Send the terminate signal to the component's process."""


@dataclass(frozen=True, slots=True)
class KillAll:
    """Kill every process of the container but this one."""


Effect = AskToEnd | KillAll


@dataclass(frozen=True, slots=True)
class Ending:
    """How the component ended: the content of the exit file."""

    code: int | None
    signal: int | None
    reason: str


class Session:
    """Core of one harness."""

    def __init__(self, handoff: Handoff) -> None:
        first = (max(handoff.incarnation, 1) - 1 << SEQUENCE_BITS) + 1
        self.capture = Capture(handoff.log, first)
        self.uplink = Uplink(handoff.component, handoff.incarnation, self.capture)
        self.channels: dict[int, Channel] = {}
        self.effects: list[Effect] = []
        self.phase = COMPONENT.initial
        self.phase_reason = ""
        self.ending: Ending | None = None
        self.now_s = 0.0
        self.wall_s = 0.0
        self._protocol = handoff.protocol
        self._ready_timeout_s = handoff.ready_timeout_s
        configuration = {} if handoff.configuration is None else handoff.configuration
        self._configuration = codec.pack({"configuration": configuration})
        self._primary: Channel | None = None
        self._configured = False
        self._relay = Relay(self.uplink, self.channels)
        self._last_channel = 0
        self._ready_deadline_s: float | None = None
        self._term_deadline_s: float | None = None
        self._kill_deadline_s: float | None = None
        self._gone_deadline_s: float | None = None
        self._stop_reason = ""
        self._leaving = False

    def at(self, now_s: float, wall_s: float) -> None:
        """It is now this time; the loop says so before every step."""
        self.now_s = self.uplink.now_s = now_s
        self.wall_s = self.uplink.wall_s = wall_s

    def note(self, level: Level, message: str, **fields: Any) -> None:
        """A record of the harness itself among those of its component."""
        wall_ms = int(self.wall_s * 1000)
        self.capture.write("harness", level, message, fields, self.now_s, wall_ms)

    # -- the process -----------------------------------------------------------------------------

    def started(self) -> None:
        """The component's program is executing."""
        if self._protocol == "none":
            self._move(PhaseEvent.READY)
        elif self.phase is Phase.INITIALIZING:
            self._ready_deadline_s = self.now_s + self._ready_timeout_s

    def start_failed(self, text: str) -> None:
        self.note("error", f"cannot start: {text}")
        self._end(Ending(None, None, f"start-failed:{text}"))

    def ended(self, code: int | None, number: int | None = None, name: str = "") -> None:
        """The component's process is gone: exit code, or number and name of the signal."""
        self._end(Ending(code, number, self._reason(code, name)))

    def _end(self, ending: Ending) -> None:
        self.ending = ending
        self._ready_deadline_s = self._term_deadline_s = self._kill_deadline_s = None
        self._primary = self._gone_deadline_s = None
        for channel in list(self.channels.values()):
            self.channel_closed(channel)
        self._move(PhaseEvent.EXIT, ending.reason)

    def _reason(self, code: int | None, signal_name: str) -> str:
        if self._stop_reason:
            return self._stop_reason
        if self._leaving and signal_name in ("SIGTERM", "SIGKILL"):
            return "normal"
        if signal_name:
            return f"signal:{signal_name}"
        return "normal" if code == 0 else f"exit:{code}"

    def stop(self, grace_s: float, reason: str) -> None:
        """End the component; asking again may only hasten it."""
        if self.phase is Phase.EXITED:
            return
        self._ready_deadline_s = self._term_deadline_s = None
        until_s = self.now_s + min(max(grace_s, 0.0), limits.STOP_GRACE_S_MAX)
        if self._kill_deadline_s is None or until_s < self._kill_deadline_s:
            self._kill_deadline_s = until_s
        if not self._stop_reason:
            self._stop_reason = "" if self._leaving else reason
            self.effects.append(AskToEnd())
        self._move(PhaseEvent.STOP, reason)

    def _move(self, event: PhaseEvent, reason: str = "") -> bool:
        """Change phase if the table allows it, and tell the hub."""
        if not COMPONENT.allows(self.phase, event):
            return False
        self.phase = COMPONENT.next(self.phase, event)
        self.phase_reason = reason
        if self.phase is not Phase.INITIALIZING:
            self._ready_deadline_s = None
        self.uplink.phase(self.phase, reason)
        return True

    # -- connections of the component ------------------------------------------------------------

    def channel_opened(self) -> Channel | None:
        """A new connection; None when there are too many."""
        if len(self.channels) >= limits.CHANNELS_MAX or self.ending is not None:
            return None
        self._last_channel += 1
        channel = self.channels[self._last_channel] = Channel(self._last_channel)
        return channel

    def channel_closed(self, channel: Channel) -> None:
        """The connection is gone: who waits for it is told, its watches end."""
        self.channels.pop(channel.number, None)
        channel.closed = True
        self._relay.channel_closed(channel.number)
        if channel is self._primary:
            # Not at once: most often its process has ended, and that will be known in a moment.
            self._primary = None
            self._gone_deadline_s = self.now_s + limits.PRIMARY_GONE_S
        channel.end(
            PlatformError("unknown-outcome", "the component closed its connection before answering")
        )

    def receive_component(self, channel: Channel, data: bytes) -> None:
        """Bytes of the component.  Raises RemoteError: say the last words and close."""
        requests = channel.receive(data)
        if not channel.configured and not self._configured:
            self._configure(channel)
        for request in requests:
            try:
                self._component_request(channel, request)
            except PlatformError as exc:
                channel.answer(request, exc)
        channel.outbox.add(channel.take_outbox())

    def last_words(self, channel: Channel, exc: RemoteError) -> bytes:
        """What a connection is told before it is closed for what it sent."""
        self.note("warning", f"closed a connection of the component: {exc}")
        fault = Request(None, "", b"")
        return channel.fail(fault, PlatformError("limit-exceeded", str(exc)))

    def _configure(self, channel: Channel) -> None:
        channel.configured = self._configured = True

        def answer(value: bytes | PlatformError) -> None:
            if isinstance(value, PlatformError) and value.code != "unknown-outcome":
                self.note("warning", f"component.configure was answered: {value.message}")

        self._request_component(channel, CONFIGURE.name, self._configuration, answer, None)

    def _component_request(self, channel: Channel, request: Request) -> None:
        method = request.method
        if method.startswith("component."):
            self._component_word(channel, request)
        elif method == WRITE.name:
            self._write(channel, request)
        else:
            self._relay.request(channel, request)

    def _component_word(self, channel: Channel, request: Request) -> None:
        """What a component tells about itself."""
        word = request.method.removeprefix("component.")
        if word == "ready":
            if self._primary is None:
                self._primary = channel
                self._gone_deadline_s = None
                if not channel.configured:
                    self._configure(channel)
            self._move(PhaseEvent.READY)
        elif word == "unavailable":
            reason = decode(request.params, Unavailable).reason[:1_024]
            self._refuse_unless_begun(word)
            self._move(PhaseEvent.MARK_UNAVAILABLE, reason)
        elif word == "available":
            self._refuse_unless_begun(word)
            self._move(PhaseEvent.MARK_AVAILABLE)
        elif word == "exit":
            reason = decode(request.params, ExitNotice).reason[:1_024]
            self.note("info", f"the component ends: {reason}" if reason else "the component ends")
            self._leave(limits.TERMINATE_ACCEPTED_S, reason)
        else:
            raise PlatformError("no-such-method", f"a component cannot call component.{word[:64]}")
        channel.answer(request, EMPTY_BODY)

    def _refuse_unless_begun(self, word: str) -> None:
        if self.phase is Phase.INITIALIZING:
            raise PlatformError(
                "conflict",
                f"component.{word} before component.ready",
                hint="say component.ready first",
            )

    def _write(self, channel: Channel, request: Request) -> None:
        """`log.write` joins the other records here: numbered, kept while the hub is away."""
        params = decode(request.params, Write)
        message = params.message[: limits.BATCH_BYTES // 4]
        wall_ms = int(self.wall_s * 1000)
        self.capture.write("log", params.level, message, params.fields, self.now_s, wall_ms)
        channel.answer(request, EMPTY_BODY)

    # -- the hub ---------------------------------------------------------------------------------

    def receive_hub(self, data: bytes) -> None:
        """Bytes of the hub; raises RemoteError when they make no sense."""
        on = self.uplink.connection
        for request in self.uplink.receive(data):
            try:
                self._hub_request(on, request)
            except PlatformError as exc:
                self.uplink.answer(on, request, exc)
        if self.uplink.newly_attached:
            self.uplink.newly_attached = False
            self._relay.hub_attached()

    def hub_lost(self, fraction: float) -> None:
        """No hub, or no longer."""
        self._relay.watches.hub_lost()
        self.uplink.lost(fraction)

    def _hub_request(self, on: Connection, request: Request) -> None:
        method = request.method
        if method == INVOKE.name:
            self._invoke(on, request)
        elif method == EVENT.name:
            self._relay.event(request.params)
        elif method == TERMINATE.name:
            self._terminate(on, request)
        elif method == CONFIGURE.name:
            self._reconfigure(on, request)
        elif method == STOP.name:
            params = decode(request.params, Stop)
            self.stop(params.grace_s, params.reason or "destroyed")
            self.uplink.answer(on, request, EMPTY_BODY)
        else:
            raise PlatformError("no-such-method", f"a harness has no method {method[:64]}")

    def _invoke(self, on: Connection, request: Request) -> None:
        channel = self._primary
        if self.phase is not Phase.AVAILABLE:
            text = f"the component is {self.phase}"
            raise PlatformError("not-available", text, reason=self.phase_reason)
        if channel is None:
            if self._gone_deadline_s is not None:
                raise PlatformError("not-available", _GONE)
            raise PlatformError("no-such-operation", "the program offers no operations")
        head = read_head(request.params)
        left_s = remaining_s(head, self.wall_s, CALL_TIMEOUT_S_DEFAULT)
        if left_s <= 0:
            raise PlatformError("timeout", "the deadline had passed before the component was asked")
        params, tracing = request.params, self.uplink.tracing
        if request.notification:
            if head.trace is not None:
                params, _ = tracing.invoked(head.trace, params, None)
            send_notification(channel, INVOKE.name, params)
            return

        def answer(value: bytes | PlatformError) -> None:
            self.uplink.answer(on, request, _checked(value))

        waiting: Answer = answer
        if head.trace is not None:
            params, waiting = tracing.invoked(head.trace, params, answer)
        identity = self._request_component(channel, INVOKE.name, params, waiting, left_s)
        request.on_cancel = partial(self._abandon, channel, identity)

    @staticmethod
    def _abandon(channel: Channel, identity: int) -> None:
        channel.outbox.add(channel.abandon(identity))

    def _request_component(
        self,
        channel: Channel,
        method: str,
        params: bytes,
        answer: Any,
        left_s: float | None,
    ) -> int:
        """Ask the component; raises when it cannot be asked."""
        if channel.waiting >= limits.REQUESTS_MAX:
            raise PlatformError("limit-exceeded", f"{channel.waiting} calls wait for it already")
        if channel.outbox.bytes > limits.CHANNEL_OUTBOX_BYTES_MAX:
            raise PlatformError("limit-exceeded", "the component does not read its channel")
        deadline_s = self.now_s + (CALL_TIMEOUT_S_DEFAULT if left_s is None else left_s)
        try:
            identity, data = channel.request(method, params, answer, deadline_s)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise PlatformError("invalid", f"inputs: cannot be said in JSON: {exc}") from None
        if len(data) > FRAME_BYTES_MAX + 4:
            channel.forget(identity)
            text = f"{len(data)} bytes in the component's codec are too large"
            raise PlatformError("limit-exceeded", text)
        channel.outbox.add(data)
        return identity

    def _reconfigure(self, on: Connection, request: Request) -> None:
        self._configuration = request.params
        if self._primary is None:
            raise PlatformError("not-available", "the component has no connection")

        def answer(value: bytes | PlatformError) -> None:
            self.uplink.answer(on, request, value)

        left_s = remaining_s(read_head(request.params), self.wall_s, CALL_TIMEOUT_S_DEFAULT)
        self._request_component(self._primary, CONFIGURE.name, request.params, answer, left_s)

    # -- the end on request ----------------------------------------------------------------------

    def _terminate(self, on: Connection, request: Request) -> None:
        """Relayed; who does not understand it accepts, and gets a signal."""
        channel = self._primary
        if channel is None or self.phase in (Phase.INITIALIZING, Phase.STOPPING, Phase.EXITED):
            self._leave(0.0, "asked to end")
            self.uplink.answer(on, request, codec.pack(TerminateResult(accepted=True)))
            return

        def answer(value: bytes | PlatformError) -> None:
            if isinstance(value, PlatformError) and value.code == "no-such-method":
                self._leave(0.0, "asked to end")
                value = codec.pack(TerminateResult(accepted=True))
            elif isinstance(value, bytes):
                result = _terminate_result(value)
                if result.accepted:
                    self._leave(limits.TERMINATE_ACCEPTED_S, "asked to end")
                value = codec.pack(result)
            self.uplink.answer(on, request, value)

        left_s = remaining_s(read_head(request.params), self.wall_s, CALL_TIMEOUT_S_DEFAULT)
        self._request_component(channel, TERMINATE.name, request.params, answer, left_s)

    def _leave(self, after_s: float, reason: str) -> None:
        """The component ends by itself; a signal helps after a while, then force."""
        if self.phase in (Phase.STOPPING, Phase.EXITED):
            return
        self._leaving = True
        self._move(PhaseEvent.STOP, reason)
        if after_s:
            self._term_deadline_s = self.now_s + after_s
        else:
            self._signal_to_leave()

    def _signal_to_leave(self) -> None:
        self._term_deadline_s = None
        self.effects.append(AskToEnd())
        self._kill_deadline_s = self.now_s + limits.TERMINATE_GRACE_S

    # -- time ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due."""
        now_s = self.now_s
        if self._ready_deadline_s is not None and now_s >= self._ready_deadline_s:
            self._ready_deadline_s = None
            self.note("error", f"not ready within {self._ready_timeout_s:g} s: killed")
            self._stop_reason = "not-ready"
            self.effects.append(KillAll())
            self._move(PhaseEvent.STOP, "not-ready")
        if self._term_deadline_s is not None and now_s >= self._term_deadline_s:
            self._signal_to_leave()
        if self._kill_deadline_s is not None and now_s >= self._kill_deadline_s:
            self._kill_deadline_s = None
            self.effects.append(KillAll())
        if self._gone_deadline_s is not None and now_s >= self._gone_deadline_s:
            self._gone_deadline_s = None
            self._move(PhaseEvent.MARK_UNAVAILABLE, _GONE)
        for channel in list(self.channels.values()):
            if channel.waiting:
                channel.expire(now_s)
            if missed := channel.report_dropped():
                self.note("warning", "the component does not read its channel", missed=missed)
        self._relay.catch_up()
        self.uplink.tick()

    def next_deadline_s(self) -> float | None:
        """When `tick` has something to do, at the latest."""
        times = [
            t
            for t in (
                self._ready_deadline_s,
                self._term_deadline_s,
                self._kill_deadline_s,
                self._gone_deadline_s,
                self.uplink.next_deadline_s(),
            )
            if t is not None
        ]
        if any(c.waiting for c in self.channels.values()) or self._relay.behind:
            times.append(self.now_s + limits.SWEEP_PERIOD_S)
        return min(times) if times else None

    def take_effects(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects


def _checked(value: bytes | PlatformError) -> bytes | PlatformError:
    """An answer to an invocation is a map that fits in a frame."""
    if isinstance(value, PlatformError):
        return value
    if not is_map(value):
        return PlatformError("failed", "the component's result is not an object with outputs")
    if len(value) > limits.BODY_BYTES_MAX:
        return PlatformError("limit-exceeded", f"a result of {len(value)} bytes is too large")
    return value


def _terminate_result(body: bytes) -> TerminateResult:
    """A component that answers anything but a refusal accepts."""
    try:
        return msgspec.msgpack.decode(body, type=TerminateResult)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return TerminateResult(accepted=True)
