"""Components of a simulated cluster, with their harnesses: what the table of a kernel runs.

    hub ── Peer ~~ LocalLink ~~ Harness (real Uplink, Relay, WatchBook) ── Component (behaviour)

The way to the hub is the real one of the harness: greeting, what is held while the hub is away,
watches that are opened again, `unknown-outcome` for what a lost hub had.  The rest of a harness
(processes, signals, output) is behaviour here, drawn from the seed for each incarnation: when it is
ready, when and how it ends, whether it lets itself be stopped.

What it says and hears is told to the `Observer`, who judges it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import msgspec

from paas.base.errors import LocalError, PlatformError
from paas.controller.messages import MONITOR, Monitor
from paas.harness.capture import Capture
from paas.harness.channel import Channel
from paas.harness.lifecycle import Phase
from paas.harness.messages import (
    EVENT,
    INVOKE,
    STOP,
    TERMINATE,
    Event,
    Invoke,
    InvokeResult,
    Stop,
    TerminateResult,
)
from paas.harness.reconnect import Uplink
from paas.harness.relay import Relay
from paas.hub.messages import CALL, CAST, JOIN, LEAVE, Call, Cast, Join, Leave
from paas.rpc.envelope import EMPTY_BODY, Request
from paas.sim.platform.kernel import Container, Kernel
from paas.sim.platform.world import World
from paas.wire import codec
from paas.wire.registry import decode

TICK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What one incarnation does.  Times in seconds; None: never."""

    ready_s: float | None = 0.1
    exit_s: float | None = None
    exit_reason: str = "normal"
    stop_s: float = 0.02
    """From the signal to its end; None of it if it hangs: then force is needed."""
    hangs: bool = False
    refuses: bool = False
    act_s: float = 4.0
    """Between two things that it does by itself, on average."""
    pause_s: float | None = None
    """After so long it is unavailable for a moment."""


class Observer(Protocol):
    """Who judges what components see."""

    calm: bool
    """Nobody ends by itself any more."""

    def invoked(self, me: Component, sender: str, target: str, number: int) -> None: ...

    def letter(
        self, me: Component, invoke: Invoke, answer: Callable[[bytes | PlatformError], None]
    ) -> None:
        """A message of a durable mailbox."""
        ...

    def down(self, me: Component, key: int, event: Event) -> None: ...

    def act(self, me: Component) -> None:
        """The component may do something now."""
        ...


class HubDoor(Protocol):
    """Where harnesses of a node reach its hub."""

    def knock(self, harness: Component) -> Callable[[bytes], None] | None:
        """A connection, as what to send with; None when no hub listens.  The hub's words come to
        `harness.receive`, its end to `harness.hub_lost`."""
        ...


class _NoRecords:
    """Instead of a `Capture`: these components write no log."""

    acknowledged = 0
    empty = True
    oldest_s = None


class _Outbox:
    """What the relay would write to a component: given to it at once."""

    def __init__(self, owner: Component) -> None:
        self.bytes = 0
        self._owner = owner

    def add(self, said: tuple[str, Any]) -> None:
        self._owner.heard(*said)


class _Channel:
    """The one connection of a component to its harness, without bytes."""

    number = 1
    outstanding = 0
    dropped_events = 0
    closed = False

    def __init__(self, owner: Component) -> None:
        self.outbox = _Outbox(owner)

    def answer(self, request: Request, value: bytes | PlatformError) -> None:
        answer = cast(Callable[[Any], None], request.id)
        answer(value)

    def notify(self, method: str, params: bytes) -> tuple[str, bytes]:
        return method, params


