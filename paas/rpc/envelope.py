"""Envelopes: how requests, replies and errors look on the wire, in three forms of one meaning.

    JSON lines        {"jsonrpc":"2.0","id":1,"method":"hub.call","params":{…}}      one a line
    msgpack maps      the same members as a msgpack map                              length-prefixed
    compact           [0, id, number, params]  [1, id, result]  [2, id, error]       length-prefixed

The first two are for components and programs of any language (JSON-RPC 2.0 whole: batches,
notifications, both directions).  The compact form is between our own processes only: the method is
its number in the register, and `params` and `result` stay undecoded, so that a hub routes a message
without looking into it.

Whatever the form, the value handed up is the same: `Request`, `Reply` or `Failure` with a msgpack
body.  Malformed input is described as a `Fault`: the answer that JSON-RPC 2.0 §5.1 asks for.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from paas.base.errors import PlatformError, RemoteError
from paas.base.limits import OUTSTANDING_REQUESTS_MAX
from paas.wire import codec, frame
from paas.wire.registry import BY_NAME, BY_NUMBER

RequestId = int | str | float | None

EMPTY_BODY = codec.pack({})


class Form(enum.Enum):
    """The forms of envelopes."""

    JSON = "json"
    MSGPACK = "msgpack"
    COMPACT = "compact"


class Batch:
    """The requests of one JSON-RPC batch: their answers leave together, in one array."""

    __slots__ = ("answers", "bytes", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.answers: list[msgspec.Raw] = []
        self.bytes = 0


# Structures, not dataclasses: one of each is made for every message, in a third of the time.


class Request(msgspec.Struct, eq=False):
    """Somebody wants `method` done.  `id` is the sender's; a notification expects no answer."""

    id: RequestId
    method: str
    params: bytes
    notification: bool = False
    batch: Batch | None = None
    answered: bool = False
    cancelled: bool = False
    """Its sender no longer wants it: the answer is not sent."""

    on_cancel: Callable[[], None] | None = None
    """Who works on it sets this to hear of that, once."""


class Reply(msgspec.Struct):
    """The result of a request of ours."""

    id: RequestId
    result: bytes


class Failure(msgspec.Struct):
    """A request of ours failed."""

    id: RequestId
    error: PlatformError


class Fault(msgspec.Struct):
    """Input that is no message: answer with this error under this id, then go on."""

    id: RequestId
    error: PlatformError
    batch: Batch | None = None


Event = Request | Reply | Failure | Fault


class _Request(msgspec.Struct, array_like=True, tag=0):
    id: int | None
    method: int | str
    params: msgspec.Raw


class _Reply(msgspec.Struct, array_like=True, tag=1):
    id: int
    result: msgspec.Raw


class _Failure(msgspec.Struct, array_like=True, tag=2):
    id: int
    error: Any


_compact = msgspec.msgpack.Decoder(_Request | _Reply | _Failure)

# Requests and replies are put together from parts, which is twice as fast as encoding a struct.
_REQUEST_HEAD = b"\x94\x00"
_REPLY_HEAD = b"\x93\x01"
_names: dict[str, bytes] = {}


def decode_compact(body: bytes) -> Event:
    """One compact envelope; raises RemoteError, since our own processes do not send garbage."""
    try:
        value = _compact.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise RemoteError(f"not a compact envelope: {exc}") from None
    if type(value) is _Reply:
        return Reply(value.id, bytes(value.result))
    if type(value) is not _Request:
        return Failure(value.id, PlatformError.from_rpc(value.error))
    name, identity = value.method, value.id
    if isinstance(name, int):
        declared = BY_NUMBER.get(name)
        if declared is None:
            return Fault(identity, PlatformError("no-such-method", f"no method has number {name}"))
        name = declared.name
    return Request(identity, name, bytes(value.params), identity is None)


def encode_compact_request(identity: int | None, method: str, params: bytes) -> bytes:
    name = _names.get(method)
    if name is None:
        declared = BY_NAME.get(method)
        name = codec.pack(declared.number if declared else method)
        if declared:
            _names[method] = name
    return frame.frame(_REQUEST_HEAD + codec.pack(identity) + name + params)


