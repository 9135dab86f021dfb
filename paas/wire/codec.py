"""Values to bytes and back, with limits; the one place that knows msgpack.

Inside the platform every message body is msgpack.  JSON exists at the edges only (component
channel, operators, HTTP) and is translated there, once: binary data, which JSON lacks, travels as
base64 in the `data` member of attachments (component API, "Transports").

Typed decoding (messages with declared fields) is msgspec's, which validates while it decodes;
untyped decoding of what strangers sent goes through `unpack` and `from_json`, which bound the
nesting, since a deeply nested value costs its receiver far more than its sender.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgpack
import msgspec

from paas.base.errors import RemoteError
from paas.base.limits import NESTING_MAX

_json_encoder = msgspec.json.Encoder()
_json_decoder = msgspec.json.Decoder()
_msgpack_encoder = msgspec.msgpack.Encoder()

pack = _msgpack_encoder.encode
to_json = _json_encoder.encode


def unpack(body: bytes) -> Any:
    """Decode msgpack from a stranger.  Raises RemoteError on garbage or too deep nesting."""
    try:
        value = msgpack.unpackb(
            body, raw=False, strict_map_key=False, ext_hook=_no_extension, timestamp=0
        )
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError) as exc:
        raise RemoteError(f"not msgpack: {exc}") from None
    check_nesting(value)
    return value


def unpack_own(body: bytes) -> Any:
    """Decode msgpack that one of our own processes wrote: no limits are checked again."""
    return msgspec.msgpack.decode(body)


def from_json(line: bytes) -> Any:
    """Decode JSON from a stranger.  Raises RemoteError on garbage or too deep nesting."""
    try:
        value = _json_decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise RemoteError(f"not JSON: {exc}") from None
    if line.count(b"[") + line.count(b"{") > NESTING_MAX:
        check_nesting(value)
    return value


def check_nesting(value: Any, limit: int = NESTING_MAX) -> None:
    """Raise RemoteError when arrays and maps are nested more than `limit` deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RemoteError(f"nested more than {limit} deep")


def attachments_from_json(value: Any) -> Any:
    """Turn the base64 `data` of top-level `attachments` into bytes; raises RemoteError."""
    if isinstance(value, dict) and isinstance(value.get("attachments"), list):
        for item in value["attachments"]:
            if isinstance(item, dict) and isinstance(item.get("data"), str):
                try:
                    item["data"] = base64.b64decode(item["data"], validate=True)
                except (binascii.Error, ValueError):
                    raise RemoteError("attachments: data is not base64") from None
    return value


def _no_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} has no meaning here")