class Component:
    """One incarnation.  Implements `kernel.Program`."""

    def __init__(
        self,
        world: World,
        kernel: Kernel,
        container: Container,
        door: HubDoor,
        observer: Observer,
        behaviour: Behaviour,
    ) -> None:
        self.world = world
        self.id = container.component
        self.incarnation = container.incarnation
        self.uid = container.uid_base
        self.pid = container.pid
        self.node = kernel.node
        self.behaviour = behaviour
        self.alive = True
        self.phase = Phase.INITIALIZING
        self.groups: dict[str, None] = {}
        self.sent: dict[str, int] = {}
        self._kernel = kernel
        self._container = container
        self._door = door
        self._observer = observer
        self._uplink = Uplink(self.id, self.incarnation, cast(Capture, _NoRecords()))
        self._channel = cast(Channel, _Channel(self))
        self._relay = Relay(self._uplink, {1: self._channel})
        self._send: Callable[[bytes], None] | None = None
        self._connection = 0
        self._ticking = False
        self._stopping = False
        self._monitors: dict[int, int] = {}  # watch -> the observer's key
        self._early: list[Event] = []

    @property
    def key(self) -> str:
        return f"{self.id}/{self.incarnation}"

    # -- life ------------------------------------------------------------------------------------

    def begin(self) -> None:
        after, behaviour = self.world.after, self.behaviour
        after(0.001 + self.world.random.random() * 0.004, self._dial)
        if behaviour.ready_s is not None:
            after(behaviour.ready_s, self._ready)
        after(self._kernel_ready_timeout_s(), self._late)
        if behaviour.exit_s is not None:
            after(behaviour.exit_s, self._exit_by_itself)

    def _kernel_ready_timeout_s(self) -> float:
        return self._container.order.ready_timeout_s

    def _ready(self) -> None:
        if self.alive and self.phase is Phase.INITIALIZING:
            self._set_phase(Phase.AVAILABLE)
            self._act_later()
            if self.behaviour.pause_s is not None:
                self.world.after(self.behaviour.pause_s, self._pause)

    def _late(self) -> None:
        """The harness ends a component that is not ready in time."""
        if self.alive and self.phase is Phase.INITIALIZING:
            self.exit("not-ready")

    def _pause(self) -> None:
        if self.alive and self.phase is Phase.AVAILABLE:
            self._set_phase(Phase.UNAVAILABLE)
            self.world.after(0.2 + self.world.random.random(), self._resume)

    def _resume(self) -> None:
        if self.alive and self.phase is Phase.UNAVAILABLE:
            self._set_phase(Phase.AVAILABLE)

    def _set_phase(self, phase: Phase) -> None:
        self.phase = phase
        self._now()
        self._uplink.phase(phase, "")
        self._flush()

    def _exit_by_itself(self) -> None:
        if not self._observer.calm:
            self.exit(self.behaviour.exit_reason)

    def exit(self, reason: str) -> None:
        """Its program ends."""
        if self.alive:
            self._kernel.end(self._container, reason)

    def killed(self) -> None:
        """The container has ended, however."""
        self.alive = False
        send, self._send = self._send, None
        if send is not None:
            send(b"")

    # -- the way to the hub ------------------------------------------------------------------------

    def _now(self) -> None:
        clock = self._kernel.clock
        self._uplink.now_s = self.world.now_s
        self._uplink.wall_s = clock.now_ms() / 1000

    def _dial(self) -> None:
        if not self.alive or self._send is not None:
            return
        self._now()
        self._connection += 1
        self._send = self._door.knock(self)
        if self._send is None:
            self._lost()
            return
        self._uplink.connected()
        self._flush()

    def receive(self, data: bytes) -> None:
        """Words of the hub."""
        if not self.alive or self._send is None:
            return
        self._now()
        on = self._uplink.connection
        for request in self._uplink.receive(data):
            try:
                self._hub_request(on, request)
            except PlatformError as exc:
                self._uplink.answer(on, request, exc)
            if self._is_over():
                return
        if self._uplink.newly_attached:
            self._uplink.newly_attached = False
            self._relay.hub_attached()
        self._flush()

    def hub_lost(self) -> None:
        """The hub's end of the connection is gone."""
        if self.alive and self._send is not None:
            self._send = None
            self._now()
            self._relay.watches.hub_lost()
            self._lost()

    def _is_over(self) -> bool:
        return not self.alive

    def _lost(self) -> None:
        self._uplink.lost(self.world.random.random())
        self.world.at(max(self._uplink.next_attempt_s, self.world.now_s + 0.001), self._dial)

    def _flush(self) -> None:
        outbox = self._uplink.outbox
        if outbox.parts and self._send is not None:
            self._send(outbox.take())
        if not self._ticking and self.alive and self._uplink.next_deadline_s() is not None:
            self._ticking = True
            self.world.after(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        if not self.alive:
            return
        self._now()
        self._uplink.tick()
        if self._uplink.overdue and self._send is not None:
            send, self._send = self._send, None
            send(b"")
            self._relay.watches.hub_lost()
            self._lost()
        self._flush()

    def _hub_request(self, on: Any, request: Request) -> None:
        method = request.method
        if method == INVOKE.name:
            self._invoke(on, request)
        elif method == EVENT.name:
            self._relay.event(request.params)
        elif method == STOP.name:
            self._stop(decode(request.params, Stop))
            self._uplink.answer(on, request, EMPTY_BODY)
        elif method == TERMINATE.name:
            refuses = self.behaviour.refuses
            if not refuses:
                self.world.after(self.behaviour.stop_s, self.exit, "normal")
            reason = "not now" if refuses else ""
            result = TerminateResult(accepted=not refuses, reason=reason)
            self._uplink.answer(on, request, codec.pack(result))
        else:
            raise PlatformError("no-such-method", method)

    def _stop(self, stop: Stop) -> None:
        """The terminate signal, and force when the grace is over."""
        if self._stopping:
            return
        self._stopping = True
        behaviour = self.behaviour
        if not behaviour.hangs and behaviour.stop_s <= stop.grace_s:
            self.world.after(behaviour.stop_s, self.exit, stop.reason)
        else:
            self.world.after(stop.grace_s, self.exit, stop.reason)
        if self.phase is not Phase.INITIALIZING:
            self._set_phase(Phase.STOPPING)

    def _invoke(self, on: Any, request: Request) -> None:
        if self.phase is not Phase.AVAILABLE:
            raise PlatformError("not-available", f"the component is {self.phase}")
        invoke = decode(request.params, Invoke)
        if invoke.message is not msgspec.UNSET:
            self._observer.letter(self, invoke, partial(self._answer_later, on, request))
            return
        inputs = codec.unpack(invoke.inputs)
        self._observer.invoked(self, inputs["from"], inputs["to"], inputs["n"])
        result = InvokeResult(outputs=msgspec.Raw(codec.pack({"n": inputs["n"]})))
        if self.world.random.random() < 0.2:
            delay_s = self.world.random.expovariate(2.0)
            self.world.after(delay_s, self._answer_later, on, request, codec.pack(result))
        else:
            self._uplink.answer(on, request, codec.pack(result))

    def _answer_later(self, on: Any, request: Request, body: bytes | PlatformError) -> None:
        if self.alive:
            self._now()
            self._uplink.answer(on, request, body)
            self._flush()

    # -- what it does by itself ------------------------------------------------------------------

    def _act_later(self) -> None:
        self.world.after(self.world.random.expovariate(1 / self.behaviour.act_s), self._act)

    def _act(self) -> None:
        if self.alive and not self._stopping:
            if self.phase is Phase.AVAILABLE:
                self._observer.act(self)
            self._act_later()

    def request(self, method: str, params: Any, answer: Callable[[Any], None]) -> None:
        """Ask the hub; `answer` gets the packed result or a PlatformError, once."""
        self._now()
        request = Request(cast(int, answer), method, codec.pack(params))
        try:
            self._relay.request(self._channel, request)
        except PlatformError as exc:
            answer(exc)
        self._flush()

    def call(self, target: str, timeout_s: float, answer: Callable[[Any], None]) -> int:
        number, inputs = self._numbered(target)
        self.request(
            CALL.name,
            Call(target=target, operation="note", inputs=inputs, timeout=timeout_s),
            answer,
        )
        return number

    def cast(self, target: str, answer: Callable[[Any], None]) -> int:
        number, inputs = self._numbered(target)
        params = Cast(target=target, operation="note", inputs=inputs, timeout=5.0)
        self.request(CAST.name, params, answer)
        return number

    def _numbered(self, target: str) -> tuple[int, msgspec.Raw]:
        number = self.sent[target] = self.sent.get(target, 0) + 1
        return number, msgspec.Raw(codec.pack({"from": self.key, "to": target, "n": number}))

    def join(
        self, groups: list[str], answer: Callable[[Any], None], *, unique: bool = False
    ) -> None:
        self.request(JOIN.name, Join(groups=groups, unique=unique, timeout=6.0), answer)

    def leave(self, groups: list[str], answer: Callable[[Any], None]) -> None:
        self.request(LEAVE.name, Leave(groups=groups, timeout=6.0), answer)

    def monitor(self, target: str, key: int, answer: Callable[[Any], None]) -> None:
        """`key` is what the observer calls this monitor."""

        def opened(value: Any) -> None:
            if not isinstance(value, PlatformError):
                number = codec.unpack(value)["watch"]
                self._monitors[number] = key
                early, self._early = self._early, []
                answer(value)
                for event in early:
                    self._down(event)
            else:
                answer(value)

        self.request(MONITOR.name, Monitor(component=target), opened)

    def heard(self, method: str, params: bytes) -> None:
        """An event for one of its watches."""
        if method != EVENT.name:
            raise LocalError(f"{method} is no event")
        event = decode(params, Event)
        if event.event == "down":
            self._down(event)

    def _down(self, event: Event) -> None:
        key = self._monitors.get(event.watch)
        if key is None:
            self._early.append(event)
        else:
            self._observer.down(self, key, event)