def encode_compact_reply(identity: RequestId, result: bytes) -> bytes:
    assert isinstance(identity, int)
    return frame.frame(_REPLY_HEAD + codec.pack(identity) + result)


def encode_compact_failure(identity: RequestId, error: PlatformError) -> bytes:
    assert isinstance(identity, int)
    return frame.frame(codec.pack(_Failure(identity, error.to_rpc())))


def decode_value(value: Any) -> list[Event]:
    """JSON-RPC 2.0 messages in a decoded value: one, or a batch."""
    if not isinstance(value, list):
        return [_decode_one(value, None)]
    if not value:
        return [Fault(None, PlatformError("invalid-request", "a batch holds at least one request"))]
    if len(value) > OUTSTANDING_REQUESTS_MAX:
        text = f"a batch holds at most {OUTSTANDING_REQUESTS_MAX} requests, this one {len(value)}"
        return [Fault(None, PlatformError("limit-exceeded", text))]
    batch = Batch()
    events = [_decode_one(item, batch) for item in value]
    batch.waiting = sum(
        1 for e in events if (isinstance(e, Request) and not e.notification) or isinstance(e, Fault)
    )
    return events


def _decode_one(value: Any, batch: Batch | None) -> Event:
    if not isinstance(value, dict):
        return Fault(None, PlatformError("invalid-request", "a request is an object"), batch)
    identity = value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, int | str | float | None):
        return Fault(
            None, PlatformError("invalid-request", "id: expected a string or number"), batch
        )
    if "method" not in value:
        return _decode_answer(value, identity, batch)
    method, params = value["method"], value.get("params", {})
    if value.get("jsonrpc", "2.0") != "2.0":
        return Fault(identity, PlatformError("invalid-request", 'jsonrpc: expected "2.0"'), batch)
    if not isinstance(method, str):
        return Fault(identity, PlatformError("invalid-request", "method: expected a string"), batch)
    if params is None:
        params = {}
    if isinstance(params, list):
        params = _by_name(method, params)
    if not isinstance(params, dict):
        error = PlatformError(
            "invalid", "params: expected an object", field="params", param="params"
        )
        return Fault(identity, error, batch)
    try:
        codec.attachments_from_json(params)
        body = codec.pack(params)
    except (RemoteError, OverflowError, TypeError, ValueError) as exc:
        return Fault(identity, PlatformError("invalid", str(exc), field="params"), batch)
    return Request(identity, method, body, notification="id" not in value, batch=batch)


def _by_name(method: str, params: list[Any]) -> Any:
    """Positional parameters (JSON-RPC 2.0 §4.2) get the names of the declared fields, in order."""
    declared = BY_NAME.get(method)
    if declared is None:
        return {}
    fields = [f.name for f in msgspec.structs.fields(declared.params)]
    own = [f for f in fields if f not in ("timeout", "deadline", "trace")]
    return dict(zip(own, params, strict=False)) if len(params) <= len(own) else None


def _decode_answer(value: dict[Any, Any], identity: RequestId, batch: Batch | None) -> Event:
    if "error" in value:
        return Failure(identity, PlatformError.from_rpc(value["error"]))
    if "result" in value:
        try:
            return Reply(identity, codec.pack(codec.attachments_from_json(value["result"])))
        except (RemoteError, OverflowError, TypeError, ValueError) as exc:
            return Failure(identity, PlatformError("failed", f"the answer is malformed: {exc}"))
    error = PlatformError("invalid-request", "neither method nor result nor error is there")
    return Fault(identity, error, batch)


def request_value(identity: RequestId, method: str, params: bytes) -> dict[str, Any]:
    value = {"jsonrpc": "2.0", "method": method, "params": codec.unpack_own(params)}
    if identity is not None:
        value["id"] = identity
    return value


def reply_value(identity: RequestId, result: bytes) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "result": codec.unpack_own(result)}


def failure_value(identity: RequestId, error: PlatformError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": error.to_rpc()}
