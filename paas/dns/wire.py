"""Questions as they arrive, read strictly.  Pure; every byte is a stranger's.

    header (12 bytes) · one question · OPT (RFC 6891) and TSIG (RFC 8945) among the rest

What is read here is a question, a notice or a transfer; nobody sends us records to believe.  Hence
no name is ever resolved through pointers: in the question a pointer is an error (there is nothing
before it to point at), elsewhere a name is only skipped, where a pointer ends it.  So no message
can make the reader go round in circles or take longer than its length.

`Refused` carries the answer's code; None means that no answer is due: a message that is itself an
answer, or has no whole header, could make two servers speak to each other for ever.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from paas.dns import limits, records
from paas.dns.names import Labels

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
NOTAUTH, BADVERS, BADSIG, BADKEY, BADTIME = 9, 16, 16, 17, 18

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
QUERY, NOTIFY = 0, 4
DO = 0x8000

CODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    9: "NOTAUTH",
    16: "BADVERS",
}

_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")


class Refused(Exception):
    """The message is answered with this code and nothing else."""

    def __init__(self, code: int, message: Message | None = None) -> None:
        super().__init__(CODES.get(code, str(code)))
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Edns:
    """What OPT says (RFC 6891 §6.1)."""

    size: int
    version: int
    secure: bool
    """DO: signatures are wanted."""


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Where the TSIG record of a message begins, and what is in it."""

    at: int
    key: Labels
    data: bytes
    additional: int
    """How many additional records there are, this one included."""


@dataclass(frozen=True, slots=True)
class Message:
    """A question that could be read."""

    number: int
    flags: int
    question: bytes
    """Its bytes, with the case that it was asked in."""
    labels: Labels
    """The name in lower case."""
    kind: int
    family: int
    edns: Edns | None = None
    signed: SignedBy | None = None
    serial: int | None = None
    """What a secondary has already (the SOA of an IXFR, RFC 1995 §3)."""

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15


def read(data: bytes) -> Message | None:
    """Raises `Refused`; see the module's text."""
    if len(data) < limits.HEADER_BYTES:
        return None
    number, flags, *counts = _HEADER.unpack_from(data)
    if flags & QR:
        return None
    if counts[0] != 1:
        raise Refused(FORMERR)
    labels, at = _question_name(data)
    if at + 4 > len(data):
        raise Refused(FORMERR)
    kind, family = struct.unpack_from("!HH", data, at)
    at += 4
    message = Message(number, flags, data[limits.HEADER_BYTES : at], labels, kind, family)
    if message.opcode not in (QUERY, NOTIFY):
        raise Refused(NOTIMP, message)
    if not any(counts[1:]):
        if at != len(data):
            raise Refused(FORMERR, message)
        return message
    edns, signed, serial = _rest(data, at, counts, message)
    return Message(
        *(number, flags, message.question, labels, kind, family),
        edns=edns,
        signed=signed,
        serial=serial,
    )


def _question_name(data: bytes) -> tuple[Labels, int]:
    labels, at, end = [], limits.HEADER_BYTES, len(data)
    while True:
        if at >= end:
            raise Refused(FORMERR)
        length = data[at]
        at += 1
        if not length:
            break
        if length > limits.LABEL_BYTES_MAX or at + length > end:
            raise Refused(FORMERR)
        labels.append(data[at : at + length].lower())
        at += length
    if at - limits.HEADER_BYTES > limits.NAME_BYTES_MAX:
        raise Refused(FORMERR)
    return tuple(labels), at


def _rest(
    data: bytes, at: int, counts: list[int], message: Message
) -> tuple[Edns | None, SignedBy | None, int | None]:
    """The records behind the question: all must be whole, and end where the message ends."""
    edns: Edns | None = None
    signed: SignedBy | None = None
    serial: int | None = None
    total, additional = sum(counts[1:]), counts[3]
    if total * 11 > len(data):
        raise Refused(FORMERR, message)
    for number in range(total):
        begin = at
        key, at = _skipped_name(data, at, message)
        if at + _FIXED.size > len(data):
            raise Refused(FORMERR, message)
        kind, size, ttl, length = _FIXED.unpack_from(data, at)
        at += _FIXED.size
        if at + length > len(data):
            raise Refused(FORMERR, message)
        if number >= total - additional and kind == records.OPT:
            if edns is not None or key:
                raise Refused(FORMERR, message)
            _check_options(data, at, length, message)
            edns = Edns(size, ttl >> 16 & 255, bool(ttl & DO))
        elif kind == records.TSIG:
            if number != total - 1 or not additional:  # RFC 8945 §5.1: the last one
                raise Refused(FORMERR, message)
            signed = SignedBy(begin, key, data[at : at + length], additional)
        elif kind == records.SOA and message.kind == records.IXFR and length >= 20:
            serial = int.from_bytes(data[at + length - 20 : at + length - 16], "big")
        at += length
    if at != len(data):
        raise Refused(FORMERR, message)
    return edns, signed, serial


def _skipped_name(data: bytes, at: int, message: Message) -> tuple[Labels, int]:
    """Behind a name; its labels as far as they stand here, in lower case."""
    labels: list[bytes] = []
    begin = at
    while True:
        if at >= len(data) or at - begin > limits.NAME_BYTES_MAX:
            raise Refused(FORMERR, message)
        length = data[at]
        if length >= 0xC0:
            if at + 2 > len(data):
                raise Refused(FORMERR, message)
            return (*labels, b"\xc0"), at + 2  # never the root, nor a key's name
        at += 1
        if not length:
            return tuple(labels), at
        if length > limits.LABEL_BYTES_MAX:
            raise Refused(FORMERR, message)
        labels.append(data[at : at + length].lower())
        at += length


def _check_options(data: bytes, at: int, length: int, message: Message) -> None:
    """Options are (code, length, data) up to the end (RFC 6891 §6.1.2); none is used."""
    end = at + length
    while at < end:
        if at + 4 > end:
            raise Refused(FORMERR, message)
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    if at != end:
        raise Refused(FORMERR, message)


def refusal(data: bytes, refused: Refused) -> bytes:
    """The answer to what could not be read, or is not answered: the header, and the question if
    that was whole.  Never longer than what came, but for an OPT of 11 bytes."""
    message = refused.message
    flags = QR | (struct.unpack_from("!H", data, 2)[0] & (0x7800 | RD))
    number = int.from_bytes(data[:2], "big")
    if message is None:
        return _HEADER.pack(number, flags | refused.code & 15, 0, 0, 0, 0)
    opt = b"" if message.edns is None else opt_record(refused.code >> 4)
    header = _HEADER.pack(number, flags | refused.code & 15, 1, 0, 0, int(bool(opt)))
    return header + message.question + opt


def opt_record(high: int = 0, secure: bool = False) -> bytes:
    """Ours: the root, OPT, our size, the high bits of the code, version 0, DO."""
    return b"\0" + _FIXED.pack(
        records.OPT, limits.UDP_BYTES_MAX, high << 24 | (DO if secure else 0), 0
    )


def header(number: int, flags: int, counts: tuple[int, int, int, int]) -> bytes:
    return _HEADER.pack(number, flags, *counts)


def record(owner: bytes, kind: int, ttl_s: int, data: bytes) -> bytes:
    """One record; `owner` is a name in bytes, or a pointer."""
    return owner + _FIXED.pack(kind, records.IN, ttl_s, len(data)) + data


def question(labels_wire: bytes, kind: int, family: int = records.IN) -> bytes:
    return labels_wire + struct.pack("!HH", kind, family)
