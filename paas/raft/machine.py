"""The state machine: hands each committed command to the section that knows it, and events to all.

    bytes ──> Stamp + command ──> handler of its section ──> result | PlatformError (a value)
                                        │ emit
                                        v
                               events, in order ──> react of every section (may emit more)
                                        └─────────> whoever subscribed to the log

The cluster state is divided into sections (types, components, groups, nodes, ...), each written by
its own sub-system: a section owns its part, changes it only in its handlers and reactions, and may
read the others through `ctx.sections`.

Invariants
  - `apply` is total: it returns, whatever bytes it is given.  An error is a value of the log like
    any other result; the replica that stopped at it would differ from those that went on.
  - It is deterministic: a function of the state, the index and the bytes.  No clock, no randomness,
    no iteration over sets, no texts of unforeseen exceptions.
  - The same command identity is applied at most once (dedup.py), by every replica alike.
  - The same log gives the same bytes of `snapshot_bytes`, in any process; keys are sorted there, so
    what needs an order belongs into a list.

A handler that raises has changed nothing: it checks first and changes afterwards.  Events of a
handler that raised are dropped.  Decisions about when to propose, and waiting, are not made here.

Style A7, A8; keepers K6 and K8 of docs/internals/raft.md.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import msgspec

from paas.base.errors import LocalError, PlatformError
from paas.raft import limits
from paas.raft.command import Stamp, command, decode
from paas.raft.dedup import Results

logger = logging.getLogger(__name__)

SNAPSHOT_FORMAT = 1

Event: TypeAlias = msgspec.Struct
Handler: TypeAlias = Callable[[Any, "Context"], Any]


@command(1)
class Barrier(msgspec.Struct, frozen=True, kw_only=True):
    """Changes nothing; its answer proves that everything before it is applied here."""


class StateReplaced(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Event: this replica took over a whole state; what was derived from events is stale."""

    index: int


