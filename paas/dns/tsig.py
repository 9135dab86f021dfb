"""Signed requests and answers by shared keys (RFC 8945), for transfers and notices.  Pure.

    digest = HMAC(key, [length · MAC before] · message without its TSIG · variables)

Only HMAC-SHA256 (RFC 8945 §6: must be known; weaker ones are not offered).  A MAC counts whole, and
is compared in constant time.  Of a transfer's many messages each is signed, over the MAC of the one
before.  Times are seconds since the Unix epoch; the replay of an old message fails by its time, one
within the fudge only repeats what may be read anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from paas.base.errors import invalid
from paas.dns import limits, names, records, wire
from paas.dns.names import Labels
from paas.dns.wire import SignedBy

ALGORITHM: Labels = (b"hmac-sha256",)
_WIRE_ALGORITHM = names.wire(ALGORITHM)
_MAC_BYTES = 32


class Unsigned(Exception):
    """What is wrong with a signature: the error of RFC 8945 §5.2."""

    def __init__(self, error: int) -> None:
        super().__init__(f"TSIG error {error}")
        self.error = error


@dataclass(frozen=True, slots=True)
class Signature:
    """A request's signature that was found good: what its answer is signed with, and over."""

    key: Labels
    secret: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Fields:
    """The data of a TSIG record."""

    algorithm: Labels
    time_s: int
    fudge_s: int
    mac: bytes
    number: int
    error: int
    other: bytes


def parse_fields(data: bytes) -> Fields:
    """Raises ValueError for what is no TSIG."""
    try:
        algorithm, at = records.read_name(data)
        high, low, fudge_s, size = struct.unpack_from("!HIHH", data, at)
        at += 10
        mac = data[at : at + size]
        number, error, length = struct.unpack_from("!HHH", data, at + size)
        other = data[at + size + 6 :]
    except (struct.error, IndexError) as exc:
        raise ValueError("no TSIG") from exc
    if len(mac) != size or len(other) != length:
        raise ValueError("no TSIG")
    lower = tuple(label.lower() for label in algorithm)
    return Fields(lower, high << 32 | low, fudge_s, mac, number, error, other)


def verify(
    data: bytes, signed: SignedBy, secrets: Mapping[Labels, bytes], now_s: int, before: bytes = b""
) -> Signature:
    """Is this message what one of the keys' holders sent?  Raises `Unsigned`.

    `before`: the MAC of the request, for its answer.
    """
    try:
        fields = parse_fields(signed.data)
    except ValueError:
        raise Unsigned(wire.BADSIG) from None
    secret = secrets.get(signed.key)
    if secret is None or fields.algorithm != ALGORITHM:
        raise Unsigned(wire.BADKEY)
    number = fields.number.to_bytes(2, "big")
    counts = data[4:10] + (signed.additional - 1).to_bytes(2, "big")
    body = number + data[2:4] + counts + data[12 : signed.at]
    variables = _variables(signed.key, fields)
    expected = hmac.digest(secret, _sized(before) + body + variables, hashlib.sha256)
    if not hmac.compare_digest(expected, fields.mac):
        raise Unsigned(wire.BADSIG)
    if abs(now_s - fields.time_s) > min(fields.fudge_s, limits.TSIG_FUDGE_S):
        raise Unsigned(wire.BADTIME)
    return Signature(signed.key, secret, fields.mac)


def _variables(key: Labels, fields: Fields) -> bytes:
    return (
        names.wire(key)
        + struct.pack("!HI", records.CLASS_ANY, 0)
        + names.wire(fields.algorithm)
        + _times(fields)
        + struct.pack("!HH", fields.error, len(fields.other))
        + fields.other
    )


def _times(fields: Fields) -> bytes:
    return struct.pack("!HIH", fields.time_s >> 32, fields.time_s & 0xFFFF_FFFF, fields.fudge_s)


def _sized(mac: bytes) -> bytes:
    return len(mac).to_bytes(2, "big") + mac if mac else b""


class Signer:
    """Signs what belongs to one request: its answer, or the messages of a transfer in turn."""

    def __init__(self, key: Labels, secret: bytes, before: bytes = b"") -> None:
        self._key = key
        self._secret = secret
        self._before = before
        self._first = True

    def sign(self, message: bytes, now_s: int) -> bytes:
        """The message with its TSIG at the end.  The first one answers the request; those after it
        are signed over times only (RFC 8945 §5.3.1)."""
        number = int.from_bytes(message[:2], "big")
        plain = Fields(ALGORITHM, now_s, limits.TSIG_FUDGE_S, b"", number, 0, b"")
        variables = _variables(self._key, plain) if self._first else _times(plain)
        mac = hmac.digest(self._secret, _sized(self._before) + message + variables, hashlib.sha256)
        self._before, self._first = mac, False
        return _with_record(message, self._key, _data(plain, mac))


def refused(answer: bytes, key: Labels, number: int, error: int, now_s: int) -> bytes:
    """The answer to a request whose signature is not good: unsigned, with the reason."""
    other = struct.pack("!HI", now_s >> 32, now_s & 0xFFFF_FFFF) if error == wire.BADTIME else b""
    fields = Fields(ALGORITHM, now_s, limits.TSIG_FUDGE_S, b"", number, error, other)
    return _with_record(answer, key, _data(fields, b""))


def _data(fields: Fields, mac: bytes) -> bytes:
    return (
        _WIRE_ALGORITHM
        + _times(fields)
        + struct.pack("!H", len(mac))
        + mac
        + struct.pack("!HHH", fields.number, fields.error, len(fields.other))
        + fields.other
    )


def _with_record(message: bytes, key: Labels, data: bytes) -> bytes:
    count = int.from_bytes(message[10:12], "big") + 1
    fixed = struct.pack("!HHIH", records.TSIG, records.CLASS_ANY, 0, len(data))
    head = message[:10] + count.to_bytes(2, "big")
    return head + message[12:] + names.wire(key) + fixed + data


def parse_keys(text: str) -> dict[Labels, bytes]:
    """Keys from a file: a line for each, `NAME BASE64`, `#` begins a comment.  Raises `invalid`."""
    found: dict[Labels, bytes] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            name, secret = words
            found[names.parse(name, "keys")] = base64.b64decode(secret, validate=True)
        except (ValueError, binascii.Error):
            raise invalid("keys", "lines of NAME BASE64") from None
    if len(found) > limits.TSIG_KEYS_MAX:
        raise invalid("keys", f"at most {limits.TSIG_KEYS_MAX} keys")
    if any(len(secret) < limits.TSIG_KEY_BYTES_MIN for secret in found.values()):
        raise invalid("keys", f"secrets of at least {limits.TSIG_KEY_BYTES_MIN} bytes")
    return found
