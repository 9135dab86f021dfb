"""One connection of the component: the shared JSON-RPC core, with a shorter way for msgpack.

Frames of a msgpack component are relayed without a look inside: envelope fields are read, `params`
and `result` stay the bytes they are.  What is not plainly one request or one answer (batches,
positional parameters, faults) takes the general way, which knows every corner of JSON-RPC 2.0.

Skipping a value does not bound its nesting, so that is done here.  Every array and map begins with
a byte of a small set; a body with at most `NESTING_MAX` such bytes cannot be nested deeper than
that and need not be decoded.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.base.errors import PlatformError, RemoteError
from paas.base.limits import NESTING_MAX
from paas.harness.limits import CHANNEL_OUTBOX_BYTES_MAX
from paas.harness.messages import CANCEL
from paas.harness.outbox import Outbox
from paas.rpc.connection import Connection
from paas.rpc.envelope import EMPTY_BODY, Event, Form, Reply, Request
from paas.wire import codec
from paas.wire.frame import frame

_MAPS = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])
_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])


class _Message(msgspec.Struct):
    """Any JSON-RPC 2.0 message that is an object."""

    jsonrpc: str = "2.0"
    id: int | str | float | msgspec.UnsetType | None = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Any = msgspec.UNSET


_decoder = msgspec.msgpack.Decoder(_Message)
_encode = msgspec.msgpack.Encoder().encode


def is_map(body: bytes) -> bool:
    """Does this msgpack value begin as a map?"""
    return body[:1] != b"" and body[0] in _MAPS


def shallow(body: bytes) -> bool:
    """Is this msgpack value certainly not nested deeper than NESTING_MAX?"""
    return len(body) - len(body.translate(None, _CONTAINERS)) <= NESTING_MAX


def _unwanted(_value: bytes | PlatformError) -> None:
    """What waits for the answer to an abandoned invocation."""


class Channel(Connection):
    """A connection of the component; `form` is found out from its first byte.

    An invocation that was abandoned still counts as waiting until the component has answered it or
    its time is over: otherwise, who calls and cancels again and again would give a component that
    does not mind cancellations work without bound.
    """

    cancel_method = CANCEL.name

    def __init__(self, number: int) -> None:
        super().__init__(None)
        self.number = number
        self.outbox = Outbox()
        self.closed = False
        self.configured = False
        self.dropped_events = 0
        self._reported_events = 0

    # -- out -------------------------------------------------------------------------------------

    def answer(self, request: Request, value: bytes | PlatformError) -> None:
        """Answer a request of the component; a value that its codec cannot say becomes an error."""
        if self.closed:
            return
        if isinstance(value, PlatformError):
            self.outbox.add(self.fail(request, value))
            return
        try:
            self.outbox.add(self.reply(request, value))
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
            request.answered = False
            self.outstanding += 1
            error = PlatformError("failed", f"the result cannot be said in this codec: {exc}")
            self.outbox.add(self.fail(request, error))

    def reply(self, request: Request, result: bytes) -> bytes:
        if self.form is not Form.MSGPACK or request.batch is not None:
            return super().reply(request, result)
        if not self._settle(request):
            return b""
        return frame(_encode(_Message(id=request.id, result=msgspec.Raw(result))))

    def _request_bytes(self, identity: int | None, method: str, params: bytes) -> bytes:
        if self.form is not Form.MSGPACK:
            return super()._request_bytes(identity, method, params)
        said = msgspec.UNSET if identity is None else identity
        return frame(_encode(_Message(id=said, method=method, params=msgspec.Raw(params))))

    def abandon(self, identity: int) -> bytes:
        waiting = self._pending.get(identity)
        if waiting is None or waiting[1] is _unwanted:
            return b""
        data = super().abandon(identity)
        self._pending[identity] = (waiting[0], _unwanted)
        return data

    def _cancel_bytes(self, identity: int) -> bytes:
        """Told once, and not behind more than a component that does not read may let gather."""
        if self.outbox.bytes > CHANNEL_OUTBOX_BYTES_MAX:
            return b""
        return super()._cancel_bytes(identity)

    def expire(self, now_s: float) -> None:
        late = [i for i, w in self._pending.items() if w[1] is _unwanted and w[0] <= now_s]
        for identity in late:  # it knows already
            self.forget(identity)
        super().expire(now_s)
        self.outbox.add(self.take_outbox())

    def report_dropped(self) -> int:
        """How many events it missed, each time that number has doubled; else 0."""
        if self.dropped_events < max(2 * self._reported_events, 1):
            return 0
        self._reported_events = self.dropped_events
        return self.dropped_events

    # -- in --------------------------------------------------------------------------------------

    def _decode(self, body: bytes) -> list[Event]:
        if self.form is Form.MSGPACK:
            event = self._decode_short(body)
            if event is not None:
                return [event]
        return super()._decode(body)

    @staticmethod
    def _decode_short(body: bytes) -> Event | None:
        try:
            message = _decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if message.jsonrpc != "2.0" or message.error is not msgspec.UNSET or not _bounded(body):
            return None
        identity = message.id
        if isinstance(message.method, str):
            given = message.params
            params = EMPTY_BODY if isinstance(given, msgspec.UnsetType) else bytes(given)
            if not is_map(params):
                return None
            if isinstance(identity, msgspec.UnsetType):
                return Request(None, message.method, params, notification=True)
            return Request(identity, message.method, params)
        if isinstance(message.result, msgspec.UnsetType) or not isinstance(identity, int):
            return None
        return Reply(identity, bytes(message.result))


def _bounded(body: bytes) -> bool:
    if shallow(body):
        return True
    try:
        codec.unpack(body)
    except RemoteError:
        return False
    return True
