"""Asking other name servers, and judging what comes back.  Pure.

Whoever can send datagrams can send "answers".  One is believed only if

  - it comes to the port that asked, from the address that was asked     (the socket's part)
  - it has the number of the question, 16 bits by chance
  - it repeats the question, with upper and lower case as it was asked, by chance too: some bits
    more for each letter ("0x20", draft-vixie-dnsext-dns0x20)
  - it is one that can be read to its end.

Of it counts only what answers the question: the records of the name that was asked, or of the name
that a CNAME in it leads to.  All else ("by the way, the address of the bank is …") is left: the
bailiwick of an answer is its question.  Numbers that do not fit are counted, and after some of
them the question goes by TCP (client.py), where nobody can guess.

Names may be compressed here: a pointer must lead backwards, each further than the one before, and
the name stay within 255 bytes, so every name ends.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from paas.dns import limits, names, records, wire
from paas.dns.cache import Found, Told
from paas.dns.names import Labels

_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")


class Heard(enum.Enum):
    """What a datagram is, to who waits for an answer."""

    ANSWER = enum.auto()
    OTHER = enum.auto()
    """No answer to this question: go on waiting."""
    CASE = enum.auto()
    """All fits but upper and lower case: a server that changes it, or a guess."""
    TRUNCATED = enum.auto()
    """Ask by TCP."""
    FAILED = enum.auto()
    """The server cannot or will not: ask another one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way."""

    number: int
    question: bytes
    labels: Labels
    kind: int
    message: bytes


class Unreadable(Exception):
    """Bytes that are no message."""


def ask(labels: Labels, kind: int, *, number: int, coins: int = 0) -> Asked:
    """`coins`: random bits, one for each letter that becomes upper case; 0: none does."""
    spelled = bytearray(names.wire(labels))
    at = 0
    while spelled[at]:
        length = spelled[at]
        for i in range(at + 1, at + 1 + length):
            if 0x61 <= spelled[i] <= 0x7A:
                if coins & 1:
                    spelled[i] -= 0x20
                coins >>= 1
        at += 1 + length
    question = wire.question(bytes(spelled), kind)
    head = wire.header(number, wire.RD, (1, 0, 0, 1))
    return Asked(number, question, labels, kind, head + question + wire.opt_record())


def judge(asked: Asked, data: bytes, *, exact: bool = True) -> tuple[Heard, Told | None]:
    """What this datagram is; with what it tells, if it is the answer.

    `exact`: upper and lower case must be as they were asked.
    """
    if len(data) < limits.HEADER_BYTES:
        return Heard.OTHER, None
    number, flags, *counts = _HEADER.unpack_from(data)
    end = limits.HEADER_BYTES + len(asked.question)
    said = data[limits.HEADER_BYTES : end]
    opcode = flags >> 11 & 15
    if number != asked.number or not flags & wire.QR or opcode or counts[0] != 1:
        return Heard.OTHER, None
    if said.lower() != asked.question.lower():
        return Heard.OTHER, None
    if exact and said != asked.question:
        return Heard.CASE, None
    code = flags & 15
    if code not in (wire.NOERROR, wire.NXDOMAIN):
        return Heard.FAILED, None
    if flags & wire.TC:
        return Heard.TRUNCATED, None
    try:
        return Heard.ANSWER, _told(asked, data, end, code, counts)
    except (Unreadable, struct.error, IndexError):
        return Heard.OTHER, None


def _told(asked: Asked, data: bytes, at: int, code: int, counts: list[int]) -> Told:
    answers: dict[tuple[Labels, int], list[Found]] = {}
    for _ in range(counts[1]):
        found, at = _record(data, at)
        if found is not None:
            answers.setdefault((found.owner, found.kind), []).append(found)
    chain: list[Found] = []
    name = asked.labels
    for _ in range(limits.CNAMES_MAX):
        if (name, asked.kind) in answers:
            chain += answers[name, asked.kind]
            break
        led = answers.get((name, records.CNAME))
        if not led:
            break
        chain.append(led[0])
        name = tuple(label.lower() for label in records.read_name(led[0].data)[0])
    kept = tuple(chain[: limits.CACHE_RECORDS_MAX])
    if kept and kept[-1].kind == asked.kind:
        ttl_s = min(found.ttl_s for found in kept)
    else:
        ttl_s = _negative_s(data, at, counts[2], name)
        ttl_s = min([ttl_s, *(found.ttl_s for found in kept)])
    ttl_s = min(max(ttl_s, limits.CACHE_TTL_S_MIN), limits.CACHE_TTL_S_MAX)
    return Told(code, kept, ttl_s)


def _negative_s(data: bytes, at: int, count: int, name: Labels) -> int:
    """How long "there is none" may be kept: by the SOA of a zone that the name is in (RFC 2308)."""
    for _ in range(count):
        found, at = _record(data, at)
        if found is not None and found.kind == records.SOA:
            if names.below(name, found.owner) is None:
                continue
            minimum = int.from_bytes(found.data[-4:], "big")
            return min(found.ttl_s, minimum, limits.CACHE_NEGATIVE_S_MAX)
    return limits.CACHE_TTL_S_MIN


def _record(data: bytes, at: int) -> tuple[Found | None, int]:
    """One record, its names spelled out; None for what we do not carry on."""
    owner, at = read_name(data, at)
    kind, family, ttl_s, length = _FIXED.unpack_from(data, at)
    at += _FIXED.size
    end = at + length
    if end > len(data):
        raise Unreadable
    ttl_s = 0 if ttl_s >= 1 << 31 else min(ttl_s, limits.CACHE_TTL_S_MAX)  # RFC 2181 §8
    if family != records.IN:
        return None, end
    plain = _plain(data, at, end, kind)
    return (None if plain is None else Found(owner, kind, ttl_s, plain)), end


def _plain(data: bytes, at: int, end: int, kind: int) -> bytes | None:
    """The data of a record without compression; None for kinds that nobody should send."""
    if kind in (records.CNAME, records.NS, records.PTR):
        return _names(data, at, end, 0, 1)
    if kind == records.MX:
        return _names(data, at, end, 2, 1)
    if kind == records.SRV:
        return _names(data, at, end, 6, 1)
    if kind == records.SOA:
        return _names(data, at, end, 0, 2, 20)
    sizes = {records.A: 4, records.AAAA: 16}
    if kind in sizes and end - at != sizes[kind]:
        raise Unreadable
    if kind in (records.OPT, records.TSIG):
        return None
    return data[at:end]


def _names(data: bytes, at: int, end: int, before: int, count: int, after: int = 0) -> bytes:
    """Data that is fixed bytes, names, fixed bytes."""
    found = data[at : at + before]
    at += before
    for _ in range(count):
        labels, at = read_name(data, at)
        found += names.wire(labels)
    if at + after != end:
        raise Unreadable
    return found + data[at:end]


def read_name(data: bytes, at: int) -> tuple[Labels, int]:
    """A name, perhaps compressed, in lower case, and where it ends in place (RFC 1035 §4.1.4)."""
    labels: list[bytes] = []
    size, end, lowest = 0, -1, at
    while True:
        length = data[at]
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[at + 1]
            if end < 0:
                end = at + 2
            if target >= lowest:
                raise Unreadable
            at = lowest = target
            continue
        if length > limits.LABEL_BYTES_MAX:
            raise Unreadable
        at += 1
        if not length:
            return tuple(labels), (at if end < 0 else end)
        size += length + 1
        if size >= limits.NAME_BYTES_MAX or at + length > len(data):
            raise Unreadable
        labels.append(data[at : at + length].lower())
        at += length
