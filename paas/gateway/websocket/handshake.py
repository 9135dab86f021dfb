"""Whether a request opens a WebSocket, and the answer that does.

Source: RFC 6455 §4.1, §4.2; RFC 9110 §7.8 (Upgrade).
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from paas.gateway.http.head import Headers, RequestHead
from paas.gateway.http.problem import Problem

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def check(head: RequestHead) -> str:
    """The key of the handshake.  Raises Problem (400, 426)."""
    if head.method != "GET" or head.version != "1.1" or head.length:
        raise Problem(400, "a WebSocket begins with a GET without a body, in HTTP/1.1")
    if _only(head, "sec-websocket-version") != "13":
        told = [("sec-websocket-version", "13")]
        raise Problem(426, "the version of WebSocket spoken here is 13", told)
    key = _only(head, "sec-websocket-key")
    try:
        good = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        good = False
    if not good:
        raise Problem(400, "sec-websocket-key is no 16 bytes in base64")
    return key


def _only(head: RequestHead, name: str) -> str:
    values = [value for known, value in head.headers if known == name]
    if len(values) != 1:
        raise Problem(400, f"the header {name} appears {len(values)} times, not once")
    return values[0]


def accept(key: str) -> str:
    """What proves that the handshake was understood."""
    return base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()


def protocols(head: RequestHead) -> list[str]:
    """The subprotocols that the browser offers."""
    values = [value for name, value in head.headers if name == "sec-websocket-protocol"]
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def accepted(key: str, protocol: str = "") -> Headers:
    """The fields of the 101 that we say ourselves."""
    headers = [("upgrade", "websocket"), ("connection", "Upgrade")]
    headers.append(("sec-websocket-accept", accept(key)))
    if protocol:
        headers.append(("sec-websocket-protocol", protocol))
    return headers
