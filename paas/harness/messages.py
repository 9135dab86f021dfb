"""Messages around the harness: with its hub on one side, with its component on the other.

Numbers 200-299.  `component.*` are the requests that the harness makes to a component, and what the
component tells its harness (component API, "Requests the harness makes"); `harness.*` are between a
harness and its hub.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from paas.hub.messages import MessageMark, empty_list, empty_map
from paas.telemetry.spans import Span
from paas.wire.registry import Message, Nothing, Params, method

HarnessPhase = Literal["initializing", "available", "unavailable", "stopping", "exited"]


class Hello(Params, frozen=True, kw_only=True):
    """The first message of a harness on every new connection to a hub.

    The hub checks the peer's user id (SO_PEERCRED) against the one that the container controller
    gave to this component's container: identity by kernel facts, no bearer token.
    """

    component: str
    incarnation: int
    version: int = 1
    phase: HarnessPhase = "initializing"
    reason: str = ""
    log_sequence: int = 0


class HelloResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What the hub tells a harness that it accepted."""

    version: int
    node: str


class PhaseChange(Params, frozen=True, kw_only=True):
    """The component's phase has changed, as its harness sees it.

    `reason` is free text for `unavailable`, and for `exited` one of `normal`, `exit:<code>`,
    `signal:<name>`, `not-ready` (ready timeout), `start-failed:<text>`.
    """

    phase: HarnessPhase
    reason: str = ""


class LogRecord(Message, frozen=True, kw_only=True):
    """One captured line or structured record.  `sequence` grows by one a record and component."""

    sequence: int
    time_ms: int
    stream: Literal["stdout", "stderr", "log", "harness"]
    level: Literal["debug", "info", "warning", "error"]
    message: str
    fields: dict[str, Any] = {}


class Records(Params, frozen=True, kw_only=True):
    """A batch of log records; `dropped` counts those lost before the first of them (flood)."""

    records: list[LogRecord]
    dropped: int = 0


class Stop(Params, frozen=True, kw_only=True):
    """End the component: terminate signal, `grace_s` seconds, then kill.  May not be refused."""

    grace_s: float = 10.0
    reason: str = "destroyed"


class Invoke(Params, frozen=True, kw_only=True, omit_defaults=False, rename={"from_": "from"}):
    """Run an operation of the component.  `deadline` in seconds since the Unix epoch.

    `message` marks one from a durable mailbox: it may come again, with a higher `attempt`.
    """

    operation: str
    object: str = ""
    inputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)
    from_: str = ""
    oneway: bool = False
    message: MessageMark | msgspec.UnsetType = msgspec.UNSET


class InvokeResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What the operation yields."""

    outputs: msgspec.Raw = msgspec.field(default_factory=empty_map)
    attachments: msgspec.Raw = msgspec.field(default_factory=empty_list)


class Event(Params, frozen=True, kw_only=True):
    """Something that was watched has happened: `joined`, `left`, `changed`, `down`, `record`, …

    `attributes` (null: removed) are of `object` and of this `kind`, durable or volatile; `signal`
    and `payload` are those of the sender.  Events with an index are of the log.
    """

    watch: int
    index: int
    event: str
    component: str = ""
    name: str = ""
    group: str = ""
    state: str = ""
    previous: str = ""
    reason: str = ""
    time: float = 0.0
    data: Any = None
    object: str = ""
    kind: str = ""
    attributes: dict[str, msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    signal: str = ""
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Terminate(Params, frozen=True, kw_only=True):
    """Ask the component to end; it may refuse."""

    reason: str = ""
    inputs: Any = {}


class TerminateResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Whether the component accepted."""

    accepted: bool
    reason: str = ""


class Configure(Params, frozen=True, kw_only=True):
    """The component's configuration: sent first, and when it changes."""

    configuration: dict[str, Any]


class CancelInvocation(Params, frozen=True, kw_only=True):
    """The answer to a `component.invoke` is no longer wanted; `id` is that of its request.

    A notification: the component may stop working on it.  What it answers is dropped.
    """

    id: int


class ReportSpans(Params, frozen=True, kw_only=True):
    """Spans of sampled traces, as the harness measured them (see `paas.telemetry.spans`)."""

    spans: list[Span]


class Ready(Params, frozen=True, kw_only=True):
    """The component has started and takes requests: ends `initializing`."""


class Unavailable(Params, frozen=True, kw_only=True):
    """The component cannot take requests for now."""

    reason: str = ""


class Available(Params, frozen=True, kw_only=True):
    """The component takes requests again."""


class ExitNotice(Params, frozen=True, kw_only=True):
    """The component is about to end by itself, for this reason."""

    reason: str = ""


HELLO = method(200, "harness.hello", Hello, HelloResult, public=False)
PHASE = method(201, "harness.phase", PhaseChange, Nothing, public=False)
RECORDS = method(202, "harness.records", Records, Nothing, public=False)
STOP = method(203, "harness.stop", Stop, Nothing, public=False)

INVOKE = method(210, "component.invoke", Invoke, InvokeResult)
EVENT = method(211, "component.event", Event, Nothing)
TERMINATE = method(212, "component.terminate", Terminate, TerminateResult)
CONFIGURE = method(213, "component.configure", Configure, Nothing)
READY = method(214, "component.ready", Ready, Nothing)
UNAVAILABLE = method(215, "component.unavailable", Unavailable, Nothing)
AVAILABLE = method(216, "component.available", Available, Nothing)
EXIT = method(217, "component.exit", ExitNotice, Nothing)
CANCEL = method(218, "component.cancel", CancelInvocation, Nothing)
SPANS = method(219, "harness.spans", ReportSpans, Nothing, public=False)