@dataclass(slots=True)
class Context:
    """What a handler and a reaction may know besides the state."""

    stamp: Stamp
    index: int
    """Position in the log: larger than that of every command before; good for fencing tokens."""

    sections: Mapping[str, Any]
    _emitted: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Tell every section and every subscriber, after the handler is done."""
        self._emitted.append(event)


class Section(Protocol):
    """One part of the cluster state.  `snapshot` returns plain data that `restore` takes back."""

    name: str

    @property
    def commands(self) -> Mapping[Any, Any]: ...

    def react(self, event: Event, ctx: Context, /) -> None: ...

    def snapshot(self) -> Any: ...

    def restore(self, plain: Any, /) -> None: ...


class Applied(msgspec.Struct, frozen=True):
    """What became of one log entry; exactly one of result and error counts."""

    identity: tuple[str, int] | None
    result: Any = None
    error: PlatformError | None = None
    events: tuple[Event, ...] = ()
    repeated: bool = False


_canonical = msgspec.msgpack.Encoder(order="sorted")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Machine:
    """See the module's text."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.sections: dict[str, Section] = {section.name: section for section in sections}
        if len(self.sections) != len(sections):
            raise LocalError("two sections have one name")
        self._handlers: dict[type[Any], Handler] = {Barrier: _barrier}
        for section in sections:
            for kind, handler in section.commands.items():
                if kind in self._handlers:
                    raise LocalError(f"command {kind.__name__} has two handlers")
                self._handlers[kind] = handler
        self._results = Results()
        self._initial = {name: _encode(s.snapshot()) for name, s in self.sections.items()}

    # -- applying --------------------------------------------------------------------------------

    def apply(self, index: int, data: bytes) -> Applied:
        """Apply one committed entry.  Never raises."""
        try:
            stamp, cmd = decode(data)
        except PlatformError as error:
            logger.error("entry %d is not applied: %s", index, error)
            return Applied(None, error=error)
        try:
            first = self._results.find(*stamp.identity)
        except PlatformError as error:
            return Applied(stamp.identity, error=error, repeated=True)
        if first is not None:
            return _recall(stamp.identity, first, repeated=True)
        context = Context(stamp, index, self.sections)
        outcome = self._run(cmd, context)
        events = self._settle(context) if outcome[0] and context._emitted else ()
        packed = _encode(outcome)
        self._results.remember(*stamp.identity, packed)
        return _recall(stamp.identity, packed, events=events)

    def recall(self, identity: tuple[str, int]) -> Applied | None:
        """The outcome of a command that was applied lately, in this life or before; else None."""
        try:
            first = self._results.find(*identity)
        except PlatformError as error:
            return Applied(identity, error=error, repeated=True)
        return None if first is None else _recall(identity, first, repeated=True)

    def _run(self, cmd: msgspec.Struct, context: Context) -> list[Any]:
        """The outcome as plain data: [True, result] or [False, code, message, hint, data]."""
        name = type(cmd).__name__
        handler = self._handlers.get(type(cmd))
        if handler is None:
            return [False, "unsupported", f"no section of this node knows {name}", "", {}]
        try:
            result = _plain(handler(cmd, context))
        except PlatformError as error:
            data = error.data
            try:
                _encode(data)
            except (TypeError, ValueError, OverflowError, RecursionError):
                logger.exception("the error of %s carries data that is not plain", name)
                data = {}
            return [False, error.code, error.message, error.hint, data]
        except Exception:
            logger.exception("entry %d: %s failed", context.index, name)
            return [False, "internal", f"the command {name} failed", "", {}]
        return [True, result]

    def _settle(self, context: Context) -> tuple[Event, ...]:
        """Let every section react to every event, breadth first, until there are no new ones."""
        events: list[Event] = []
        waiting = deque((event, 0) for event in context._emitted)
        while waiting:
            event, depth = waiting.popleft()
            events.append(event)
            for name, section in self.sections.items():
                emitted: list[Event] = []
                context._emitted = emitted
                try:
                    section.react(event, context)
                except Exception:
                    logger.exception("%s failed to react to %s", name, type(event).__name__)
                if not emitted:
                    continue
                if depth < limits.EVENT_DEPTH_MAX:
                    waiting.extend([(caused, depth + 1) for caused in emitted])
                else:
                    logger.error("%s: reactions are too deep, dropped", type(event).__name__)
        return tuple(events)

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot_bytes(self) -> bytes:
        """The whole state, canonically: equal states give equal bytes."""
        return _canonical.encode(
            {
                "format": SNAPSHOT_FORMAT,
                "sections": {name: s.snapshot() for name, s in self.sections.items()},
                "results": self._results.snapshot(),
            }
        )

    def restore_bytes(self, data: bytes) -> None:
        """Take over a state.  A section that the snapshot does not have starts anew.

        Raises `corrupt`, or `unsupported` when the snapshot has a section that is not known
        here: to go on without it would lose it from the next snapshot.
        """
        try:
            plain = _decode(data)
            if plain["format"] != SNAPSHOT_FORMAT:
                raise PlatformError("unsupported", f"snapshot format {plain['format']}")
            saved, results = dict(plain["sections"]), plain["results"]
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, KeyError, ValueError) as exc:
            raise PlatformError("corrupt", "the snapshot cannot be read") from exc
        unknown = sorted(set(saved) - set(self.sections))
        if unknown:
            raise PlatformError("unsupported", f"the snapshot has unknown sections: {unknown}")
        for name, section in self.sections.items():
            section.restore(saved[name] if name in saved else _decode(self._initial[name]))
        self._results.restore(results)


def _barrier(_cmd: Barrier, ctx: Context) -> int:
    return ctx.index


def _plain(result: Any) -> Any:
    """Results are kept and sent, so they must be plain and small; else it is our bug."""
    if len(_encode(result)) > limits.RESULT_BYTES_MAX:
        raise LocalError(f"a result may have {limits.RESULT_BYTES_MAX} bytes")
    return result


def _recall(
    identity: tuple[str, int],
    packed: bytes,
    *,
    events: tuple[Event, ...] = (),
    repeated: bool = False,
) -> Applied:
    outcome = _decode(packed)
    if outcome[0]:
        return Applied(identity, outcome[1], None, events, repeated)
    _, code, message, hint, data = outcome
    error = PlatformError(code, message, hint=hint, **data)
    return Applied(identity, None, error, events, repeated)
